"""What an author must say of the model: its formulas, its parts, how it was trained, with what software."""

import inspect
import platform
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from vkd_pyro.data.study_data import StudyData
from vkd_pyro.methods.base import Method

SOFTWARE = ("vkd_pyro", "torch", "torchvision", "pyro-ppl", "lightning", "transformers", "numpy", "scikit-learn")


@dataclass(frozen=True)
class MethodFacts:
    """The model and its training, for a reader who would repeat them.

    Attributes:
        formulas: what is modelled and what is minimised, as text of several lines, by name.
        facts: by name.
    """

    formulas: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {"formulas": dict(self.formulas), "facts": dict(self.facts)}


def method_facts(method: Method, data: StudyData, config: Mapping[str, Any]) -> MethodFacts:
    """Of a method, the data that it reads, and the settings of its run; {} for those of a bundle alone.

    Args:
        method: trained.
        data: how its images are read.
        config: content of the run's config.yaml.
    """
    objective = getattr(method, "objective", None)
    formulas = {
        name: formula for name, part in (("model", method), ("objective", objective)) if (formula := formula_of(part))
    }
    facts = {"method": type(method).__name__}
    for name in ("image_encoder", "prior", "likelihood"):
        part = getattr(method.model, name, None)
        if part is not None:
            facts[name.replace("_", " ")] = (
                f"{type(part).__name__}, {sum(p.numel() for p in part.parameters()):,} parameters"
            )
    facts["images"] = f"{data.selection.image_size} x {data.selection.image_size}, gray, {data.selection.views} views"
    facts["augmentation in training"] = _text((config.get("data") or {}).get("loading", {}).get("augmentation"))
    training = config.get("training") or {}
    facts |= {f"training, {name.replace('_', ' ')}": _text(training[name]) for name in TRAINING if name in training}
    if "beta_schedule" in config and method.reads_reports:
        facts["schedule of beta"] = _text(config["beta_schedule"])
    facts |= {f"{name}, after training": _text(value) for name, value in (config.get("posthoc") or {}).items()}
    if "seed" in config:
        facts["seed of the training"] = str(config["seed"])
    installed = ", ".join(f"{name} {version(name)}" for name in SOFTWARE)
    facts["software"] = f"Python {platform.python_version()}, {installed}"
    return MethodFacts(formulas, facts)


TRAINING = (
    "max_epochs",
    "optimizer",
    "learning_rate_schedule",
    "gradient_clip",
    "patience",
    "precision",
    "report_warm_up",
)


def formula_of(part: object) -> str:
    """The first indented lines of the docstring of a part's class, which say what it computes; "" where none are."""
    paragraphs = (inspect.getdoc(type(part)) or "").split("\n\n")
    indented = [text for text in paragraphs if text.startswith("    ")]
    return textwrap.dedent(indented[0]) if indented else ""


def _text(value: Any) -> str:
    """A setting in words: a class by its name and what it was given."""
    if isinstance(value, Mapping) and "class_path" in value:
        given = {name: each for name, each in (value.get("init_args") or {}).items() if each is not None}
        arguments = ", ".join(f"{name} {_text(each)}" for name, each in given.items())
        name = str(value["class_path"]).rpartition(".")[2]
        return f"{name} ({arguments})" if arguments else name
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return "none" if value is None else str(value)
