"""`vkd push`: a bundle to the Hugging Face hub."""

from pathlib import Path

from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import add_allowed, new_parser, parse
from vkd_pyro.cli.terminal import say


def push_parser() -> ArgumentParser:
    """Arguments of `vkd push`."""
    parser = new_parser(
        "push",
        "Sends a bundle, with its card and its signature where there is one, to a repository of the Hugging Face hub; "
        "only where HF_HUB_OFFLINE=0 is set, with the token of `hf auth login`. No other file of the folder goes.",
    )
    parser.add_argument("bundle", type=Path, help="RUN/bundle, as vkd train writes it")
    parser.add_argument("repository", type=str, help="owner/name; made where it is not there")
    parser.add_argument("--public", type=bool, default=False, help="whether a new repository can be seen by everybody")
    parser.add_argument("--revision", type=str | None, help="branch")
    add_allowed(parser)
    return parser


def main(arguments: list[str]) -> None:
    """Says what goes where, and sends it."""
    settings = parse(push_parser(), arguments)
    from vkd_pyro.artifacts.bundle import load_bundle
    from vkd_pyro.artifacts.folders import CARD, CONFIG, OOD, WEIGHTS
    from vkd_pyro.artifacts.hub import push
    from vkd_pyro.artifacts.signing import SIGNATURE

    load_bundle(settings.bundle, settings.allow_module)
    sent = [name for name in (CONFIG, WEIGHTS, OOD, CARD, SIGNATURE) if (settings.bundle / name).is_file()]
    say(f"sending {', '.join(sent)} of {settings.bundle} to {settings.repository}", flush=True)
    address = push(settings.bundle, settings.repository, sent, not settings.public, settings.revision)
    say(f"sent: {address}")
    say(f"it loads as hf://{settings.repository}; with @COMMIT behind it, for ever the same files")
