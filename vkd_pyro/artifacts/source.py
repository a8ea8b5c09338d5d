"""Classes of this package and their arguments as its source says them: nothing is imported, so it takes no time."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
CLASS = re.compile(r"^class ([A-Za-z]\w*)(?:\(([^)]*)\))?:", re.MULTILINE)
PLAIN = {"str", "int", "float", "bool", "Path", "Any", "dict", "list", "tuple", "Mapping", "Sequence", "Literal"}
"""Names in a type by which a word, or what has other keys than arguments, may be its value."""


@dataclass(frozen=True)
class Found:
    """A class in the source.

    Attributes:
        path: of its file.
        bases: names of the classes that it is made from.
    """

    path: Path
    bases: tuple[str, ...]


@cache
def classes() -> dict[str, Found | None]:
    """The public classes by name; None where several have the name."""
    found: dict[str, Found | None] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for name, bases in CLASS.findall(path.read_text(encoding="utf-8")):
            one = Found(path, tuple(re.findall(r"[A-Za-z_]\w*(?=\s*(?:,|\[|$))", re.sub(r"\[.*?\]", "", bases))))
            found[name] = None if name in found else one
    return found


def below(name: str) -> set[str]:
    """The class of this name, and those made from it."""
    found, before = {name}, set[str]()
    while found != before:
        before = set(found)
        found |= {other for other, one in classes().items() if one and found & set(one.bases)}
    return found


@cache
def arguments(name: str) -> dict[str, str | None] | None:
    """The arguments of a class, and of each the class of the package that its value is, or None.

    None in all where the source does not say: no such class, or it hands on what it is given to a class of others.
    """
    found = classes().get(name)
    if found is None:
        return None
    node = next(
        n
        for n in ast.parse(found.path.read_text(encoding="utf-8")).body
        if isinstance(n, ast.ClassDef) and n.name == name
    )
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = {
            n.target.id: _class_in(n.annotation)
            for n in node.body
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and "ClassVar" not in ast.unparse(n)
        }
        return (_of_bases(found) or {}) | fields
    made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    if not made:
        return _of_bases(found)
    given = made[0].args
    own = {a.arg: _class_in(a.annotation) for a in (*given.posonlyargs, *given.args[1:], *given.kwonlyargs)}
    if given.kwarg is None:
        return own
    above = _of_bases(found)
    return None if above is None else above | own


def _of_bases(found: Found) -> dict[str, str | None] | None:
    """The arguments that the first base with any hands down."""
    for base in found.bases:
        if (of_base := arguments(base)) is not None:
            return of_base
    return None


def _class_in(annotation: ast.expr | None) -> str | None:
    """The one class of the package in a type, e.g. Family of Callable[[int, int], Family] | None."""
    names = set(_names(annotation))
    ours = {name for name in names if name in classes()}
    return ours.pop() if len(ours) == 1 and not names & PLAIN - ({"int"} if "Callable" in names else set()) else None


def _names(annotation: ast.expr | None) -> Iterator[str]:
    for node in () if annotation is None else ast.walk(annotation):
        if isinstance(node, ast.Name):
            yield node.id
