"""`vkd pacs`: a DICOM node beside an archive."""

import logging
import signal
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import add_allowed, add_trusted, new_parser, parse
from vkd_pyro.cli.terminal import say
from vkd_pyro.utils.errors import UserError


def pacs_parser() -> ArgumentParser:
    """Arguments of `vkd pacs`."""
    from vkd_pyro.serving.pacs.settings import PacsSettings

    parser = new_parser(
        "pacs",
        "A DICOM node beside an archive: takes chest radiographs by C-STORE or from DICOMweb, and answers each study "
        "with a structured report. Runs until it is stopped; what it has accepted survives that.",
        usage="BUNDLE --config CONFIG [options]",
    )
    parser.add_argument("bundle", type=Path, help="RUN/bundle, as vkd train writes it, or a folder of vkd export")
    parser.add_argument("--config", action="config", help="YAML with any of these fields, e.g. configs/pacs.yaml")
    parser.add_argument(
        "--engine",
        type=Literal["auto", "torch", "openvino"],
        default="auto",
        help="what computes: PyTorch for a bundle and OpenVINO for an export, if nothing is said",
    )
    add_allowed(parser)
    add_trusted(parser)
    parser.add_class_arguments(PacsSettings)
    return parser


def main(arguments: list[str]) -> None:
    """Runs a node until SIGTERM or SIGINT."""
    parser = pacs_parser()
    parsed = parser.instantiate(parse(parser, arguments))
    from vkd_pyro.serving.pacs.settings import PacsSettings

    settings = PacsSettings(**{field.name: parsed[field.name] for field in fields(PacsSettings)})
    from vkd_pyro.artifacts.export import Export, load_predictor

    try:
        from vkd_pyro.serving.pacs.node import Node
    except ImportError as error:
        raise UserError(f"vkd pacs needs {error.name}; pip install 'vkd-pyro[pacs]'") from error
    predictor = load_predictor(parsed.bundle, parsed.engine, parsed.allow_module, parsed.trusted_key)
    if predictor.calibration is None:
        say("vkd: note: the bundle has no calibration, so every decision is unknown", file=sys.stderr)
    if settings.answer.overlays and isinstance(predictor, Export):
        say("vkd: note: an export has no gradients, so no pictures are sent, only reports", file=sys.stderr)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread: a second signal would wait for the lock that `set` holds while the first is handled.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    Node(predictor, settings).run(stop)
