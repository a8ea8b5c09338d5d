"""A model as two graphs, and how each kind of file holds them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vkd_pyro.artifacts.export.engine import Array, Compute, compiled, library
from vkd_pyro.artifacts.export.noise import Part
from vkd_pyro.artifacts.export.reparametrisation import from_noise, parts_of
from vkd_pyro.model import ImageModel
from vkd_pyro.utils.errors import UserError


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
        if isinstance(part, torch.fx.GraphModule):
            part.graph.eliminate_dead_code()  # such as the Cholesky factor of a density that nobody asks for
            part.recompile()
    return program


# ----------------------------------------------------------------------------------- files of a graph


def write_graph(graph: ExportedProgram, path: Path) -> None:
    """Writes a graph as its suffix says: .xml (with a .bin beside it), .onnx or .pt2."""
    if path.suffix == ".xml":
        library("openvino").save_model(_for_openvino(graph), path, compress_to_fp16=False)
    elif path.suffix == ".onnx":
        library("onnxscript")
        try:
            program = torch.onnx.export(graph, dynamo=True, verbose=False)
        except Exception as error:  # of many kinds; the last line names the operation
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"export: the model is none that ONNX can hold ({reason}); try --format openvino"
            ) from error
        assert program is not None
        for node in program.model.graph:
            node.metadata_props.clear()  # where it was made; it computes the same
        program.save(path, external_data=False)
    else:
        content = io.BytesIO()  # given a file, torch ends the process where a write fails
        torch.export.save(graph, content)
        path.write_bytes(content.getbuffer())


def _for_openvino(graph: ExportedProgram) -> Any:
    openvino = library("openvino")
    try:
        return openvino.convert_model(graph)
    except Exception as error:  # its own, of many kinds; the last line names the operation
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"export: OpenVINO cannot convert the model ({reason}); try --format onnx or torch") from error


def by_openvino(graph: ExportedProgram) -> Compute:
    """A graph, ready to compute by OpenVINO, of which nothing is written."""
    return compiled(_for_openvino(graph))


def by_torch(path: Path) -> Compute:
    """A .pt2 file, ready to compute. It can run code: read none that was not written here."""
    return _Torch(torch.export.load(path).module())


class _Torch:
    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @torch.no_grad()
    def __call__(self, *arrays: Array) -> Sequence[Array]:
        found = self.module(*map(torch.from_numpy, arrays))
        return [output.numpy() for output in (found if isinstance(found, tuple) else (found,))]
