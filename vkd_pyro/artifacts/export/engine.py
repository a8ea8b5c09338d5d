"""Graphs at work: files of them, computed by OpenVINO. Without PyTorch, as `vkd_pyro.artifacts.predictor` says."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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

THREADS = "OMP_NUM_THREADS"
"""Threads that compute, as PyTorch has it; unset, OpenVINO takes one a core."""
MOST_THREADS = 1024


def opened(path: Path, shapes: Sequence[Sequence[int]], precision: Precision = "fp32") -> Compute:
    """A file of a graph, .xml or .onnx, made ready to compute on the CPU.

    Args:
        path: the file.
        shapes: of its inputs, -1 for any number: a graph that is made for others is none to be computed with.
        precision: of what is computed, while weights are stored in fp32.

    Raises:
        UserError: an .xml that is none, an .onnx that takes numbers from other files, or another number of inputs.
    """
    (check_alone if path.suffix == ".onnx" else check_xml)(path)
    model = core().read_model(path)
    if len(model.inputs) != len(shapes):
        raise UserError(f"{path}: has {len(model.inputs)} inputs, expected {len(shapes)}")
    model.reshape({number: list(shape) for number, shape in enumerate(shapes)})
    return compiled(model, precision)


def compiled(model: Any, precision: Precision = "fp32") -> Compute:
    """As `opened`, of a model that OpenVINO has in memory."""
    threads = os.environ.get(THREADS, "")
    hints = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": min(int(threads[:9]), MOST_THREADS) if threads.isdecimal() else 0,
    }
    return _OpenVino(core().compile_model(model, "CPU", hints))


@cache
def core() -> Any:
    """OpenVINO's, one for the process: when several end, they leave a signal stack behind that is no more, and the next
    signal with a handler (Ctrl-C, the end of a loader's worker) ends the process."""
    return library("openvino").Core()


def check_xml(path: Path) -> None:
    """Raises `UserError` where a file is no XML: OpenVINO would try it as each format that it knows, aloud."""
    from defusedxml import DefusedXmlException, ElementTree

    try:
        if (root := ElementTree.parse(path, forbid_dtd=True).getroot().tag) != "net":
            raise ValueError(f"its root is {root[:40]!r}, expected 'net'")
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
