"""`vkd sign`: a signature for a bundle or an export."""

from pathlib import Path

from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import add_allowed, new_parser, parse
from vkd_pyro.cli.terminal import say


def sign_parser() -> ArgumentParser:
    """Arguments of `vkd sign`."""
    parser = new_parser(
        "sign",
        "Writes BUNDLE/model.sig: each file and its SHA-256, signed with a private key (OpenSSF Model Signing).",
    )
    parser.add_argument("bundle", type=Path, help="a bundle, or an export, which is loaded first")
    parser.add_argument("--key", type=Path, required=True, help="private key, elliptic, PEM, without a password")
    add_allowed(parser)
    return parser


def main(arguments: list[str]) -> None:
    """Signs what loads."""
    settings = parse(sign_parser(), arguments)
    from vkd_pyro.artifacts.export import load_predictor
    from vkd_pyro.artifacts.signing import sign

    load_predictor(settings.bundle, "auto", settings.allow_module)
    say(f"written: {sign(settings.bundle, settings.key)}")
