"""Variational Knowledge Distillation for chest X-rays and reports, as a probabilistic program in Pyro.

data      `StudyData` of a `Selection` (what is chosen), a `Task` (what is asked) and a `Loading` (how it is fed)
method    `VKD` with its objective `TraceVKD_ELBO`; others in `vkd_pyro.methods`
training  `fit`, `finish`, with `Training`; `load_run`, `load_bundle` for what it leaves
use       `evaluate`, `predict`, `predict_files`

Each name is imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vkd_pyro.artifacts.bundle import load_bundle as load_bundle
    from vkd_pyro.artifacts.run import load_run as load_run
    from vkd_pyro.data.loading.settings import Loading as Loading
    from vkd_pyro.data.selection import Selection as Selection
    from vkd_pyro.data.study_data import StudyData as StudyData
    from vkd_pyro.data.task import Task as Task
    from vkd_pyro.elbo import TraceVKD_ELBO as TraceVKD_ELBO
    from vkd_pyro.evaluation.evaluate import evaluate as evaluate
    from vkd_pyro.methods.vkd import VKD as VKD
    from vkd_pyro.prediction import predict_files as predict_files
    from vkd_pyro.prediction.predictive import predict as predict
    from vkd_pyro.training.fitting import finish as finish
    from vkd_pyro.training.fitting import fit as fit
    from vkd_pyro.training.settings import Training as Training

__version__ = "0.2.0.dev0"

_HOME = {
    "StudyData": "data.study_data",
    "Selection": "data.selection",
    "Task": "data.task",
    "Loading": "data.loading",
    "VKD": "methods.vkd",
    "TraceVKD_ELBO": "elbo",
    "Training": "training.settings",
    "fit": "training.fitting",
    "finish": "training.fitting",
    "load_run": "artifacts.run",
    "load_bundle": "artifacts.bundle",
    "evaluate": "evaluation.evaluate",
    "predict": "prediction.predictive",
    "predict_files": "prediction",
}


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"vkd_pyro.{_HOME[name]}"), name)
    raise AttributeError(f"module 'vkd_pyro' has no attribute {name!r}")
