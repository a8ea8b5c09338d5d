"""Whether a posterior is that of the program it is used with: by simulating what the program says.

    z ~ p(z),  x ~ p(x | z),  z^(1..L) ~ q(z | x):   z is one more draw of q(z | x) for every x
                                                      only where q(z | x) = p(z | x)

`simulation_based_calibration` takes any program and any posterior; `vkd_pyro.evaluation.simulated_guide` has those of a
method.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vkd_pyro import metrics
from vkd_pyro.utils.errors import UserError, check_count

AT_ONCE = 100
"""Simulations whose posterior is drawn at once."""

LEVEL = 0.95
"""Probability of the bands; of those of several quantities together."""

CREDIBILITIES = (0.5, 0.9)
MOST_LINES = 10
"""Quantities that are printed, those furthest from uniform first."""

COVERAGE = "expected coverage"

Simulate = Callable[[int], tuple[Any, Any]]
PosteriorDraws = Callable[[Any, int], Any]
Quantity = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class PosteriorCheck:
    """Ranks of N simulated z among L posterior draws each, and what they say.

    Attributes:
        quantities: names of the Q scalars that are ranked: the dimensions of z, and others.
        ranks: int [N, Q] in 0..L.
        distance_ranks: int [N] in 0..L, of the distances to random points: those of `metrics.distance_ranks`.
        num_draws: L.
        caveats: why the posterior need not be that of the program, a sentence each; none of a posterior that claims to.
    """

    quantities: tuple[str, ...]
    ranks: NDArray[np.int64]
    distance_ranks: NDArray[np.int64]
    num_draws: int
    caveats: tuple[str, ...] = ()

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a quantity, then expected coverage: p-value of uniform ranks, that of all Q quantities together
        (Bonferroni), shift and spread in standard errors (`metrics.RankShape`), and what draws are in words, or ""."""
        number, rows = len(self.quantities), {}
        columns = {name: self.ranks[:, k] for k, name in enumerate(self.quantities)} | {COVERAGE: self.distance_ranks}
        for name, found in columns.items():
            p = metrics.uniformity_p_value(found, self.num_draws)
            shape = metrics.rank_shape(found, self.num_draws)
            of_all = p if name == COVERAGE else min(1.0, number * p)
            words = "" if of_all >= 1 - LEVEL else shape.words
            if name == COVERAGE and words in ("too low", "too high"):
                words = "off the middle"  # a distance has no sign
            rows[name] = {"p": p, "p of all": of_all, "shift": shape.shift, "spread": shape.spread, "draws": words}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("quantity")

    @property
    def departs(self) -> bool:
        """Whether any quantity, or expected coverage, is outside of its band."""
        return bool((self.table["draws"] != "").any())

    def ecdf_differences(self) -> tuple[dict[str, NDArray[np.float64]], metrics.EcdfBand]:
        """ECDF less probability of each quantity, [G] each, and the band in which all of them are together, alike."""
        band = metrics.ecdf_band(len(self.ranks), self.num_draws, 1 - (1 - LEVEL) / len(self.quantities))
        found = {
            name: metrics.ecdf(self.ranks[:, k], self.num_draws)[1] - band.at for k, name in enumerate(self.quantities)
        }
        return found, metrics.EcdfBand(band.at, band.low - band.at, band.high - band.at, band.level)

    def coverage(self) -> tuple[NDArray[np.float64], metrics.EcdfBand]:
        """Expected coverage at each credibility, [G], and its band."""
        band = metrics.ecdf_band(len(self.distance_ranks), self.num_draws, LEVEL)
        return metrics.ecdf(self.distance_ranks, self.num_draws)[1], band

    def coverage_at(self, credibility: float) -> float:
        """The share of regions of this credibility that hold z."""
        return float((self.distance_ranks < credibility * (self.num_draws + 1)).mean())

    def summary(self) -> dict[str, Any]:
        """For JSON: what `table` has, coverages, the size of the check, what to beware of."""
        return {
            "simulations": len(self.ranks),
            "draws": self.num_draws,
            "departs": self.departs,
            "quantities": {str(name): dict(row) for name, row in self.table.iterrows()},
            "coverage": {f"{c:g}": self.coverage_at(c) for c in CREDIBILITIES},
            "caveats": list(self.caveats),
        }

    def __str__(self) -> str:
        """The numbers, and what they mean."""
        own = self.table.drop(index=COVERAGE).sort_values("p", kind="stable")
        out, number = int((own["draws"] != "").sum()), len(own)
        lines = [
            f"{len(self.ranks):,} simulations, {self.num_draws} posterior draws each",
            "",
            f"{'ranks of':<24}{'p':>10}{'shift':>9}{'spread':>9}  draws are",
        ]
        for name, row in own.head(MOST_LINES).iterrows():
            words = row["draws"] or "as they should be"
            lines.append(f"{name!s:<24}{_p(row['p']):>10}{row['shift']:>9.1f}{row['spread']:>9.1f}  {words}")
        if number > MOST_LINES:
            lines.append(f"and {number - MOST_LINES} more, nearer to uniform")
        held = ", ".join(f"{100 * c:g} % regions hold {self.coverage_at(c):.2f}" for c in CREDIBILITIES)
        last = self.table.iloc[-1]
        words = f": draws are {last['draws']}" if last["draws"] else ""
        lines += [
            "",
            f"{out} of {number} leave the band that holds all of them with a probability of {100 * LEVEL:g} %",
            f"expected coverage (TARP): {held}; p {_p(last['p'])}{words}",
            "",
            self.verdict,
            *(f"- {caveat}" for caveat in self.caveats),
        ]
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """What it means, in a sentence."""
        if not self.departs:
            return "Nothing here speaks against these draws being of the program's posterior."
        if not self.caveats:
            return "These draws are not of the program's posterior."
        return "These draws are not of the program's posterior, which need not be a fault:"


def simulation_based_calibration(
    simulate: Simulate,
    posterior_draws: PosteriorDraws,
    num_simulations: int = 500,
    num_draws: int = 99,
    quantities: Mapping[str, Quantity] | None = None,
    caveats: tuple[str, ...] = (),
    seed: int = 0,
) -> PosteriorCheck:
    """Ranks of z, drawn under a program with its data, among posterior draws given the data, and expected coverage.

    The posterior may be given any function of the data; then it is the posterior given that function which is checked.
    A posterior that ignores its data, the prior, passes on the dimensions of z: a quantity that depends on both, such
    as log p(x | z), tells it (Modrák et al. 2023, arXiv 2211.02383).

    Args:
        simulate: a number n -> z, float [n, D], and the data x that were drawn with it, of any kind.
        posterior_draws: x and a number L -> draws of q(z | x), float [L, n, D].
        num_simulations: N.
        num_draws: L; L + 1 ranks are possible.
        quantities: further scalars by name, of z, float [..., n, D], and what the posterior was given -> [..., n]. One
            that depends on anything else is not uniform.
        caveats: why the posterior need not be that of the program.
        seed: of ties and of the points that coverage is measured from; what is given draws from its own generator.

    Raises:
        UserError: shapes that do not go together, or draws that are not finite.
    """
    check_count("num_simulations", num_simulations, least=2)
    check_count("num_draws", num_draws)
    sizes = [min(AT_ONCE, num_simulations - start) for start in range(0, num_simulations, AT_ONCE)]
    simulated = [simulate(size) for size in sizes]
    z = np.concatenate([_checked(values, size) for (values, _), size in zip(simulated, sizes, strict=True)])
    points = metrics.reference_points(z, seed)
    more, found, distances = dict(quantities or {}), [], []
    for number, ((true, data), size) in enumerate(zip(simulated, sizes, strict=True)):
        drawn = posterior_draws(data, num_draws)
        own = seed + number
        rows = slice(number * AT_ONCE, number * AT_ONCE + size)
        of_z = metrics.ranks(z[rows], _array(drawn), own)
        others = [metrics.ranks(_array(f(true, data)), _array(f(drawn, data)), own) for f in more.values()]
        found.append(np.column_stack([of_z, *others]))
        distances.append(metrics.distance_ranks(z[rows], _array(drawn), points[rows], np.ptp(z, axis=0), own))
    names = (*(f"z[{d}]" for d in range(z.shape[1])), *more)
    return PosteriorCheck(names, np.concatenate(found), np.concatenate(distances), num_draws, caveats)


def _array(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, float)


def _checked(values: ArrayLike, size: int) -> NDArray[np.float64]:
    z = _array(values)
    if z.ndim != 2 or len(z) != size:
        raise UserError(f"simulate: found z of shape {list(z.shape)}, expected [{size}, D]")
    return z


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
