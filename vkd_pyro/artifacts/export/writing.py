"""Writes exports: see `vkd_pyro.artifacts.export.reading` for what is in them."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from vkd_pyro import __version__
from vkd_pyro.artifacts.bundle import Bundle, load_bundle, read_config
from vkd_pyro.artifacts.export.engine import SUFFIXES, Format, Precision
from vkd_pyro.artifacts.export.graph_model import GraphModel
from vkd_pyro.artifacts.export.noise import Part
from vkd_pyro.artifacts.export.reading import EXPORT_VERSION, Export, graph_model
from vkd_pyro.artifacts.export.tracing import by_openvino, by_torch, graphs_of, write_graph
from vkd_pyro.artifacts.folders import CARD, CONFIG, OOD, WEIGHTS
from vkd_pyro.artifacts.predictor import Predictor
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import sha256_of, write_signed_json, written_folder

FROM_BUNDLE = ("findings", "image_transform", "data", "weights_sha256", "card_sha256", "calibration", "ood_sha256")
MAX_DIFFERENCE = 1e-3
"""Largest difference of a probability to the bundle's, in fp32; rounding alone is some 1e-6."""

CHECKED_IMAGES, CHECKED_DRAWS = 8, 8


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
        difference = _difference(bundle, _written(unfinished, format, precision, graphs.noise, bundle.transform.size))
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


def _written(folder: Path, format: Format, precision: Precision, noise: tuple[Part, ...], size: int) -> GraphModel:
    if format == "torch":
        return GraphModel(by_torch(folder / "encoder.pt2"), by_torch(folder / "head.pt2"), noise)
    return graph_model(folder, format, precision, noise, size)


def _difference(bundle: Bundle, graphs: GraphModel) -> float:
    """The largest of a probability, on random images; as many at once as no graph was traced with."""
    shape = CHECKED_IMAGES, 1, bundle.transform.size, bundle.transform.size
    images = np.random.default_rng(0).random(shape, np.float32)
    theirs = graphs.posterior_predictive(graphs.encode(images), CHECKED_DRAWS)
    return float(np.abs(bundle.sample(images, CHECKED_DRAWS).samples - theirs.samples).max())


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


def converted(bundle: Bundle) -> Export:
    """A bundle's model for OpenVINO, in fp32, of which nothing is written."""
    graphs = graphs_of(bundle.model, bundle.transform.size)
    model = GraphModel(by_openvino(graphs.encoder), by_openvino(graphs.head), graphs.noise)
    shared = [field.name for field in fields(Predictor) if field.name != "model"]
    return Export(model, **{name: getattr(bundle, name) for name in shared})
