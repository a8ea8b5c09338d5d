"""A model as two graphs, and how each kind of file holds them."""

import importlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vkd_pyro.artifacts.export.noise import Part, from_noise, parts_of
from vkd_pyro.model import ImageModel
from vkd_pyro.utils.errors import UserError, one_line

Format = Literal["openvino", "onnx", "torch"]
Precision = Literal["fp32", "bf16"]
Array = NDArray[np.float32]
Compute = Callable[..., Sequence[Array]]
"""A graph at work: arrays in, arrays out."""

SUFFIXES = {"openvino": ".xml", "onnx": ".onnx", "torch": ".pt2"}
FILES = {
    "openvino": ("encoder.xml", "encoder.bin", "head.xml", "head.bin"),
    "onnx": ("encoder.onnx", "head.onnx"),
    "torch": ("encoder.pt2", "head.pt2"),
}
"""The graphs of an export, as files."""

HINTS = {"fp32": "f32", "bf16": "bf16"}


@dataclass(frozen=True)
class Graphs:
    """Encoder and head of a model, as `vkd_pyro.artifacts.export` describes them.

    Attributes:
        encoder, head: traced, for any number of images and draws.
        noise: of the head; none without z.
    """

    encoder: ExportedProgram
    head: ExportedProgram
    noise: tuple[Part, ...]


class SamplingHead(nn.Module):
    """From features and noise to probabilities and prior means.

    Args:
        model: with z, of which it takes prior and likelihood.
    """

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.prior, self.likelihood = model.prior, model.likelihood

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Args: float [N, F], [S, E]. Returns: float [S, N, K] in [0, 1], and [N, D]."""
        prior = self.prior(features)
        return self.likelihood.probabilities(from_noise(prior, noise), features), prior.mean


class PlainHead(nn.Module):
    """From features to probabilities, without z."""

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        """Args: float [N, F]. Returns: float [N, K] in [0, 1]."""
        return self.model.posterior_predictive(features, 1).samples[0]


@torch.no_grad()
def graphs_of(model: ImageModel, size: int) -> Graphs:
    """Traces a model.

    Args:
        model: in eval mode, on the CPU.
        size: side of its images.

    Raises:
        UserError: its prior, or a part of one's own, cannot be traced.
    """
    pixels, features = torch.rand(2, 1, size, size), torch.rand(2, model.image_encoder.features_dim)
    images = {0: Dim("images")}
    if model.latent(features) is None:
        head = _traced(PlainHead(model), (features,), (images,))
        return Graphs(_traced(model.image_encoder, (pixels,), (images,)), head, ())
    noise = parts_of(model.prior)
    example = torch.rand(3, sum(part.width for part in noise))
    head = _traced(SamplingHead(model), (features, example), (images, {0: Dim("draws")}))
    return Graphs(_traced(model.image_encoder, (pixels,), (images,)), head, noise)


def _traced(module: nn.Module, inputs: tuple[Tensor, ...], shapes: tuple[dict[int, Any], ...]) -> ExportedProgram:
    try:
        with dist.validation_enabled(False):  # what checks values is no part of a graph
            return _without_places(torch.export.export(module.eval(), inputs, dynamic_shapes=shapes))
    except Exception as error:  # a part of one's own may do anything; torch.export raises many kinds
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"export: {type(module).__name__} cannot be traced by torch.export ({reason})") from error


def _without_places(program: ExportedProgram) -> ExportedProgram:
    """The same graph; where in which file each operation was called, by the paths of this machine, is taken off it."""
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


# ----------------------------------------------------------------------------------- files of a graph


def write_graph(graph: ExportedProgram, path: Path) -> None:
    """Writes a graph as its suffix says: .xml (with a .bin beside it), .onnx or .pt2."""
    if path.suffix == ".xml":
        library("openvino").save_model(_for_openvino(graph), path, compress_to_fp16=False)
    elif path.suffix == ".onnx":
        library("onnxscript")
        program = torch.onnx.export(graph, dynamo=True, verbose=False)
        assert program is not None
        for node in program.model.graph:
            node.metadata_props.clear()  # where it was made; it computes the same
        program.save(path, external_data=False)
    else:
        content = io.BytesIO()  # given a file, torch ends the process where a write fails
        torch.export.save(graph, content)
        path.write_bytes(content.getbuffer())


def compiled(graph: ExportedProgram | Path, precision: Precision = "fp32", by: str = "openvino") -> Compute:
    """A graph, or a file of one, made ready to compute on the CPU, with as many threads as PyTorch uses.

    Args:
        graph: traced; or .xml or .onnx for OpenVINO, .pt2 for PyTorch.
        precision: of what OpenVINO computes in; weights are stored in fp32.
        by: "openvino" or "torch".
    """
    if by == "torch":
        program = torch.export.load(graph) if isinstance(graph, Path) else graph
        return _Torch(program.module())
    core = _core()
    if isinstance(graph, Path):
        (check_alone if graph.suffix == ".onnx" else check_xml)(graph)
    model = core.read_model(graph) if isinstance(graph, Path) else _for_openvino(graph)
    hints = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return _OpenVino(core.compile_model(model, "CPU", hints))


@cache
def _core() -> Any:
    """OpenVINO's, one for the process: when several end, they leave a signal stack behind that is no more, and the next
    signal with a handler (Ctrl-C, the end of a loader's worker) ends the process."""
    return library("openvino").Core()


def _for_openvino(graph: ExportedProgram) -> Any:
    openvino = library("openvino")
    try:
        return openvino.convert_model(graph)
    except Exception as error:  # its own, of many kinds; the last line names the operation
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"export: OpenVINO cannot convert the model ({reason}); try --format onnx or torch") from error


class _Torch:
    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @torch.no_grad()
    def __call__(self, *arrays: Array) -> Sequence[Array]:
        found = self.module(*map(torch.from_numpy, arrays))
        return [output.numpy() for output in (found if isinstance(found, tuple) else (found,))]


def check_xml(path: Path) -> None:
    """Raises `UserError` where a file is no XML: OpenVINO would try it as each format that it knows, aloud."""
    from defusedxml import DefusedXmlException, ElementTree

    try:
        ElementTree.parse(path, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError) as error:
        raise UserError(f"{path}: not a graph of OpenVINO ({one_line(error)})") from error


def check_alone(path: Path) -> None:
    """Raises `UserError` where an ONNX file has its numbers from other files, which could be any of this machine."""
    onnx = library("onnx")
    waiting: list[Any] = [onnx.load(path, load_external_data=False)]
    while waiting:
        message = waiting.pop()
        if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError(f"{path}: takes numbers from other files; expected one that stands alone")
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else list(value)


class _OpenVino:
    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, *arrays: Array) -> Sequence[Array]:
        return list(self.model(list(arrays), share_inputs=True).values())


def library(name: str) -> Any:
    """A library that exports need, imported when it is wanted.

    Raises:
        UserError: it is not installed.
    """
    # Without this package, which is its telemetry, OpenVINO tells nobody of each import and conversion.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed; pip install 'vkd-pyro[export]'") from error
