"""The house: who may import whom."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vkd_pyro"

LAYERS = [
    {"errors"},
    {"metrics", "distributions", "parts", "files", "calibration", "decisions", "novelty"},
    {"encoders.image", "encoders.report"},
    {"data"},
    {"model", "elbo"},
    {"rivals", "bundle", "checkpoints"},
    {"predictive", "outputs", "collapse", "callbacks", "run", "arms"},
    {"after_training", "trainer"},
    {"training", "explanations", "deployment", "export"},
    {"evaluation", "inspection", "figures", "page", "arviz_export"},
    {"assessment", "comparison"},
    {"evaluation_page", "showing"},
    {"cli"},
]
"""A module imports from its own layer of this list, or from those above; nothing imports upwards in it."""

IMAGE_CODE, TEXT_CODE = (
    {"encoders.image", "data.transforms", "data.dicom", "explanations.images"},
    {"encoders.report", "data.report_text", "data.labeller", "explanations.reports"},
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
            found |= {f"vkd_pyro.{a.name}" for a in node.names} if node.module == "vkd_pyro" else {node.module}
    return {name.removeprefix("vkd_pyro.") for name in found}


MODULES = {module_name(path): imports(path) for path in sorted(PACKAGE.rglob("*.py")) if module_name(path)}
OURS = {name: {i for i in found if i in MODULES} for name, found in MODULES.items()}


def layer(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if name in names or name.split(".")[0] in names:
            return number
    raise AssertionError(f"{name} is in no layer of the house")


@pytest.mark.parametrize("name", [name for name in MODULES if name != "encoders"])
def test_nothing_imports_upwards(name):
    assert {i for i in OURS[name] if i != "encoders" and layer(i) > layer(name)} == set()


def test_no_circle():
    order = list(graphlib.TopologicalSorter(OURS).static_order())
    assert set(order) == set(MODULES)


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
