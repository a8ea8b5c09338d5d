"""`vkd download`: fetches and unpacks a public corpus."""

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import new_parser, parse
from vkd_pyro.cli.terminal import say


def download_parser() -> ArgumentParser:
    """Arguments of `vkd download`."""
    from vkd_pyro.data.download.archives import OPENI_URL

    parser = new_parser(
        "download",
        "Fetches the public archives of a corpus and unpacks them; interrupted, the same command goes on. "
        "Their licence is yours to read and keep (Open-I: CC BY-NC-ND 4.0).",
    )
    parser.add_argument("corpus", type=Literal["openi"], help="which")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--url", type=str, default=OPENI_URL, help="where the archives are")
    parser.add_argument("--sha256", type=dict[str, str], default={}, help="expected hashes, by the archive's name")
    return parser


def main(arguments: list[str]) -> None:
    """Fetches, checks and unpacks."""
    from vkd_pyro.data.download.archives import OPENI, download
    from vkd_pyro.data.download.unpack import unpack

    settings = parse(download_parser(), arguments)
    paths = download(OPENI, settings.output, settings.url, sha256=settings.sha256)
    for archive, path in zip(OPENI, paths, strict=True):
        say(f"unpacked: {path.name}: {unpack(path, settings.output / archive.folder):,} files")
    say(f"next: vkd doctor {settings.output}")
