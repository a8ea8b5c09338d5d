"""Configs: typed settings from YAML files and options, and errors that name what was meant."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonargparse._common
import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from vkd_pyro.artifacts.messages import explain, nearest
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.reading import read_text
from vkd_pyro.utils.serialization import OURS, check_name
from vkd_pyro.utils.yaml_limits import check_yaml, unreadable

CORPORA = (
    "data.corpora.openi",
    "data.corpora.mimic_cxr",
    "data.corpora.chexpert",
    "data.corpora.chestxray14",
    "data.corpora.chexlocalize",
    "data.corpora.vindr_cxr",
    "data.corpora.padchest",
    "data.corpora.brax",
    "data.corpora.manifest",
    "synthetic.corpus",
)
ENCODERS = (
    "encoders.efficientnet_lite",
    "encoders.frozen",
    "encoders.last_blocks",
    "encoders.latent_semantic",
    "encoders.lora",
    "encoders.timm_models",
    "encoders.torchvision_models",
    "encoders.transformers_models",
)

CONFIGS = Path(__file__).parent.parent / "configs"
"""The configs that ship with the package."""


def new_parser(command: str, description: str, usage: str | None = None) -> ArgumentParser:
    """An empty parser of a command; `usage` stands for the list of its options, where that is long."""
    return ArgumentParser(
        prog=f"vkd {command}",
        usage=usage and f"%(prog)s {usage}",
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
    )


def add_data(parser: ArgumentParser) -> None:
    """The arguments of `StudyData`, as --data.selection.corpus and so on."""
    for name in CORPORA:  # so that --help lists them
        import_module(f"vkd_pyro.{name}")
    from vkd_pyro.data.study_data import StudyData  # with pandas and pyarrow, which not every command needs

    parser.add_class_arguments(StudyData, "data")


def add_method(parser: ArgumentParser, required: bool = True, linked: bool = True) -> None:
    """A `Method` by its class, as --method NoReport and --method.latent_dim; its findings are those of the data."""
    for name in ENCODERS:  # so that each is found by its name, and --help lists it
        import_module(f"vkd_pyro.{name}")
    from vkd_pyro.methods import Method  # and all that ship, likewise

    if not linked:  # where there is no data
        parser.add_subclass_arguments(Method, "method", required=required, skip={"findings"})
        return
    parser.add_subclass_arguments(Method, "method", required=required)
    parser.link_arguments("data.findings", "method.init_args.findings", apply_on="instantiate")


def add_allowed(parser: ArgumentParser) -> None:
    """--allow_module: what the caller trusts of what a stored file names."""
    parser.add_argument(
        "--allow_module",
        type=str,
        nargs="+",
        default=[],
        help="modules of your own that the bundle or run names, to be imported, which runs their code; none but "
        "vkd_pyro's are if nothing is said",
    )


def add_trusted(parser: ArgumentParser) -> None:
    """--trusted_key: whose signature a bundle must bear."""
    parser.add_argument(
        "--trusted_key",
        type=Path | None,
        help="public key, PEM: only a bundle that its holder signed (vkd sign) is read; nothing of another is parsed",
    )


def shipped_configs() -> dict[str, Path]:
    """The configs that ship with the package, by the name that `--config` takes: "synthetic", "methods/no_report"."""
    return {str(path.relative_to(CONFIGS).with_suffix("")): path for path in sorted(CONFIGS.rglob("*.yaml"))}


def config_path(name: str) -> str:
    """The file that `--config` means: the path as it is, or the config of that name that ships with the package."""
    if "\n" in name or Path(name).exists():
        return name  # YAML itself, or a file
    return str(shipped_configs().get(name, name))


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parses, or raises `UserError` with one line and, for an unknown name, the nearest ones known."""
    try:
        return _with_nulls(parser.parse_args(_with_config_paths(arguments)), arguments)
    except argparse.ArgumentError as error:
        options = vars(parser.get_defaults().as_flat())
        raise UserError(explain(str(error), options, shipped_configs())) from error


OPTIMIZERS = "torch.optim"
"""What the config of a run names that is not ours."""


def judge(stored: dict[str, Any], make_parser: Callable[[], ArgumentParser], allow: Sequence[str], path: Path) -> None:
    """Raises `UserError` where a config that a run has kept names a class that is neither ours nor allowed.

    It comes before the config is parsed together with what the caller says, who may name anything. Names are judged as
    text; then the config is parsed alone while jsonargparse refuses to import what is not listed, since it also takes
    names that stand elsewhere than in a class_path, and paths of further configs.

    Args: the config, or parts of it; what makes a parser of those; modules that the caller allows; the config's file.
    """
    with_names = [OURS, OPTIMIZERS, *allow]
    for module in allow:
        if not all(part.isidentifier() for part in module.split(".")):
            raise UserError(f"--allow_module: found {module!r}, expected the name of a module, e.g. my_module")
    try:
        for name in _class_paths(stored):
            check_name(name, with_names[1:])
        with _imports_limited_to(with_names):
            parse(make_parser(), ["--config", yaml.safe_dump(stored)])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _class_paths(part: Any) -> Iterator[Any]:
    """All that stands in a class_path, however deep."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if key == "class_path":
            yield value
        else:
            yield from _class_paths(value)


@contextmanager
def _imports_limited_to(modules: Sequence[str]) -> Iterator[None]:
    """While it lasts, a value that jsonargparse parses can name nothing else; it has no other way back."""
    settings = jsonargparse._common.parsing_settings
    before = dict(settings)
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(modules))
    try:
        yield
    finally:
        settings.update(before)


def _with_nulls(settings: Namespace, arguments: list[str]) -> Namespace:
    """The settings, where an option said null: to a part within a part jsonargparse hands it on as the word "None"."""
    words = [
        word for argument in arguments for word in (argument.split("=", 1) if argument[:2] == "--" else [argument])
    ]
    for option, value in pairwise(words):
        if option.startswith("--") and value == "null":
            *parts, name = (part for part in option[2:].split(".") if part != "init_args")
            holder: Any = settings
            for part in parts:
                holder = holder[part]
                holder = holder.get("init_args") or holder
            if holder.get(name) == "None":
                holder[name] = None
    return settings


def _with_config_paths(arguments: list[str]) -> list[str]:
    """The arguments, each --config NAME by the path of its file."""
    found = list(arguments)
    for number, argument in enumerate(arguments):
        if argument == "--config" and number + 1 < len(arguments):
            found[number + 1] = _checked(config_path(arguments[number + 1]))
        elif argument.startswith("--config="):
            found[number] = "--config=" + _checked(config_path(argument.removeprefix("--config=")))
    return found


def _checked(config: str) -> str:
    """A config as `config_path` gives it; `UserError` where it would hold too much, or is no plain file."""
    if "\n" in config:
        check_yaml(config, "--config")
    elif Path(config).exists():
        check_yaml(read_text(Path(config)), config)
    return config


def with_parts_of_config(arguments: list[str], *parts: str) -> list[str]:
    """The arguments, with only these parts ("data", "method") of each --config that they name."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--config", type=Path, action="append", default=[])
    chosen, others = options.parse_known_args(arguments)
    texts = [yaml.safe_dump(parts_of_config(path, *parts)) for path in chosen.config]
    return [*(argument for text in texts for argument in ("--config", text)), *others]


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
    path = Path(config_path(str(path)))
    try:
        check_yaml(text := read_text(path), str(path))
        content = yaml.safe_load(text)
    except FileNotFoundError as error:
        names = {name.rpartition("/")[2]: name for name in shipped_configs()}
        near = nearest(path.stem, names, names)
        raise UserError(f"--config: no file {path}{near}; expected YAML, or a name that vkd configs lists") from error
    except yaml.YAMLError as error:
        raise UserError(unreadable(error, str(path))) from error
    except OSError as error:
        raise UserError(f"{path}: not a readable YAML file ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found no settings, expected a YAML file such as configs/synthetic.yaml")
    return content
