"""Bundles, exports and checkpoints of strangers: loaded, or refused in one line; nothing is imported, run or filled."""

import importlib.util
import resource
import shutil
import sys
import time
import warnings

import pytest

from tests import mutants
from tests.test_bundle import FINDINGS, make_model
from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.artifacts.checkpoints import resumption_of
from vkd_pyro.artifacts.export import load_export
from vkd_pyro.artifacts.run import load_checkpoint
from vkd_pyro.methods.base import Method
from vkd_pyro.utils.errors import UserError

SECONDS, BYTES = 10, 1.5 * 2**30
OPENVINO = importlib.util.find_spec("openvino") is not None
KINDS = ("bundle", "other", "run", *(["export"] if OPENVINO else []))
RUNS = ("import", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
"""What Python tells an audit hook of that would be code of someone else's, or on the way to it."""

OWN = {"vkd_pyro", "torch", "numpy", "torchvision", "pyro", "scipy", "sklearn", "zuko", "safetensors", "openvino"}
OWN |= set(sys.stdlib_module_names)
"""What may be imported while a mutant is loaded, if none named it: this package, and what it is built on."""

NAMED = {module.partition(".")[0] for module in mutants.NAMED}
SEEN: list[tuple[str, str]] = []
WATCHING: list[bool] = []


def watch(event: str, arguments: tuple) -> None:
    if WATCHING and event in RUNS:
        SEEN.append((event, str(arguments[0])[:200]))


sys.addaudithook(watch)  # there is no way to remove one, so it looks only where a test says so


def load(kind, folder):
    if kind == "export":
        return load_export(folder)
    if kind == "run":
        load_checkpoint(Method(FINDINGS, make_model()), folder, parts=("model.",))
        return resumption_of(folder / "checkpoints" / "best.ckpt")
    return load_bundle(folder)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """What mutants are made of; each is loaded once, so that what it imports of its own is there."""
    root = tmp_path_factory.mktemp("whole")
    mutants.make(root, with_export=OPENVINO)
    for kind in KINDS:
        load(kind, root / kind)
    return root


def check(whole, kind, number, folder, monkeypatch):
    """Loads a mutant as someone would who works in the folder it lies in. Returns: how it was made, and the refusal."""
    way = mutants.mutant(whole, kind, number, folder)
    monkeypatch.syspath_prepend(str(folder))
    SEEN.clear()
    WATCHING.append(True)
    start, refusal = time.monotonic(), ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(kind, folder)
    except UserError as error:
        refusal = str(error)
    finally:
        WATCHING.clear()
        taken = time.monotonic() - start
        monkeypatch.undo()
    name = f"{kind} {number} ({way})"
    assert taken < SECONDS, name
    assert len(refusal.splitlines()) <= 1, name
    assert len(refusal) < 1500, name
    assert not refusal or str(folder) in refusal, f"{name}: {refusal}"
    own = [each for each in SEEN if each[0] == "import" and each[1].partition(".")[0] in OWN - NAMED]
    assert set(SEEN) <= set(own), name
    shutil.rmtree(folder)
    return way, refusal


def check_all(whole, numbers, tmp_path, monkeypatch):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    loaded, refused = [], []
    for kind in KINDS:
        for number in numbers:
            way, refusal = check(whole, kind, number, tmp_path / f"{kind}-{number}", monkeypatch)
            (refused if refusal else loaded).append((kind, way))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert grown < BYTES / 2
    return loaded, refused


def test_some_mutants_are_loaded_or_refused_in_one_line(whole, tmp_path, monkeypatch):
    loaded, refused = check_all(whole, range(24), tmp_path, monkeypatch)
    assert len(refused) > len(loaded) > 0


@pytest.mark.slow
def test_hundreds_of_mutants_are_loaded_or_refused_in_one_line(whole, tmp_path, monkeypatch):
    loaded, refused = check_all(whole, range(24, 324), tmp_path, monkeypatch)
    assert {kind for kind, _ in refused} == set(KINDS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < BYTES
    assert len(refused) > len(loaded) > 0
