"""Samples of the posterior predictive as netCDF for ArviZ, in the groups of `utils.inference_groups`.

    posterior             probability [chain, draw, study, finding]; z [chain, draw, study, latent]
    posterior_predictive  y [chain, draw, study, finding]
    observed_data         y [study, finding], with labels
    log_likelihood        y [chain, draw, study, finding], with labels

Draws are independent, and so are networks: what shows distributions makes sense (`plot_ppc`, of labels best with
`kind="cumulative"`, and `plot_forest` of the posterior, a few studies at a time), and so does what weighs likelihoods.
What looks for convergence does not.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import h5netcdf
import h5py
import numpy as np
from numpy.typing import ArrayLike

from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import written
from vkd_pyro.utils.inference_groups import Groups, dims_of, groups_of

SAMPLES, OBSERVED = "posterior", "observed_data"
CHUNK = 2**15
"""Numbers of a chunk of the file, about: 128 KiB, so that a small file stays small."""


class SampleWriter:
    """Writes samples to netCDF batch by batch; memory does not grow with the number of studies.

        with SampleWriter(path, findings, num_networks, num_samples) as writer:
            writer.append(samples, study_ids, labels, z)

    The file is there when the block has ended without an error, not before; only its owner may read it, since it names
    studies. `arviz.from_netcdf(path)` or `xarray.open_datatree(path)` opens it.

    Args:
        path: of the file; one that is there is replaced.
        findings: names of the K labels.
        num_networks: V, chains.
        num_samples: S, draws of z of each.
        seed: of the labels drawn.
    """

    def __init__(
        self, path: str | Path, findings: Sequence[str], num_networks: int, num_samples: int, seed: int = 0
    ) -> None:
        self.path, self.findings = Path(path), tuple(findings)
        self.shape = (num_networks, num_samples, None, len(self.findings))
        self.num_studies, self.seed = 0, seed
        self._open = ExitStack()

    def __enter__(self) -> "SampleWriter":
        with ExitStack() as stack:
            unfinished = stack.enter_context(written(self.path))
            self._file = stack.enter_context(h5netcdf.File(unfinished, "w", locking=False))  # it is locked
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def append(
        self,
        samples: ArrayLike,
        study_ids: Sequence[str],
        labels: ArrayLike | None = None,
        z: ArrayLike | None = None,
    ) -> None:
        """Adds n studies.

        Args: samples [V, S, n, K]; study_ids of the n studies; labels [n, K] and z [V, S, n, D], each for every batch
            or for none.

        Raises:
            UserError: the shapes do not fit, or labels or z are there for some batches only.
        """
        expected = (*self.shape[:2], len(study_ids), len(self.findings))
        samples, labels = _checked(samples, expected, labels)
        z = None if z is None else _checked_z(z, expected)
        if not self._file.groups:
            self._begin(groups_of(samples, z, labels))
        self._check_as_before("labels", labels is not None, OBSERVED in self._file.groups)
        self._check_as_before("z", z is not None, "z" in self._file[SAMPLES].variables)
        start, end = self.num_studies, self.num_studies + len(study_ids)
        for name, variables in groups_of(samples, z, labels, self.seed, start).items():
            group = self._file[name]
            group.resize_dimension("study", end)
            group["study"][start:end] = np.array(study_ids, dtype=object)
            for variable, array in variables.items():
                place = [slice(start, end) if dim == "study" else slice(None) for dim in dims_of(name, variable)]
                group[variable][tuple(place)] = array
        self.num_studies = end

    @staticmethod
    def _check_as_before(what: str, given: bool, before: bool) -> None:
        if given != before:
            found, others = ("some", "none") if given else ("none", "some")
            raise UserError(
                f"{what}: found {found} after batches with {others}; give them for every batch, or for none"
            )

    def _begin(self, groups: Groups) -> None:
        """The groups with empty variables of the shapes of a first batch, and the names of their coordinates."""
        text = h5py.string_dtype()
        for name, variables in groups.items():
            group = self._file.create_group(name)
            of_dims = {d: n for v, x in variables.items() for d, n in zip(dims_of(name, v), x.shape, strict=True)}
            group.dimensions = of_dims | {"study": None}
            for variable in variables:
                dims = dims_of(name, variable)
                a_study = np.prod([of_dims[dim] for dim in dims if dim != "study"], dtype=int)
                chunks = tuple(max(1, CHUNK // a_study) if dim == "study" else of_dims[dim] for dim in dims)
                group.create_variable(variable, dims, np.float32, chunks=chunks)
            for dim in of_dims.keys() & {"chain", "draw", "latent"}:
                group.create_variable(dim, (dim,), data=np.arange(of_dims[dim]))
            group.create_variable("study", ("study",), text, chunks=(1024,))
            group.create_variable("finding", ("finding",), data=np.array(self.findings, dtype=object), dtype=text)


def _checked_z(z: ArrayLike, expected: tuple[int | None, ...]) -> np.ndarray:
    z = np.asarray(z, np.float32)
    if z.ndim != 4 or z.shape[:3] != expected[:3]:
        sizes = ", ".join(map(str, expected[:3]))
        raise UserError(f"z: found shape {list(z.shape)}, expected [{sizes}, D]: networks, draws, studies, dimensions")
    return z


def _checked(
    samples: ArrayLike, expected: tuple[int | None, ...], labels: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Both as float32; `expected` is [V, S, N, K], where None is any."""
    samples = np.asarray(samples, np.float32)
    right = samples.ndim == 4 and all(
        size in (None, found) for size, found in zip(expected, samples.shape, strict=True)
    )
    if not right:
        names = [letter if size is None else str(size) for letter, size in zip("VSNK", expected, strict=True)]
        raise UserError(
            f"samples: found shape {list(samples.shape)}, expected [{', '.join(names)}]: networks, draws, studies, "
            "findings"
        )
    if labels is None:
        return samples, None
    labels = np.asarray(labels, np.float32)
    if labels.shape != samples.shape[2:]:
        raise UserError(
            f"labels: found shape {list(labels.shape)}, expected {list(samples.shape[2:])}: studies, findings"
        )
    return samples, labels
