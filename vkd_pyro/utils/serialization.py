"""Parts that can say how to build their like: they keep their constructor's arguments as attributes."""

import dataclasses
import hashlib
import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

from vkd_pyro.utils.errors import UserError

OURS = __name__.split(".")[0]
"""This package, whose classes a stored part may name."""


def describe(part: object) -> dict[str, Any]:
    """{"class_path", "init_args"} of a part; an argument that is a dataclass is a dict of its fields.

    Raises:
        UserError: an argument is not kept as an attribute.
    """
    names = inspect.signature(type(part)).parameters
    class_path = public_path(type(part))
    if missing := [name for name in names if not hasattr(part, name)]:
        raise UserError(
            f"{class_path}: no attribute {missing[0]}; a part keeps its constructor's arguments as attributes, "
            f"so that it can be built again: add self.{missing[0]} = {missing[0]}"
        )
    return {"class_path": class_path, "init_args": {name: _plain(getattr(part, name)) for name in names}}


def build(description: dict[str, Any], base: type, allow: Sequence[str] = (), **changed: Any) -> Any:
    """The part that `describe` described, which must be a `base`; arguments that it has may be changed.

    Its name is judged before anything is imported (`check_name`). No other class is looked up: an argument that is a
    dataclass is the one that the constructor's types say.

    Args:
        description: as `describe` gives it.
        base: what the part must be a subclass of.
        allow: modules that a part may be of, beside those of this package.
        changed: arguments, in place of those that are described.

    Raises:
        UserError: the name is not one to import; there is no such class, or it is none of the base; a dataclass has no
            such field.
    """
    class_path = description["class_path"]
    check_name(class_path, allow, base)
    module, _, name = class_path.rpartition(".")
    try:
        part = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{class_path}: not found; install the package the model was made with") from error
    if not (inspect.isclass(part) and issubclass(part, base)):
        raise UserError(f"{class_path}: found {part!r}, expected a subclass of {base.__name__}")
    arguments = {name: _typed(part, name, value) for name, value in description["init_args"].items()}
    return part(**(arguments | {name: value for name, value in changed.items() if name in arguments}))


def check_name(class_path: object, allow: Sequence[str] = (), base: type | None = None) -> None:
    """Raises `UserError` where a file names something to be imported that is neither ours nor allowed by the caller.

    Ours are the public names of this package; where a base is given, those of its own room. An import runs code, so
    a name is judged as text.

    Args:
        class_path: the dotted path that a file has.
        allow: modules that the caller trusts, with those below them: "my_module" allows "my_module.parts.Encoder".
        base: what the named class is to be a subclass of.
    """
    parts = class_path.split(".") if isinstance(class_path, str) else []
    if not all(part.isidentifier() for part in parts) or len(parts) < 2:
        raise UserError(f"{str(class_path)[:80]!r}: found as the name of a class, expected package.module.Class")
    allow = [allow] if isinstance(allow, str) else allow
    if any(parts[: len(module.split("."))] == module.split(".") for module in allow):
        return
    room = [] if base is None or len(parts) == 2 else base.__module__.split(".")[1:2]
    if parts[0] != OURS or any(part.startswith("_") for part in parts):
        raise UserError(not_imported(str(class_path)))
    if base is not None and parts[1 : 1 + len(room)] != room:
        raise UserError(f"{class_path}: found another kind of part, expected a subclass of {base.__name__}")


def not_imported(class_path: str) -> str:
    """Why a class that a file names is not looked at, and how it can be."""
    module = class_path.rpartition(".")[0]
    return (
        f"{class_path}: not imported, since that runs code; expected a class of {OURS}, or of a module that you allow: "
        f"--allow_module {module} (in Python allow=[{module!r}]), if you trust it"
    )


def hash_of_weights(state: Mapping[str, Any]) -> str:
    """sha256 over the names and bytes of the tensors of a state dict, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def public_path(kind: type) -> str:
    """The path by which a class is imported from the outermost package that names it: what survives a move."""
    name, packages = kind.__qualname__, kind.__module__.split(".")
    for number in range(1, len(packages)):
        package = sys.modules.get(".".join(packages[:number]))
        if package is not None and vars(package).get(name) is kind:
            return f"{package.__name__}.{name}"
    return f"{kind.__module__}.{name}"


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _typed(part: type, name: str, value: Any) -> Any:
    """An argument's value, made the dataclass that the constructor wants there if it is a dict of its fields."""
    if not isinstance(value, dict):
        return value
    wanted = get_type_hints(part.__init__).get(name)  # type: ignore[misc]
    for kind in (wanted, *get_args(wanted)):
        if inspect.isclass(kind) and dataclasses.is_dataclass(kind):
            fields = {field.name for field in dataclasses.fields(kind)}
            if unknown := set(value) - fields:
                raise UserError(
                    f"{part.__name__}.{name}: found {', '.join(sorted(unknown))}, expected {', '.join(sorted(fields))}"
                )
            return kind(**value)
    return value


def difference(ours: Any, theirs: Any) -> tuple[tuple[str, ...], Any, Any]:
    """Where two nested mappings first differ: the names that lead there, and what each has; None where it has none."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in [*ours, *theirs]:
            if ours.get(name) != theirs.get(name):
                where, one, other = difference(ours.get(name), theirs.get(name))
                return (str(name), *where), one, other
    return (), ours, theirs
