"""`vkd verify`: whether a bundle or an export is as it was signed."""

from pathlib import Path

from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import new_parser, parse
from vkd_pyro.artifacts.signing import verify
from vkd_pyro.cli.terminal import say


def verify_parser() -> ArgumentParser:
    """Arguments of `vkd verify`."""
    parser = new_parser(
        "verify",
        "Checks BUNDLE/model.sig with a public key: every file is as it was signed, none is missing, none is more. "
        "Nothing of the bundle is parsed. The exit code is 2 where it is not so.",
    )
    parser.add_argument("bundle", type=Path, help="a bundle, or an export, with its model.sig")
    parser.add_argument("--key", type=Path, required=True, help="public key of who signed it, PEM")
    return parser


def main(arguments: list[str]) -> None:
    """Says so, or raises."""
    settings = parse(verify_parser(), arguments)
    verify(settings.bundle, settings.key)
    say(f"verified: {settings.bundle}")
