"""Settings of all commands: parsers from signatures, configs, and errors that name what was meant."""

import argparse
import difflib
import inspect
import pydoc
import re
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import ArgumentParser, Namespace

from vkd_pyro.utils.errors import UserError, one_line

CORPORA = (
    "data.corpora.openi",
    "data.corpora.mimic_cxr",
    "data.corpora.chexpert",
    "data.corpora.chestxray14",
    "data.corpora.manifest",
    "synthetic.corpus",
)


def new_parser(command: str, description: str) -> ArgumentParser:
    """An empty parser of a command."""
    return ArgumentParser(prog=f"vkd {command}", description=description, exit_on_error=False, allow_abbrev=False)


def add_data(parser: ArgumentParser) -> None:
    """The arguments of `StudyData`, as --data.selection.corpus and so on."""
    for name in CORPORA:  # so that --help lists them
        import_module(f"vkd_pyro.{name}")
    from vkd_pyro.data.study_data import StudyData

    parser.add_class_arguments(StudyData, "data")


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parses, or raises `UserError` with one line and, for an unknown name, the nearest ones known."""
    try:
        return parser.parse_args(arguments)
    except argparse.ArgumentError as error:
        message = one_line(error)
        if unknown := re.search(r"(?:Group '([\w.]+)' .*)?(?:arguments: --|[Oo]ption ')([\w.]+)", message):
            message += _nearest(".".join(filter(None, unknown.groups())), message, parser)
        raise UserError(message) from error


def with_parts_of_config(arguments: list[str], *parts: str) -> list[str]:
    """The arguments, with only these parts ("data", "model.report_encoder") of the --config that they name."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--config", type=Path)
    chosen, others = options.parse_known_args(arguments)
    if chosen.config is None:
        return others
    return ["--config", yaml.safe_dump(parts_of_config(chosen.config, *parts)), *others]


def parts_of_config(path: Path, *parts: str) -> dict[str, Any]:
    """These parts of a config file, as far as it has them, under the same names."""
    found: dict[str, Any] = {}
    config = read_yaml(path)
    for part in parts:
        source, target = config, found
        *above, last = part.split(".")
        for name in above:
            source, target = source.get(name) or {}, target.setdefault(name, {})
        if last in source:
            target[last] = source[last]
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """A config file."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"--config: no file {path}; expected a YAML file such as configs/synthetic.yaml") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable YAML file ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found no settings, expected a YAML file such as configs/synthetic.yaml")
    return content


def _nearest(name: str, message: str, parser: ArgumentParser) -> str:
    """ " (did you mean ...?)", among the options of the command, or the arguments of the part the message names."""
    if part := re.search(r"class_path '([\w.]+)'", message):
        known = list(inspect.signature(cast(type, pydoc.locate(part[1]))).parameters)
    else:
        known = list(vars(parser.get_defaults().as_flat()))
    near = difflib.get_close_matches(name, known, n=3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
