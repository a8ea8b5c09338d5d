"""Names in a command's options and configs, judged before anything large is imported: a slip costs no seconds.

What is not known for certain here (values, classes of others) is left to the parser.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from vkd_pyro.artifacts.config import config_path, read_yaml
from vkd_pyro.artifacts.messages import nearest
from vkd_pyro.artifacts.source import arguments, below, classes
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import OURS
from vkd_pyro.utils.yaml_limits import check_yaml

DOTTED = re.compile(r"[A-Za-z]\w*(\.\w+)*")
WORDS = ("null", "None", "true", "false", "True", "False")
SKIPPED = ("init_args", "class_path")


def check_names(given: Sequence[str], parts: Mapping[str, str], others: Sequence[str]) -> None:
    """Raises `UserError` for an option, a key, a class or a file that there is none of, with the nearest name.

    Args:
        given: the arguments of the command.
        parts: options that make an object, by name, and the class each is of.
        others: names of the other options.
    """
    if any(argument.split("=")[0] == "--resume" for argument in given):
        return  # a run's own config, which is judged as one
    chosen: dict[str, str] = {}
    judge = _Judge(parts, others, chosen)
    for option, value in _options(given):
        name = option.removeprefix("--").removesuffix("+")
        if name == "config" and value is not None:
            _check_config(value, judge)
        elif not {"help", "print_config"} & set(name.split(".")) and option != "-h":
            judge.option(name, value)


class _Judge:
    """What has been named so far, and what that makes of the next name."""

    def __init__(self, parts: Mapping[str, str], others: Sequence[str], chosen: dict[str, str]) -> None:
        self.parts, self.others, self.chosen = parts, others, chosen

    def option(self, name: str, value: str | None) -> None:
        """--a.b.c VALUE."""
        root, *keys = [key for key in name.split(".") if key not in SKIPPED]
        if root not in self.parts:
            if root not in self.others:
                raise UserError(self._unrecognized(name, value))
            return
        kind: str | None = self.parts[root]
        place = root
        for key in keys:
            known = self._known(kind, place)
            if known is None:
                return
            if key not in known:
                raise UserError(self._not_accepted(name, value, place, key, kind, known))
            kind, place = known[key], f"{place}.{key}"
        if value is not None and kind is not None:
            self._choose(place, kind, value)

    def tree(self, place: str, kind: str | None, value: Any) -> None:
        """What a config has at a place."""
        if isinstance(value, str) and kind is not None:
            self._choose(place, kind, value)
        if not isinstance(value, dict) or kind is None:
            return
        if isinstance(named := value.get("class_path"), str):
            self._choose(place, kind, named)
        inner = value.get("init_args") if "class_path" in value else value
        if (known := self._known(kind, place)) is None or not isinstance(inner, dict):
            return
        for key, each in inner.items():
            if key in ("init_args", "dict_kwargs"):
                continue
            if key not in known:
                raise UserError(self._not_accepted(None, None, place, key, kind, known))
            self.tree(f"{place}.{key}", known[key], each)

    def _known(self, kind: str | None, place: str) -> dict[str, str | None] | None:
        """The arguments that the class at a place may have: of the one named, or of any that could be."""
        if kind is None:
            return None
        if place in self.chosen:
            return arguments(self.chosen[place])
        found: dict[str, str | None] = {}
        for name in below(kind):
            of_one = arguments(name)
            if of_one is None and (name != kind or len(below(kind)) == 1):
                return None
            found |= of_one or {}
        return found

    def _choose(self, place: str, kind: str, value: str) -> None:
        if not DOTTED.fullmatch(value) or value in WORDS:
            return
        module, _, name = value.rpartition(".")
        self.chosen[place] = name if not module or module.split(".")[0] == OURS else value
        if module and (root := module.split(".")[0]) != OURS:
            if find_spec(root) is None:
                raise UserError(f"{place}: {value}: No module named {root!r}{_in_this_folder(root)}")
        elif name not in classes():
            raise UserError(
                f"{place}: found {value}, expected a class: its name or its import path{nearest(name, below(kind))}"
            )

    def _unrecognized(self, name: str, value: str | None) -> str:
        fields = dict(self.flat())
        known = fields if "." in name else {full.rpartition(".")[2]: full for full in reversed(fields)} | fields
        shown = {key: key if "." in name else str(known[key] or key) for key in known}
        said = f"--{name}" + (f" {value}" if value is not None else "")
        return f"unrecognized arguments: {said}{nearest(name, known, shown)}"

    def _not_accepted(
        self, name: str | None, value: str | None, place: str, key: str, kind: str | None, known: Mapping[str, Any]
    ) -> str:
        """As the parser says it: by the class where one was chosen, else by the option."""
        if place in self.chosen:
            return f"{place}: {self.chosen[place]}: Option {key!r} is not accepted{nearest(key, known)}"
        if place == "method":
            return f"method: none given that has {key}; name one before it, e.g. --method VKD"
        if name is not None and place in self.parts:
            return self._unrecognized(name, value)
        shown = {full.rpartition(".")[2]: full for full in reversed(dict(self.flat()))}
        near = nearest(key, known) or nearest(key, shown, shown)
        return f"{place}: {kind}: Option {key!r} is not accepted{near}"

    def flat(self) -> Iterator[tuple[str, str]]:
        """Names of the options, as far as no class has to be chosen."""
        waiting = [(name, kind) for name, kind in self.parts.items()]
        yield from ((name, name) for name in (*self.others, *self.parts))
        while waiting:
            place, kind = waiting.pop(0)
            for key, inner in (arguments(kind) or {}).items() if len(place.split(".")) < 4 else ():
                yield f"{place}.{key}", f"{place}.{key}"
                if inner is not None:
                    waiting.append((f"{place}.{key}", inner))


def _options(given: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each option and the value behind it, if there is one."""
    for number, argument in enumerate(given):
        if not argument.startswith("--") or argument == "--":
            continue
        option, equals, value = argument.partition("=")
        behind = given[number + 1] if number + 1 < len(given) else None
        yield option, value if equals else behind if behind is None or not behind.startswith("--") else None


def _check_config(name: str, judge: _Judge) -> None:
    path = config_path(name)
    if "\n" in path:
        check_yaml(path, "--config")
    content = yaml.safe_load(path) if "\n" in path else read_yaml(Path(path))
    try:
        for key, value in content.items() if isinstance(content, dict) else ():
            if key in judge.parts:
                judge.tree(key, judge.parts[key], value)
            elif key not in judge.others:
                raise UserError(f"Option {key!r} is not accepted{nearest(str(key), [*judge.parts, *judge.others])}")
    except UserError as error:
        raise UserError(str(error) if "\n" in path else f"{path}: {error}") from error


def _in_this_folder(module: str) -> str:
    """What to do where the module lies here, and Python does not look here."""
    if Path(f"{module}.py").is_file() or Path(module).is_dir():
        return "; it lies in this folder, where Python does not look: put PYTHONPATH=. before the command"
    return ""
