"""Cross-fitting: the evaluations of all folds, each by the model that never saw its patients, as one."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from vkd_pyro.evaluation.collapse import LatentUse
from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import difference


def join_folds(parts: Sequence[Evaluation]) -> Evaluation:
    """The evaluations of disjoint sets of patients, by a model each, as one; the use of z is averaged over studies.

    Raises:
        UserError: they are of other findings, data, or ways to evaluate, of networks of another shape, or have studies
            or patients in common.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if any(part.findings != first.findings for part in parts):
        raise UserError("folds: the evaluations are of other findings")
    for part in parts[1:]:
        _check_alike(first, part)
    studies = [study for part in parts for study in set(part.study_ids)]
    patients = [patient for part in parts for patient in set(part.patient_ids)]
    if len(studies) > len(set(studies)) or len(patients) > len(set(patients)):
        raise UserError("folds: a study or a patient is in two of them")
    arrays = [field.name for field in fields(Evaluation) if isinstance(getattr(first, field.name), np.ndarray)]
    kinds = set.intersection(*(set(part.subgroups) for part in parts))
    data = {name: value for name, value in first.data.items() if name not in ("splits", "left_out", "folds")}
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    return replace(
        first,
        **joined,
        data=data | {"folds": len(parts)},
        how={name: value for name, value in first.how.items() if name not in ("bundle", "calibration")},
        study_ids=tuple(study for part in parts for study in part.study_ids),
        patient_ids=tuple(patient for part in parts for patient in part.patient_ids),
        subgroups={kind: np.concatenate([part.subgroups[kind] for part in parts]) for kind in kinds},
        latent_use=_mean_use(parts),
        models=np.repeat(np.arange(len(parts)), [len(part.study_ids) for part in parts]),
    )


def _check_alike(first: Evaluation, other: Evaluation) -> None:
    """Raises `UserError` where two folds cannot be of one cross-fitting."""
    ours, theirs = (
        {name: json.loads(json.dumps(each.data.get(name))) for name in ("corpus", "eval_policy")}  # as once saved
        | {name: each.how.get(name) for name in ("split", "level", "fusion", "num_samples")}
        | {"latent dimensions": list(each.latent_use.kl_per_dimension.shape)}
        for each in (first, other)
    )
    where, one, another = difference(ours, theirs)
    if where:
        raise UserError(
            f"folds: the evaluations are of another {'.'.join(where)}, {one} and {another}; train and evaluate all "
            "folds alike"
        )


def _mean_use(parts: Sequence[Evaluation]) -> LatentUse:
    weights = [len(part.study_ids) for part in parts]
    uses = [part.latent_use for part in parts]
    names = ("kl", "mutual_information", "z_spread", "z_change")
    active = {name: [use.active_units[name] for use in uses] for name in uses[0].active_units}
    return LatentUse(
        active_units={name: float(np.average(values, weights=weights)) for name, values in active.items()},
        kl_per_dimension=np.average([use.kl_per_dimension for use in uses], axis=0, weights=weights),
        **{name: float(np.average([getattr(use, name) for use in uses], weights=weights)) for name in names},
    )
