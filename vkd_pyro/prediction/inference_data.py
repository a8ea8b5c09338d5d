"""Samples in memory for ArviZ, in the groups that `vkd evaluate --samples` writes."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.posthoc.known import check_labels
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.inference_groups import dims_of, groups_of


def inference_data(
    samples: NDArray[np.float32],
    findings: Sequence[str],
    z: NDArray[np.float32] | None,
    labels: ArrayLike | None,
    studies: Sequence[str] | None,
    seed: int,
) -> Any:
    """As `Prediction.to_inference_data`."""
    arviz, xarray = _arviz()
    number = samples.shape[2]
    if labels is not None and np.shape(labels) != samples.shape[2:]:
        expected = list(samples.shape[2:])
        raise UserError(f"labels: found shape {list(np.shape(labels))}, expected {expected}: images, findings")
    if labels is not None:
        check_labels(np.asarray(labels, float))
    if studies is not None and len(studies) != number:
        raise UserError(f"studies: found {len(studies)} names, expected {number}, one an image")
    names = {"study": np.arange(number) if studies is None else list(studies), "finding": list(findings)}
    groups = {}
    for group, variables in groups_of(samples, z, labels, seed).items():
        arrays = {name: (dims_of(group, name), array) for name, array in variables.items()}
        sizes = {dim: n for dims, array in arrays.values() for dim, n in zip(dims, array.shape, strict=True)}
        groups[group] = xarray.Dataset(arrays, {dim: names.get(dim, np.arange(n)) for dim, n in sizes.items()})
    return arviz.InferenceData(**groups) if hasattr(arviz, "InferenceData") else xarray.DataTree.from_dict(groups)


def _arviz() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # 0.2x announces 1.x whenever it is imported
            import arviz
        import xarray
    except ImportError as error:
        raise UserError("to_inference_data needs ArviZ: pip install arviz") from error
    return arviz, xarray
