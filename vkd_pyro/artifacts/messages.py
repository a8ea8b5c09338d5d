"""What jsonargparse says of a mistaken setting, in one line: the field, what was found, what was meant."""

import difflib
import inspect
import pydoc
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from vkd_pyro.utils.serialization import not_imported

STRUCTURE = re.compile(r"$|Does not validate against|Subtypes:|Errors:|Expected a path but")
NO_CLASS = re.compile(r"Expected a dot import path string: (.*)|(?:module '.*'|type object .*) has no attribute '(.*)'")
DENIED = re.compile(r"Importing '([\w.]+)' is not allowed")
ANY_METHOD = "vkd_pyro.methods.Method"


def explain(message: str, options: Iterable[str], configs: Iterable[str] = ()) -> str:
    """One line of a message of jsonargparse, with the nearest names known for an unknown one.

    Args:
        message: jsonargparse's own, a tree in which every kind of value that a field may have says why it is none.
        options: names of all options of the command.
        configs: names that --config takes.
    """
    keys, class_path, leaf = _first_branch(message)
    if "linked_targets" in message:  # jsonargparse's own failure, which does not say where
        return "class_path: a setting names a function, expected a class: its name or its import path"
    if not keys:
        return _with_nearest_option(" ".join(message.split()), list(options))
    key, name = ".".join(keys), _short(class_path)
    if missing := re.match(r"File does not exist: '(.*)'", leaf):
        known = {name.rpartition("/")[2]: name for name in configs} if key == "config" else {}
        return f"{key}: {leaf}{nearest(Path(missing[1]).stem, known, known)}"
    if denied := DENIED.search(leaf):
        return f"{key}: {not_imported(denied[1])}"
    if found := NO_CLASS.match(leaf):
        given = found[1] or class_path
        last = given.rpartition(".")[2]
        near = nearest(last, _class_names() - {last})
        return f"{key}: found {given}, expected a class: its name or its import path{near}"
    if unknown := re.match(r"Option '([\w.]+)' is not accepted", leaf):
        if class_path == ANY_METHOD:
            return f"{key}: none given that has {unknown[1]}; name one before it, e.g. --{key} VKD"
        leaf += nearest(unknown[1], inspect.signature(cast(type, pydoc.locate(class_path))).parameters)
    if wanted := re.match(r"the following arguments are required: (.*)", leaf):
        return f"{key}: {name} wants {wanted[1]}; give " + " ".join(f"--{key}.{n} ..." for n in wanted[1].split(", "))
    return f"{key}: {name}: {leaf}" if name else f"{key}: {leaf}"


def nearest(name: str, known: Iterable[str], shown: Mapping[str, str] | None = None) -> str:
    """ " (did you mean ...?)", whatever the case, or nothing; the known name is said as `shown` has it, if given."""
    words = {word.lower(): shown[word] if shown else word for word in known}
    near = difflib.get_close_matches(name.lower(), words, n=2, cutoff=0.65)
    return f" (did you mean {' or '.join(words[word] for word in near)}?)" if near else ""


def _first_branch(message: str) -> tuple[list[str], str, str]:
    """Names of the fields from the outermost in; the class that has the innermost ("": none); what is wrong with it.

    Of the kinds of value that a field may have, the first is the one meant.
    """
    keys: list[str] = []
    class_path = ""
    for text in message.splitlines():
        line = text.strip().removeprefix("- ")
        if field := re.match(r'Parser key "([\w.]+)":\s*(.*)', line):
            keys.append(field[1])
            class_path = ""
            line = field[2]
        elif found := re.match(r"Problem with given class_path '([\w.]+)':\s*(.*)", line):
            class_path = found[1]
            line = found[2]
        if not STRUCTURE.match(line):
            return keys, class_path, line
    return [], "", ""


def _with_nearest_option(message: str, options: list[str]) -> str:
    """The message, and the nearest options where it says that one is unknown."""
    if unknown := re.search(r"(?:Group '([\w.]+)' .*)?(?:arguments: --|[Oo]ption ')([\w.]+)", message):
        name = ".".join(filter(None, unknown.groups()))
        fields = {option if "." in name else option.rpartition(".")[2]: option for option in reversed(options)}
        return message + nearest(name, fields, fields)
    if re.search(r"required: .*\b(method|data\.selection\.corpus)\b", message):
        return f"{message}; name a config that has them by --config (vkd configs lists those that ship)"
    return message


def _short(class_path: str) -> str:
    """The name alone of a class of this package."""
    return class_path.rpartition(".")[2] if class_path.startswith("vkd_pyro.") else class_path


def _class_names() -> set[str]:
    """Names of the public classes of the package, as far as it is imported."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("vkd_pyro.")]
    return {n for module in modules for n, found in vars(module).items() if isinstance(found, type) and n[0] != "_"}
