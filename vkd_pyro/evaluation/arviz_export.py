"""Samples of the posterior predictive for ArviZ: groups `posterior_predictive` and, with labels, `observed_data`.

    probability [chain, draw, study, finding], p(y_k = 1 | x_I, z^(s)); a chain is a network, a draw a sample of z
    label [study, finding], 1, 0, NaN unknown

Draws are independent, and so are networks: what shows distributions makes sense (`plot_forest`; `plot_posterior` in
ArviZ 0.2x, `plot_dist` and `plot_ridge` in 1.x), a few studies at a time. What looks for convergence does not.
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

SAMPLES, OBSERVED = "posterior_predictive", "observed_data"
PROBABILITY, LABEL = "probability", "label"
SAMPLE_DIMS, LABEL_DIMS = ("chain", "draw", "study", "finding"), ("study", "finding")
CHUNK = 2**15
"""Numbers of a chunk of the file, about: 128 KiB, so that a small file stays small."""


class SampleWriter:
    """Writes samples to netCDF batch by batch; memory does not grow with the number of studies.

        with SampleWriter(path, findings, num_networks, num_samples) as writer:
            writer.append(samples, study_ids, labels)

    The file is there when the block has ended without an error, not before; only its owner may read it, since it names
    studies. `arviz.from_netcdf(path)` or `xarray.open_datatree(path)` opens it.

    Args:
        path: of the file; one that is there is replaced.
        findings: names of the K labels.
        num_networks: V, chains.
        num_samples: S, draws of z of each.
    """

    def __init__(self, path: str | Path, findings: Sequence[str], num_networks: int, num_samples: int) -> None:
        self.path, self.findings = Path(path), tuple(findings)
        self.shape = (num_networks, num_samples, None, len(self.findings))
        self.num_studies = 0
        self._groups: list[h5netcdf.Group] = []
        self._open = ExitStack()

    def __enter__(self) -> "SampleWriter":
        with ExitStack() as stack:
            unfinished = stack.enter_context(written(self.path))
            self._file = stack.enter_context(h5netcdf.File(unfinished, "w", locking=False))  # it is locked
            samples = self._group(SAMPLES, PROBABILITY, SAMPLE_DIMS)
            for dim in ("chain", "draw"):
                samples.create_variable(dim, (dim,), data=np.arange(samples.dimensions[dim].size))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def append(self, samples: ArrayLike, study_ids: Sequence[str], labels: ArrayLike | None = None) -> None:
        """Adds n studies.

        Args: samples [V, S, n, K]; study_ids of the n studies; labels [n, K], for every batch or for none.

        Raises:
            UserError: the shapes do not fit, or labels are there for some batches only.
        """
        expected = (*self.shape[:2], len(study_ids), len(self.findings))
        samples, labels = _checked(samples, expected, labels)
        if labels is not None and not self.num_studies and OBSERVED not in self._file.groups:
            self._group(OBSERVED, LABEL, LABEL_DIMS)
        if (labels is None) != (OBSERVED not in self._file.groups):
            found, others = ("none", "some") if labels is None else ("some", "none")
            raise UserError(
                f"labels: found {found} after batches with {others}; give them for every batch, or for none"
            )
        start, end = self.num_studies, self.num_studies + len(study_ids)
        for group in self._groups:
            group.resize_dimension("study", end)
            group["study"][start:end] = np.array(study_ids, dtype=object)
        self._file[SAMPLES][PROBABILITY][:, :, start:end] = samples
        if labels is not None:
            self._file[OBSERVED][LABEL][start:end] = labels
        self.num_studies = end

    def _group(self, name: str, variable: str, dims: tuple[str, ...]) -> h5netcdf.Group:
        """A new group with an empty variable, and the names of studies and findings."""
        group = self._file.create_group(name)
        sizes = dict(zip(SAMPLE_DIMS, self.shape, strict=True))
        group.dimensions = {dim: sizes[dim] for dim in dims}
        a_study = np.prod([sizes[dim] or 1 for dim in dims], dtype=int)
        chunks = tuple(sizes[dim] or max(1, CHUNK // a_study) for dim in dims)
        group.create_variable(variable, dims, np.float32, chunks=chunks)
        text = h5py.string_dtype()
        group.create_variable("study", ("study",), text, chunks=(1024,))
        group.create_variable("finding", ("finding",), data=np.array(self.findings, dtype=object), dtype=text)
        self._groups.append(group)
        return group


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
