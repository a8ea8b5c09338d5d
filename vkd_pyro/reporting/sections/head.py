"""The head of the page: what was evaluated, and how."""

from typing import Any

import numpy as np

from vkd_pyro.evaluation.evaluation import Evaluation
from vkd_pyro.reporting.page import Cell, Evaluated
from vkd_pyro.reporting.sections.extras import Extras


def evaluated(e: Evaluation, extras: Extras) -> Evaluated:
    known = ~np.isnan(e.labels)
    split = e.how.get("split", "test")
    counts = e.data.get("splits", {}).get(split, {})
    policies = {
        name.removesuffix("_policy").replace("eval", "evaluation"): _policy(e.data[name])
        for name in ("train_policy", "eval_policy")
        if name in e.data
    }
    more: dict[str, Cell] = {
        "row": e.how.get("level", "study"),
        "several images of a study": e.how.get("fusion", "mean"),
    } | ({"command": extras.command} if extras.command else {})
    return Evaluated(
        model=extras.name,
        data=e.data.get("corpus", "unknown"),
        split=split,
        patients=len(set(e.patient_ids)),
        studies=len(set(e.study_ids)),
        images=counts.get("images", len(e.study_ids)),
        labels=int(known.sum()),
        positives=int(np.nansum(e.labels)),
        policies=policies,
        seed=e.how.get("seed", 0),
        num_samples=0 if np.isnan(e.active_units["prior"]) else e.how.get("num_samples", 0),
        bundle_hash=e.how.get("bundle", "unknown") if e.models is None else f"{len(set(e.models))} models",
        version=e.how.get("version", "unknown"),
        more=more,
    )


def _policy(description: dict[str, Any]) -> str:
    given = description["init_args"]
    soft = given.get("uncertain") == "soft" or "soft" in (given.get("uncertain_by_finding") or {}).values()
    arguments = {name: value for name, value in given.items() if value and (soft or name != "soft_range")}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in arguments.items())
