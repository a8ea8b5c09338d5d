"""What the folders of bundles and exports have in common: their files, and how each is read once its hash is that which
the config says. Without PyTorch, as `vkd_pyro.artifacts.predictor` says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.numpy

from vkd_pyro.artifacts.guard import guarded, header_of, regular_file
from vkd_pyro.artifacts.schema import ConfigSchema
from vkd_pyro.posthoc.calibration import UNITS, Calibration, Fit
from vkd_pyro.posthoc.ood import OODDetector
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import sha256_of

CONFIG, WEIGHTS, OOD, CARD = "config.json", "weights.safetensors", "ood.safetensors", "README.md"
MAX_OOD, MAX_CARD = 2**28, 2**20
"""Bytes of these files, at most: 256 MiB (features of width 8,000), and 1 MiB."""

AGAIN = "copy the bundle again"


def is_bundle(path: Path) -> bool:
    """Whether a folder is one, rather than a run."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def check_not_bundle(path: Path, option: str = "--output") -> None:
    """Raises `UserError` where what shall be written is a bundle, or in one."""
    for folder in (path.resolve(), *path.resolve().parents):
        if is_bundle(folder):
            is_it = "is" if folder == path.resolve() else "is in"
            raise UserError(f"{option}: {path} {is_it} a bundle, which never changes; choose another folder")


def verified(path: Path, expected: str | None, wrong: str, most: int, of: str = "bundle", fix: str = AGAIN) -> str:
    """The sha256 of a file of a bundle, or of an export.

    Raises:
        UserError: it is not the file that was written, or not a file in the folder itself.
    """
    if not path.is_symlink() and not path.exists():
        raise UserError(f"{path}: {wrong} this {of} was written with; {fix}")
    if (size := regular_file(path, fix).stat().st_size) > most:
        raise UserError(f"{path}: {size:,} bytes, more than the limit of {most:,}; {fix}")
    if (found := sha256_of(path)) != expected:
        raise UserError(f"{path}: {wrong} this {of} was written with; {fix}")
    return found


def read_card(folder: Path, schema: ConfigSchema, of: str = "bundle", fix: str = AGAIN) -> str:
    """The model card of a bundle, or of an export; raises `UserError` where it was changed."""
    verified(folder / CARD, schema.card_sha256, "not the card", MAX_CARD, of, fix)
    with guarded(folder / CARD, fix):
        return (folder / CARD).read_text(encoding="utf-8")


def read_calibration(
    folder: Path, config: dict[str, Any], allow: Sequence[str] = (), of: str = "bundle", fix: str = AGAIN
) -> Calibration | None:
    """What was fitted on the validation split, from a folder and its config; None where nothing was.

    Raises:
        UserError: the file of out-of-distribution score is missing, or was changed; or numbers that nothing gives.
    """
    if config.get("calibration") is None:
        return None
    path, fitted = folder / OOD, config["calibration"]
    verified(path, config["ood_sha256"], "not the file", MAX_OOD, of, fix)
    with guarded(path, fix):
        header_of(path, fix, MAX_OOD)
        reference = OODDetector.from_arrays(safetensors.numpy.load_file(path))
    with guarded(folder / CONFIG, fix):
        study, image = (Fit.from_json(fitted[unit], allow) for unit in UNITS)
        return Calibration(study, image, reference, str(fitted["fitted_on"]))
