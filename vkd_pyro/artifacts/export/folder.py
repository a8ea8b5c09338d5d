"""An export: a bundle's model as graphs, in a folder that stands alone and never changes.

export/
  config.json           what the bundle's config says but for the model's parts; format and precision of the graphs, the
                        noise they take, hashes of the files and of the bundle, the difference found between the two
  encoder.*, head.*     the graphs: .xml and .bin (OpenVINO), .onnx, or .pt2 (PyTorch)
  ood.safetensors       of the bundle
  README.md             card, of the bundle
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import safetensors.numpy
import torch

from vkd_pyro import __version__
from vkd_pyro.artifacts.bundle import (
    CARD,
    CONFIG,
    OOD,
    WEIGHTS,
    Bundle,
    load_bundle,
    read_calibration,
    read_card,
    read_config,
    verified,
)
from vkd_pyro.artifacts.export.graph_model import GraphModel
from vkd_pyro.artifacts.export.graphs import FILES, SUFFIXES, Format, Precision, compiled, graphs_of, write_graph
from vkd_pyro.artifacts.export.noise import Part
from vkd_pyro.artifacts.guard import MAX_WEIGHTS, guarded, regular_file
from vkd_pyro.artifacts.hub import on_hub
from vkd_pyro.artifacts.schema import ExportSchema, checked
from vkd_pyro.artifacts.signing import verified_copy
from vkd_pyro.data.images.transforms import ImageTransform
from vkd_pyro.posthoc.calibration import Calibration
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import read_signed_json, sha256_of, write_signed_json, written_folder

EXPORT_VERSION = 5
FROM_BUNDLE = ("findings", "image_transform", "data", "weights_sha256", "card_sha256", "calibration", "ood_sha256")
AGAIN = "export the bundle again"
MAX_DIFFERENCE = 1e-3
"""Largest difference of a probability to the bundle's, in fp32; rounding alone is some 1e-6."""

CHECKED_IMAGES, CHECKED_DRAWS = 8, 8


@dataclass(frozen=True)
class Export:
    """A bundle's model as graphs, ready to predict. What has the name of an attribute of `Bundle` is the bundle's.

    Attributes:
        model: encodes and predicts by graphs.
    """

    model: GraphModel
    findings: tuple[str, ...]
    transform: ImageTransform
    weights_hash: str
    views: tuple[str, ...]
    calibration: Calibration | None
    bundle_hash: str
    card: str = ""


def export_bundle(
    bundle_folder: Path,
    folder: Path,
    format: Format = "openvino",
    precision: Precision = "fp32",
    allow: Sequence[str] = (),
) -> float:
    """Writes an export of a bundle, whole or not at all, and compares it with the bundle on random images.

    Args:
        bundle_folder: of the bundle, which is left as it is.
        folder: to write.
        format: of the graphs.
        precision: that they are computed in; bf16 is for OpenVINO.
        allow: modules that the bundle's parts may be of, as of `load_bundle`.

    Returns: the largest difference of a probability between the two.

    Raises:
        UserError: `folder` exists, or is in a bundle; the model has no such graph; or, in fp32, the graphs do not
            compute what the bundle does.
    """
    _check(folder, format, precision)
    bundle = load_bundle(bundle_folder, allow)
    graphs = graphs_of(bundle.model, bundle.transform.size)
    with written_folder(folder) as unfinished:
        for name in ("encoder", "head"):
            write_graph(getattr(graphs, name), unfinished / f"{name}{SUFFIXES[format]}")
        difference = _difference(bundle, _graph_model(unfinished, format, precision, graphs.noise))
        if precision == "fp32" and not difference <= MAX_DIFFERENCE:
            raise UserError(
                f"export: probabilities differ by {difference:.2g} from the bundle's, expected at most "
                f"{MAX_DIFFERENCE:g}; nothing was written; try another --format, or predict with the bundle itself"
            )
        if bundle.calibration is not None:
            safetensors.numpy.save_file(bundle.calibration.reference.to_arrays(), unfinished / OOD)
        (unfinished / CARD).write_text(bundle.card, encoding="utf-8")
        made = {"format": format, "precision": precision, "max_difference": difference}
        noise = [asdict(part) for part in graphs.noise]
        _write_config(unfinished, bundle_folder, bundle, made | {"noise": noise})
        for file in unfinished.iterdir():
            file.chmod(0o644)  # as in a bundle
    return difference


def _check(folder: Path, format: Format, precision: Precision) -> None:
    if folder.exists():
        raise UserError(f"{folder}: exists already, and an export never changes; choose another folder")
    if inside := [parent for parent in folder.resolve().parents if (parent / WEIGHTS).is_file()]:
        raise UserError(f"{folder}: in the bundle {inside[0]}, which never changes; choose another folder")
    if precision != "fp32" and format != "openvino":
        raise UserError(f"--precision {precision} is OpenVINO's; found --format {format}; leave one of them out")


def _graph_model(folder: Path, format: Format, precision: Precision, noise: tuple[Part, ...]) -> GraphModel:
    by = "torch" if format == "torch" else "openvino"
    encoder = compiled(folder / f"encoder{SUFFIXES[format]}", precision, by)
    return GraphModel(encoder, compiled(folder / f"head{SUFFIXES[format]}", "fp32", by), noise)


@torch.no_grad()
def _difference(bundle: Bundle, graphs: GraphModel) -> float:
    """The largest of a probability, on random images; as many at once as no graph was traced with."""
    images = torch.rand(
        CHECKED_IMAGES, 1, bundle.transform.size, bundle.transform.size, generator=torch.Generator().manual_seed(0)
    )
    ours, theirs = (one.posterior_predictive(one.encode(images), CHECKED_DRAWS) for one in (bundle.model, graphs))
    return float((ours.samples - theirs.samples).abs().max())


def _write_config(folder: Path, bundle_folder: Path, bundle: Bundle, made: dict[str, Any]) -> None:
    of_bundle = read_config(bundle_folder)
    files = sorted(file for file in folder.iterdir() if file.stem in ("encoder", "head"))
    config = {
        "export_version": EXPORT_VERSION,
        "vkd_pyro": __version__,
        **made,
        **{name: of_bundle[name] for name in FROM_BUNDLE if name in of_bundle},
        "views": list(bundle.views),
        "bundle_sha256": bundle.bundle_hash,
        "files": {file.name: sha256_of(file) for file in files},
    }
    write_signed_json(folder / CONFIG, config)


# --------------------------------------------------------------------------------------------- reading


def load_export(folder: str | Path, allow: Sequence[str] = ()) -> Export:
    """Reads an export. Its graphs are computed by OpenVINO, which runs no code of theirs.

    Args: the folder; modules that what was fitted to the validation split may be of, as of `load_bundle`.

    Raises:
        UserError: not an export, one of another version, or one whose files were changed, are links, or do not fit.
    """
    folder = Path(folder)
    path, config = folder / CONFIG, _read_config(folder)
    if config.get("format") == "torch":
        raise UserError(
            f"{folder}: a .pt2 file can run code when it is read, so vkd does not read it; give the bundle, "
            "or export it as openvino or onnx"
        )
    schema = checked(config, ExportSchema, path, AGAIN)
    if sorted(schema.files) != sorted(FILES[schema.format]):
        raise UserError(f"{path}: files are {', '.join(schema.files)}, expected {', '.join(FILES[schema.format])}")
    for name, expected in schema.files.items():
        verified(folder / name, expected, "not the file", MAX_WEIGHTS, "export", AGAIN)
    with guarded(folder, AGAIN):
        calibration = read_calibration(folder, config, allow, "export", AGAIN)
        model = _graph_model(folder, schema.format, schema.precision, tuple(Part(**p) for p in config["noise"]))
        widths = model.check(schema.image_transform.size, len(schema.findings))
        if calibration is not None:
            calibration.check_for(tuple(schema.findings), *widths)
        return Export(
            model,
            tuple(schema.findings),
            ImageTransform(**schema.image_transform.model_dump()),
            schema.weights_sha256,
            tuple(schema.views),
            calibration,
            schema.bundle_sha256,
            read_card(folder, schema, "export", AGAIN),
        )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder}: not an export; expected a folder with {CONFIG}, as vkd export writes it")
    with guarded(path, AGAIN):
        regular_file(path, AGAIN)
        return read_signed_json(path, ("export_version", EXPORT_VERSION), AGAIN, AGAIN)


def load_predictor(
    folder: str | Path,
    engine: Literal["auto", "torch", "openvino"] = "auto",
    allow: Sequence[str] = (),
    trusted_key: str | Path | None = None,
) -> Bundle | Export:
    """Reads a bundle or an export, to be computed by this engine.

    Args:
        folder: a bundle, also of the hub, converted in memory where the engine is OpenVINO; or an export.
        engine: "auto" is PyTorch for a bundle, OpenVINO for an export.
        allow, trusted_key: as of `load_bundle`.

    Raises:
        UserError: neither of them, or an export for another engine.
    """
    if on_hub(folder):
        bundle = load_bundle(folder, allow, trusted_key)
        return converted(bundle) if engine == "openvino" else bundle
    folder = Path(folder)
    if trusted_key is not None:
        with verified_copy(folder, Path(trusted_key)) as copy:
            return load_predictor(copy, engine, allow)
    if (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        bundle = load_bundle(folder, allow)
        return converted(bundle) if engine == "openvino" else bundle
    if engine == "torch":
        raise UserError(f"--engine torch: {folder} is an export, which OpenVINO computes; give the bundle it is of")
    return load_export(folder, allow)


def converted(bundle: Bundle) -> Export:
    """A bundle's model for OpenVINO, in fp32, of which nothing is written."""
    graphs = graphs_of(bundle.model, bundle.transform.size)
    model = GraphModel(compiled(graphs.encoder), compiled(graphs.head), graphs.noise)
    shared = [field.name for field in fields(Export) if field.name != "model"]
    return Export(model, **{name: getattr(bundle, name) for name in shared})
