"""`vkd synthesize`: writes a made-up corpus in the layout of a real one."""

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from vkd_pyro.artifacts.config import new_parser, parse
from vkd_pyro.cli.terminal import say


def synthesize_parser() -> ArgumentParser:
    """Arguments of `vkd synthesize`."""
    from vkd_pyro.synthetic.layouts import LAYOUTS

    parser = new_parser(
        "synthesize",
        "Writes the synthetic corpus in the layout of a real one, to rehearse before the real data arrives.",
    )
    parser.add_argument("--layout", type=Literal[LAYOUTS], required=True, help="of which corpus")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; must not exist, or be empty")
    parser.add_argument("--num_studies", type=PositiveInt, default=200, help="how many")
    parser.add_argument("--image_size", type=PositiveInt, default=256, help="side of the images, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    return parser


def main(arguments: list[str]) -> None:
    """Writes the corpus, and prints how much of what."""
    from vkd_pyro.synthetic.layouts import synthesize

    settings = parse(synthesize_parser(), arguments)
    counts = synthesize(
        settings.layout, settings.output, settings.num_studies, settings.image_size, settings.seed, progress=True
    )
    say(f"written: {settings.output}")
    for name, count in counts.items():
        say(f"  {count:>8,} {name}")
