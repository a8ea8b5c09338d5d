"""The house: who may import whom."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vkd_pyro"

FLOORS = [
    {"utils"},
    {"metrics", "distributions"},
    {"data", "encoders", "posthoc"},
    {"synthetic", "model", "guide", "elbo", "schedules", "sampling"},
    {"methods"},
    {"artifacts"},
    {"evaluation", "prediction", "explanations"},
    {"training", "reporting"},
    {"cli"},
]
"""A room imports from its own floor of this list, or from those above it here; nothing imports from a later one."""

IMAGE_CODE, TEXT_CODE = (
    {
        "encoders.image",
        "data.images.transforms",
        "data.images.dicom.header",
        "data.images.dicom.pixels",
        "explanations.images",
    },
    {"encoders.report", "data.report_text", "data.labels.labeller", "explanations.reports"},
)
IMAGE_LIBRARIES, TEXT_LIBRARIES = {"torchvision", "PIL", "pydicom"}, {"transformers", "spacy", "negspacy"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__").replace("__init__", "")


def imports(path: Path) -> set[str]:
    """Names of everything imported anywhere in a file: our modules without the package's name, libraries by theirs."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("vkd_pyro.") for name in found}


MODULES = {module_name(path): imports(path) for path in sorted(PACKAGE.rglob("*.py")) if module_name(path)}
OURS = {name: {i for i in found if i in MODULES and i != name} for name, found in MODULES.items()}


def floor(name: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if name.split(".")[0] in rooms:
            return number
    raise AssertionError(f"{name} is on no floor of the house")


@pytest.mark.parametrize("name", MODULES)
def test_nothing_imports_upwards(name):
    assert {i for i in OURS[name] if floor(i) > floor(name)} == set()


def test_no_circle_between_rooms():
    rooms: dict[str, set[str]] = {}
    for name, found in OURS.items():
        room = name.split(".")[0]
        rooms.setdefault(room, set()).update({i.split(".")[0] for i in found} - {room})
    assert set(graphlib.TopologicalSorter(rooms).static_order()) == set(rooms)


def test_image_code_and_text_code_are_apart():
    for name in IMAGE_CODE:
        assert not OURS[name] & TEXT_CODE
        assert not {i.split(".")[0] for i in MODULES[name]} & TEXT_LIBRARIES
    for name in TEXT_CODE:
        assert not OURS[name] & IMAGE_CODE
        assert not {i.split(".")[0] for i in MODULES[name]} & IMAGE_LIBRARIES


def test_the_objective_never_sees_the_model():
    assert "model" not in OURS["elbo"]


def test_nothing_imports_the_command_line():
    assert not any(
        i.split(".")[0] == "cli" for name, found in OURS.items() if name.split(".")[0] != "cli" for i in found
    )
