"""The house: who may import whom."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vkd_pyro"

FLOORS = """
__main__
cli
tuning
training reporting serving
evaluation prediction
artifacts explanations
methods
model guide
elbo sampling synthetic
distributions encoders schedules posthoc metrics
data
utils
"""
"""The contract: what stands on a line may import from the lines below it, and from nothing else. The paper is in the
middle: what it is made of below, what is done with it above."""

IMAGE_CODE, TEXT_CODE = (
    {
        "encoders.image",
        "data.images.transforms",
        "data.images.image_transform",
        "data.images.raster",
        "data.images.dicom.header",
        "data.images.dicom.pixels",
        "explanations.images",
    },
    {"encoders.report", "data.reports", "data.labels.labeller", "explanations.reports"},
)
IMAGE_LIBRARIES, TEXT_LIBRARIES = {"torchvision", "PIL", "pydicom"}, {"transformers"}


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


HEIGHT = {room: number for number, rooms in enumerate(reversed(FLOORS.split("\n"))) for room in rooms.split()}


def room_of(name: str) -> str:
    return name.split(".")[0]


def test_every_room_is_on_a_floor():
    assert {room_of(name) for name in MODULES} == set(HEIGHT)


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_from_below_alone(name):
    own = room_of(name)
    wrong = {i for i in OURS[name] if room_of(i) != own and HEIGHT[room_of(i)] >= HEIGHT[own]}
    assert wrong == set()


def test_no_file_imports_in_a_circle():
    assert set(graphlib.TopologicalSorter(OURS).static_order()) == set(MODULES)


def test_the_paper_is_what_one_sees_first():
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert files == {"model", "guide", "elbo", "schedules", "sampling"}


def test_image_code_and_text_code_are_apart():
    for name in IMAGE_CODE:
        assert not OURS[name] & TEXT_CODE
        assert not {i.split(".")[0] for i in MODULES[name]} & TEXT_LIBRARIES
    for name in TEXT_CODE:
        assert not OURS[name] & IMAGE_CODE
        assert not {i.split(".")[0] for i in MODULES[name]} & IMAGE_LIBRARIES


def files_without_encoding(path: Path) -> list[int]:
    """Lines of a file in which text is read or written in whatever encoding the locale has."""
    lines = []
    for call in (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        of = getattr(getattr(call.func, "value", None), "id", "")
        said = [one.value for one in ast.walk(call) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        modes = [text for text in said if re.fullmatch("[rwaxbt+]{1,3}", text)]
        binary = name == "open" and (any("b" in mode for mode in modes) or of in ("Image", "tarfile", "zipfile", "os"))
        method = isinstance(call.func, ast.Attribute)  # `read_text` alone is that of utils.reading
        if (method and name in ("read_text", "write_text")) or (name == "open" and not binary):
            lines += [call.lineno] * ("encoding" not in {keyword.arg for keyword in call.keywords})
    return lines


def test_every_text_file_is_utf_8_in_any_locale(tmp_path):
    (tmp_path / "a.py").write_text("p.read_text()\nopen('x', 'w')\np.open('rb')\nImage.open(p)\n", encoding="utf-8")
    assert files_without_encoding(tmp_path / "a.py") == [1, 2]
    own = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "scripts").rglob("*.py")]
    found = {path.name: lines for path in own if (lines := files_without_encoding(path))}
    assert found == {"fetching.py": found["fetching.py"]}  # of a web page
    assert len(found["fetching.py"]) == 1


def test_scripts_import_only_what_is_public():
    for path in (PACKAGE.parent / "scripts").rglob("*.py"):
        lines = re.findall(r"^\s*from vkd_pyro.*", path.read_text(), re.MULTILINE)
        assert not [line for line in lines if re.search(r"[. ]_[a-z]|vkd_pyro\.cli\.", line)], path.name
