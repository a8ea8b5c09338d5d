"""`vkd export`: a bundle as graphs for other engines."""

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import add_allowed, new_parser, parse
from vkd_pyro.cli.terminal import say


def export_parser() -> ArgumentParser:
    """Arguments of `vkd export`."""
    parser = new_parser(
        "export",
        "A bundle as graphs, in a folder that stands alone: images to features; features and noise to probabilities. "
        "What they compute is compared with the bundle on random images.",
    )
    parser.add_argument("bundle", type=Path, help="RUN/bundle, as vkd train writes it")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--format",
        type=Literal["openvino", "onnx", "torch"],
        default="openvino",
        help="of the graphs; vkd predict reads the first two, by OpenVINO",
    )
    parser.add_argument(
        "--precision",
        type=Literal["fp32", "bf16"],
        default="fp32",
        help="that features are computed in; bf16 is faster where the processor has it",
    )
    add_allowed(parser)
    return parser


def main(arguments: list[str]) -> None:
    """Writes an export."""
    settings = parse(export_parser(), arguments)
    from vkd_pyro.artifacts.export.writing import export_bundle

    difference = export_bundle(
        settings.bundle, settings.output, settings.format, settings.precision, settings.allow_module
    )
    say(f"written: {settings.output}: {settings.format}, {settings.precision}")
    say(f"probabilities differ from the bundle's by at most {difference:.1e}, on random images")
