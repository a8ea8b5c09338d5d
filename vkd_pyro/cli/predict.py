"""`vkd predict`."""

import csv
import json
import sys
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from vkd_pyro.cli.settings import new_parser, parse


def predict_parser() -> ArgumentParser:
    """Arguments of `vkd predict`."""
    parser = new_parser("predict", "Probability of each finding in X-rays, from the image alone.")
    parser.add_argument("bundle", type=Path, help="RUN/bundle, as vkd train writes it")
    parser.add_argument("images", type=Path, nargs="+", help="PNG, JPEG or DICOM files")
    parser.add_argument("--num_samples", type=PositiveInt, default=100, help="draws of z")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--format", type=Literal["table", "csv", "json"], default="table", help="of what is printed")
    parser.add_argument(
        "--on_mismatch",
        type=Literal["error", "warn"],
        default="error",
        help="where a DICOM header says that it is no chest X-ray of a view that the model knows: stop, or go on",
    )
    return parser


def main(arguments: list[str]) -> None:
    """`vkd predict`."""
    from vkd_pyro.bundle import load_bundle
    from vkd_pyro.predictive import predict_files

    settings = parse(predict_parser(), arguments)
    bundle = load_bundle(settings.bundle)
    probabilities = predict_files(
        bundle, settings.images, settings.num_samples, settings.seed, on_mismatch=settings.on_mismatch
    )
    names = [str(image) for image in settings.images]
    if settings.format == "json":
        rows = [dict(zip(bundle.findings, map(float, row), strict=True)) for row in probabilities]
        print(
            json.dumps([{"image": name, "probabilities": row} for name, row in zip(names, rows, strict=True)], indent=2)
        )
    elif settings.format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(["image", *bundle.findings])
        writer.writerows([name, *(f"{p:.4f}" for p in row)] for name, row in zip(names, probabilities, strict=True))
    else:
        for name, row in zip(names, probabilities, strict=True):
            print(name)
            for finding, p in sorted(zip(bundle.findings, row, strict=True), key=lambda pair: -pair[1]):
                print(f"  {finding:<28}{p:.3f}")
