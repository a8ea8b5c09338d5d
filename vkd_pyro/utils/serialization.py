"""Parts that can say how to build their like: they keep their constructor's arguments as attributes."""

import importlib
import inspect
from typing import Any

from vkd_pyro.utils.errors import UserError


def describe(part: object) -> dict[str, Any]:
    """{"class_path", "init_args"} of a part.

    Raises:
        UserError: an argument is not kept as an attribute.
    """
    names = inspect.signature(type(part)).parameters
    class_path = f"{type(part).__module__}.{type(part).__qualname__}"
    if missing := [name for name in names if not hasattr(part, name)]:
        raise UserError(
            f"{class_path}: no attribute {missing[0]}; a part keeps its constructor's arguments as attributes, "
            f"so that it can be built again: add self.{missing[0]} = {missing[0]}"
        )
    return {"class_path": class_path, "init_args": {name: getattr(part, name) for name in names}}


def build(description: dict[str, Any], base: type, **changed: Any) -> Any:
    """The part that `describe` described, which must be a `base`; arguments that it has may be changed.

    Raises:
        UserError: there is no such class, or it is none of the base.
    """
    module, _, name = description["class_path"].rpartition(".")
    try:
        part = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{description['class_path']}: not found; install the package the model was made with"
        ) from error
    if not (inspect.isclass(part) and issubclass(part, base)):
        raise UserError(f"{description['class_path']}: found {part!r}, expected a subclass of {base.__name__}")
    arguments = description["init_args"]
    return part(**(arguments | {name: value for name, value in changed.items() if name in arguments}))
