"""`vkd doctor`: what a folder of X-rays is, and what is wrong with it."""

from pathlib import Path

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from vkd_pyro.artifacts.config import new_parser, parse
from vkd_pyro.cli.terminal import say


def doctor_parser() -> ArgumentParser:
    """Arguments of `vkd doctor`."""
    parser = new_parser("doctor", "Says which corpus a folder is, what is missing or corrupt, and what to do.")
    parser.add_argument("folder", type=Path, help="as downloaded; or a CSV manifest, or a prepared store")
    parser.add_argument("--num_images", type=PositiveInt, default=50, help="how many images to try")
    return parser


def main(arguments: list[str]) -> int:
    """Prints the diagnosis; the exit code is 1 where training would fail."""
    from vkd_pyro.data.doctor import examine

    settings = parse(doctor_parser(), arguments)
    diagnosis = examine(settings.folder, settings.num_images, progress=True)
    say(diagnosis)
    return 0 if diagnosis.can_train else 1
