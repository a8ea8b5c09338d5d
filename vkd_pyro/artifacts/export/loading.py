"""From a folder to what predicts. Of an export PyTorch is not imported, which takes seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vkd_pyro.artifacts.export.reading import load_export
from vkd_pyro.artifacts.folders import CONFIG, WEIGHTS
from vkd_pyro.artifacts.hub import on_hub
from vkd_pyro.artifacts.predictor import Predictor
from vkd_pyro.artifacts.signing import verified_copy
from vkd_pyro.utils.errors import UserError

Engine = Literal["auto", "torch", "openvino"]


def load_predictor(
    folder: str | Path,
    engine: Engine = "auto",
    allow: Sequence[str] = (),
    trusted_key: str | Path | None = None,
) -> Predictor:
    """Reads a bundle or an export, to be computed by this engine.

    Args:
        folder: a bundle, also of the hub, converted in memory where the engine is OpenVINO; or an export.
        engine: "auto" is PyTorch for a bundle, OpenVINO for an export.
        allow, trusted_key: as of `load_bundle`.

    Raises:
        UserError: neither of them, or an export for another engine.
    """
    if on_hub(folder):
        return _bundle(folder, engine, allow, trusted_key)
    folder = Path(folder)
    if trusted_key is not None:
        with verified_copy(folder, Path(trusted_key)) as copy:
            return load_predictor(copy, engine, allow)
    if (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        return _bundle(folder, engine, allow)
    if engine == "torch":
        raise UserError(f"--engine torch: {folder} is an export, which OpenVINO computes; give the bundle it is of")
    return load_export(folder, allow)


def _bundle(folder: str | Path, engine: Engine, allow: Sequence[str], key: str | Path | None = None) -> Predictor:
    from vkd_pyro.artifacts.bundle import load_bundle

    bundle = load_bundle(folder, allow, key)
    if engine != "openvino":
        return bundle
    from vkd_pyro.artifacts.export.writing import converted

    return converted(bundle)
