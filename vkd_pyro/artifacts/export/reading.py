"""An export: a bundle's model as graphs, in a folder that stands alone and never changes.

export/
  config.json           what the bundle's config says but for the model's parts; format and precision of the graphs, the
                        noise they take, hashes of the files and of the bundle, the difference found between the two
  encoder.*, head.*     the graphs: .xml and .bin (OpenVINO), .onnx, or .pt2 (PyTorch)
  ood.safetensors       of the bundle
  README.md             card, of the bundle
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vkd_pyro.artifacts.export.engine import FILES, SUFFIXES, Format, Precision, opened
from vkd_pyro.artifacts.export.graph_model import GraphModel
from vkd_pyro.artifacts.export.noise import Part
from vkd_pyro.artifacts.folders import CONFIG, read_calibration, read_card, verified
from vkd_pyro.artifacts.guard import MAX_WEIGHTS, guarded, regular_file
from vkd_pyro.artifacts.predictor import Array, Predictor, Sampled
from vkd_pyro.artifacts.schema import ExportSchema, checked
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import read_signed_json

EXPORT_VERSION = 5
AGAIN = "export the bundle again"


@dataclass(frozen=True)
class Export(Predictor):
    """A bundle's model as graphs, ready to predict. All but the model is the bundle's.

    Attributes:
        model: encodes and predicts by graphs.
        export_hash: sha256 over everything in the export; "" of one that was never written.
    """

    model: GraphModel
    export_hash: str = ""

    def sample(self, images: Array, num_samples: int, seed: int = 0) -> Sampled:
        """As `Predictor.sample`."""
        return self.model.posterior_predictive(self.model.encode(images), num_samples, seed)


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
        size, noise = schema.image_transform.size, tuple(Part(**part) for part in config["noise"])
        model = graph_model(folder, schema.format, schema.precision, noise, size)
        widths = model.check(size, len(schema.findings))
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
            schema.config_sha256,
        )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder}: not an export; expected a folder with {CONFIG}, as vkd export writes it")
    with guarded(path, AGAIN):
        regular_file(path, AGAIN)
        return read_signed_json(path, ("export_version", EXPORT_VERSION), AGAIN, AGAIN)


def graph_model(folder: Path, format: Format, precision: Precision, noise: tuple[Part, ...], size: int) -> GraphModel:
    """The graphs of a folder, OpenVINO's or ONNX, for images of this size; the head is computed in fp32."""
    encoder = opened(folder / f"encoder{SUFFIXES[format]}", [(-1, 1, size, size)], precision)
    (features,) = encoder(np.zeros((1, 1, size, size), np.float32))
    shapes = [(-1, features.shape[-1]), (-1, sum(part.width for part in noise))][: 2 if noise else 1]
    return GraphModel(encoder, opened(folder / f"head{SUFFIXES[format]}", shapes), noise)
