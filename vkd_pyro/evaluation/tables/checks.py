"""Posterior predictive checks of label vectors: how many findings a study has, and which go together.

Replicated label vectors of the same studies, unknown labels masked alike, beside those that were observed (Gelman, Meng
& Stern 1996). Jointly, the findings of a study share their draw of z; as independent marginals, each is drawn by its
own probability. Both have the same probability of each finding, so what differs is what z gives.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vkd_pyro.data.labels.findings import abnormalities
from vkd_pyro.evaluation.evaluation import Array, Evaluation
from vkd_pyro.evaluation.replicas import NUM_REPLICAS, unpack
from vkd_pyro.metrics import UNDEFINED, Interval

VERSIONS = ("jointly", "independent")
TAILS = (0.025, 0.975)

DEPENDENT = "labels depend on each other given z, which draws of their probabilities would leave out"
NONE_KNOWN = "no label of an abnormality is known"
NO_PAIR = "no study has both labels known"


@dataclass(frozen=True)
class PredictiveChecks:
    """Label vectors of N studies beside R replicas. A p-value is two-sided: how often replicas are as far out, or
    farther; few studies make it large whatever the model. NaN is undefined, and `undefined` says why.

    Attributes:
        statistics: a row a statistic of all studies: "observed"; then, of each of `VERSIONS`, the mean over replicas
            with the interval that holds 95 % of them, and "p, jointly", "p, independent".
        counts: a row a number of findings, the same columns: the share of the studies that have so many.
        pairs: a row a pair of findings, the same columns: the number of studies that have both, of those where both
            are known.
        outside: share of the pairs that are outside of their intervals, by version; 0.05 is to be expected.
        studies: N, those with a known label of an abnormality.
        undefined: why all is NaN; "" where it is not.
    """

    statistics: pd.DataFrame
    counts: pd.DataFrame
    pairs: pd.DataFrame
    outside: dict[str, float]
    studies: int
    undefined: str = ""


def predictive_checks(evaluation: Evaluation, seed: int = 0) -> PredictiveChecks | None:
    """The checks of the labels that are an abnormality; None where no replicas were drawn.

    Args: an evaluation with `replicas`; seed of the draws that are independent.
    """
    e = evaluation
    if e.replicas is None:
        return None
    columns = abnormalities(e.findings)
    names = [e.findings[k] for k in columns]
    labels = e.labels[:, columns]
    some = ~np.isnan(labels).all(axis=1)
    why = NONE_KNOWN if not some.any() else DEPENDENT if np.isnan(e.replicas).any() else ""
    if why:
        return _undefined(names, int(some.sum()), why)
    known, observed = ~np.isnan(labels[some]), labels[some] == 1
    jointly = unpack(e.replicas[some], len(e.findings))[..., columns] & known
    p = e.probabilities[some][:, columns]
    independent = (np.random.default_rng(seed % 2**63).random((NUM_REPLICAS, *p.shape)) < p) & known
    replicas = dict(zip(VERSIONS, (jointly, independent), strict=True))
    pairs = _compared(_pair_names(names), _pairs(observed[None])[0], {n: _pairs(y) for n, y in replicas.items()})
    for name in pairs.index[_pairs(known[None])[0] == 0]:
        pairs.loc[name] = _empty([name]).iloc[0]
    counts = {n: y.sum(axis=-1) for n, y in replicas.items()}
    return PredictiveChecks(
        statistics=_compared(
            list(STATISTICS),
            _statistics(observed.sum(axis=-1)[None])[0],
            {n: _statistics(c) for n, c in counts.items()},
        ),
        counts=_compared(
            [str(number) for number in range(len(names) + 1)],
            _shares(observed.sum(axis=-1)[None], len(names))[0],
            {n: _shares(c, len(names)) for n, c in counts.items()},
        ),
        pairs=pairs,
        outside={name: _outside(pairs, name) for name in VERSIONS},
        studies=int(some.sum()),
    )


STATISTICS = (
    "findings a study, mean",
    "findings a study, variance",
    "studies without any",
    "studies with several",
    "pairs of findings in a study, mean",
)
"""Of the numbers of findings of all studies; pairs are those that occur together."""


def _statistics(counts: NDArray[np.int64]) -> Array:
    """`STATISTICS` of each replica. Args: int [R, N]. Returns: [R, 5]."""
    means = [(counts == 0).mean(-1), (counts > 1).mean(-1), (counts * (counts - 1) / 2).mean(-1)]
    return np.stack([counts.mean(-1), counts.var(-1), *means], axis=-1)


def _shares(counts: NDArray[np.int64], most: int) -> Array:
    """Shares of studies with 0..most findings, [R, most + 1]."""
    return np.stack([(counts == number).mean(-1) for number in range(most + 1)], axis=-1)


def _pairs(labels: NDArray[np.bool_]) -> Array:
    """Studies that have both findings of each pair. Args: bool [R, N, K]. Returns: [R, K (K - 1) / 2]."""
    first, second = np.triu_indices(labels.shape[-1], 1)
    y = labels.astype(np.float32)
    return np.stack([(one.T @ one)[first, second] for one in y]).astype(float)


def _compared(names: list[str], observed: Array, replicas: dict[str, Array]) -> pd.DataFrame:
    """A row a name: what was observed, and what each version replicates. Args: [Q]; [R, Q] each."""
    columns: dict[str, object] = {"observed": observed}
    for version, values in replicas.items():
        low, high = np.quantile(values, TAILS, axis=0)
        bounds = zip(values.mean(axis=0), low, high, strict=True)
        intervals = [Interval(float(mean), float(one), float(other)) for mean, one, other in bounds]
        columns[version] = pd.Series(intervals, names, object)
        columns[f"p, {version}"] = _p_values(observed, values)
    return pd.DataFrame(columns, index=pd.Index(names, name="statistic"))


def _p_values(observed: Array, replicas: Array) -> Array:
    """Twice the smaller tail of the observed among R replicas and itself, ties counted half; [Q] in (0, 1]."""
    below = (replicas < observed).sum(axis=0) + ((replicas == observed).sum(axis=0) + 1) / 2
    lower = below / (len(replicas) + 1)
    return np.minimum(1.0, 2 * np.minimum(lower, 1 - lower))


def _outside(pairs: pd.DataFrame, version: str) -> float:
    """The share of the defined pairs that are outside of their intervals; NaN without any."""
    rows = [
        not interval.low <= observed <= interval.high
        for observed, interval in zip(pairs["observed"], pairs[version], strict=True)
        if not np.isnan(observed)
    ]
    return float(np.mean(rows)) if rows else float("nan")


def _pair_names(names: list[str]) -> list[str]:
    return [f"{one} & {other}" for one, other in combinations(names, 2)]


def _empty(names: list[str]) -> pd.DataFrame:
    """Undefined rows."""
    undefined: dict[str, object] = {"observed": np.nan}
    for version in VERSIONS:
        undefined |= {version: UNDEFINED, f"p, {version}": np.nan}
    return pd.DataFrame([undefined] * len(names), index=pd.Index(names, name="statistic"), columns=list(undefined))


def _undefined(names: list[str], studies: int, why: str) -> PredictiveChecks:
    pairs, numbers = _pair_names(names), [str(number) for number in range(len(names) + 1)]
    nothing = dict.fromkeys(VERSIONS, float("nan"))
    return PredictiveChecks(_empty(list(STATISTICS)), _empty(numbers), _empty(pairs), nothing, studies, why)
