"""A bundle: a trained image-only model as a folder that stands alone and never changes.

bundle/
  config.json           format version, parts by class and arguments, findings, image transform, what was learned from
                        (views, label policies), what was fitted on the validation split, hash of the weights
  weights.safetensors   the model's parameters and buffers; nothing of the report branch
  ood.safetensors       what features and z of training images were like
  card.md               what it was trained on, and what it is not for
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.numpy
import safetensors.torch
from torch import nn

from vkd_pyro.data.images.transforms import ImageTransform
from vkd_pyro.distributions import Family, Likelihood, ReportLikelihood
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.methods.base import Method
from vkd_pyro.model import ImageModel
from vkd_pyro.posthoc.calibration import Calibration
from vkd_pyro.posthoc.conformal import Conformal
from vkd_pyro.posthoc.ood import OODDetector
from vkd_pyro.posthoc.recalibration import Recalibration
from vkd_pyro.posthoc.thresholds import OperatingPoints
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import read_signed_json, sha256_of, write_signed_json, written_folder
from vkd_pyro.utils.serialization import build, describe

FORMAT_VERSION = 2
CONFIG, WEIGHTS, OOD, CARD = "config.json", "weights.safetensors", "ood.safetensors", "card.md"
PARTS: dict[str, type] = {
    "image_encoder": ImageEncoder,
    "prior": Family,
    "likelihood": Likelihood,
    "report_likelihood": ReportLikelihood,
    "backbone": ImageEncoder,
}
"""What a part of a model must be a subclass of, by its argument's name."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        model: in eval mode, on the CPU.
        findings: names of the K labels.
        transform: what images must pass before the model.
        weights_hash: sha256 of the weights file.
        views: of the images that it learned from.
        calibration: what was fitted on the validation split; None where nothing was.
        bundle_hash: sha256 over everything in the bundle but its card.
    """

    model: ImageModel
    findings: tuple[str, ...]
    transform: ImageTransform
    weights_hash: str
    views: tuple[str, ...] = ("frontal", "lateral")
    calibration: Calibration | None = None
    bundle_hash: str = ""

    @property
    def method(self) -> Method:
        """The model as a method that reads no report and cannot train, to be evaluated."""
        return Method(self.findings, self.model).eval()


def save_bundle(
    folder: Path,
    model: ImageModel,
    findings: tuple[str, ...],
    transform: ImageTransform,
    card: str,
    data: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Writes a bundle, whole or not at all; `data` says what it learned from (`StudyData.description`).

    Raises:
        UserError: there is something at `folder` already; a bundle never changes.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already, and a bundle never changes; choose another folder")
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with written_folder(folder) as unfinished:
        safetensors.torch.save_file(state, unfinished / WEIGHTS)
        config = {
            "format_version": FORMAT_VERSION,
            "findings": list(findings),
            "image_transform": asdict(transform),
            "data": dict(data or {}),
            "model": _describe_model(model),
            "weights_sha256": sha256_of(unfinished / WEIGHTS),
        }
        if calibration is not None:
            safetensors.numpy.save_file(calibration.reference.to_arrays(), unfinished / OOD)
            config |= {"calibration": calibration.to_json(), "ood_sha256": sha256_of(unfinished / OOD)}
        write_signed_json(unfinished / CONFIG, config)
        (unfinished / CARD).write_text(card)
        for file in unfinished.iterdir():
            file.chmod(0o644)  # nothing of a patient is in a bundle, and whoever serves it must read it


def load_bundle(folder: str | Path) -> Bundle:
    """Reads a bundle; nothing of the report branch is needed, and nothing is unpickled.

    Raises:
        UserError: not a bundle, a bundle of another version, or one whose files were changed.
    """
    folder = Path(folder)
    config = _read_config(folder)
    weights_hash = sha256_of(folder / WEIGHTS)
    if weights_hash != config.get("weights_sha256"):
        raise UserError(f"{folder / WEIGHTS}: not the weights this bundle was written with; copy the bundle again")
    try:
        model = _build_model(config["model"])
        model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
        transform = ImageTransform(**config["image_transform"])
        views = config.get("data", {}).get("views", "all")
        known = ("frontal", "lateral") if views == "all" else (views,)
        findings, bundle_hash = tuple(config["findings"]), config["config_sha256"]
        calibration = read_calibration(folder, config)
        return Bundle(model.eval(), findings, transform, weights_hash, known, calibration, bundle_hash)
    except (KeyError, TypeError, RuntimeError) as error:
        found = one_line(error)
        raise UserError(f"{folder / CONFIG}: does not describe this model ({found}); copy the bundle again") from error


def read_calibration(folder: Path, config: dict[str, Any]) -> Calibration | None:
    """What was fitted on the validation split, from a folder and its config; None where nothing was.

    Raises:
        UserError: the file of out-of-distribution score is missing, or was changed.
    """
    if "calibration" not in config:
        return None
    path, fitted = folder / OOD, config["calibration"]
    if not path.is_file() or sha256_of(path) != config.get("ood_sha256"):
        raise UserError(f"{path}: not the file this bundle was written with; copy the bundle again")
    return Calibration(
        Recalibration.from_json(fitted["recalibration"]),
        OperatingPoints.from_json(fitted["operating_points"]),
        Conformal.from_json(fitted["conformal"]),
        OODDetector.from_arrays(safetensors.numpy.load_file(path)),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise UserError(
            f"{folder}: not a bundle; expected a folder with {CONFIG} and {WEIGHTS}, as vkd train writes to RUN/bundle"
        )
    version = ("format_version", FORMAT_VERSION)
    return read_signed_json(
        path, version, "use the version it was written with, or train again", "copy the bundle again"
    )


def is_bundle(path: Path) -> bool:
    """Whether a folder is one, rather than a run."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def check_not_bundle(path: Path, option: str = "--output") -> None:
    """Raises `UserError` where what shall be written is a bundle, or in one."""
    for folder in (path.resolve(), *path.resolve().parents):
        if is_bundle(folder):
            is_it = "is" if folder == path.resolve() else "is in"
            raise UserError(f"{option}: {path} {is_it} a bundle, which never changes; choose another folder")


def check_rebuildable(model: ImageModel) -> None:
    """Raises `UserError` where a bundle of this model could not be written: better before training than after."""
    try:
        json.dumps(_describe_model(model))
    except TypeError as error:
        raise UserError(f"a part of the model has an argument that JSON cannot hold: {error}") from error


def _describe_model(model: nn.Module) -> dict[str, Any]:
    """A model, or a part of one, by its class and arguments, of which those that are parts are described in turn."""
    described = describe(model)
    arguments = described["init_args"]
    for name, value in arguments.items():
        if isinstance(value, nn.Module):
            if name not in PARTS:
                raise UserError(
                    f"{described['class_path']}: its argument {name} is a network, and a bundle can hold only "
                    f"{', '.join(PARTS)}; make {name} in the constructor, from numbers"
                )
            arguments[name] = _describe_model(value)
    return described


def _build_model(description: dict[str, Any], kind: type = ImageModel) -> Any:
    """What `_describe_model` described; only such parts are built, whatever the file says."""
    arguments = dict(description["init_args"])
    for name in [name for name in PARTS if isinstance(arguments.get(name), dict)]:
        arguments[name] = _build_model(arguments[name], PARTS[name])
    unneeded = {"weights": None} if issubclass(kind, ImageEncoder) else {}  # what training started from
    return build({**description, "init_args": arguments}, kind, **unneeded)
