"""Blocks of a large job: whoever writes them, in whatever order, and whoever is killed, the bytes are the same."""

import contextlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.test_cli import CONFIG, refusal, vkd
from tests.test_predict import DATA
from tests.test_store import SKIP, WORDS, Uneven, contents, refused, write_files
from tests.test_store import Files as FilesCorpus
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.selection import BadImages, Selection
from vkd_pyro.data.store import layout, prepare
from vkd_pyro.data.store.features import ImageFeatures
from vkd_pyro.encoders.frozen import FrozenImageEncoder
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.prediction import blocks
from vkd_pyro.utils import on_ray
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import written

ROOT = Path(__file__).parent.parent


@dataclass
class Backwards:
    """Carries out each block on its own, the last first, from pickles, as another process would.

    Attributes:
        most: so many blocks are written, then it dies.
        done: what was written, by kind or name.
    """

    most: int = 1000
    done: list = field(default_factory=list)

    def run(self, write, blocks, name, progress=True, network=False):
        for block in reversed(blocks):
            if len(self.done) == self.most:
                raise MemoryError
            pickle.loads(pickle.dumps(write))([pickle.loads(pickle.dumps(block))])
            self.done.append(block.path.name)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(layout, "SHARD", 7)


def write(folder, corpus, executor=None, encoder=WORDS, bad_images=None, features=None, **options):
    """A store of images of 16 pixels."""
    how = {"progress": False, "features": features, "executor": executor}
    return prepare(Selection(corpus, 16, **options), encoder, folder, bad_images, **how)


# ---------------------------------------------------------------------------------------------- prepare


def test_blocks_on_their_own_are_the_store_of_one_process(small_shards, tmp_path):
    backbone = FrozenImageEncoder(ConvEncoder((4, 8)))
    features = ImageFeatures(backbone.eval(), 2, Augmentation())
    executor = Backwards()
    counts = write(tmp_path / "blocks", Uneven(30), executor, features=features, views="all")
    assert counts == write(tmp_path / "whole", Uneven(30), features=features, views="all")
    assert contents(tmp_path / "blocks") == contents(tmp_path / "whole")
    assert len(executor.done) == 3 * 5  # images, features, reports


def test_blocks_that_are_written_are_not_written_again(small_shards, tmp_path):
    with pytest.raises(MemoryError):
        write(tmp_path / "blocks", Uneven(30), dying := Backwards(most=7))
    write(tmp_path / "blocks", Uneven(30), rest := Backwards())
    assert len(dying.done) == 7
    assert sorted(dying.done + rest.done) == sorted(
        f"{number:05d}.{kind}.arrow" for kind in ("images", "reports") for number in range(5)
    )
    write(tmp_path / "whole", Uneven(30))
    assert contents(tmp_path / "blocks") == contents(tmp_path / "whole")


def test_a_block_is_skipped_or_refused_as_by_one_process(small_shards, tmp_path):
    root = write_files(tmp_path / "corpus")
    (root / "study-0003.png").write_text("no image")
    for name, executor in (("whole", None), ("blocks", Backwards())):
        with refused(r"study-0003.png: "):
            write(tmp_path / name, FilesCorpus(root), executor)
        counts = write(tmp_path / name, FilesCorpus(root), executor, bad_images=SKIP)
        assert counts["studies"] == 29
    assert contents(tmp_path / "blocks") == contents(tmp_path / "whole")


# ---------------------------------------------------------------------------------------------- predict


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A folder of forty X-rays, two of them damaged."""
    root = tmp_path_factory.mktemp("many")
    for number, study in enumerate(DATA.studies("test")[:40]):
        Image.fromarray(study.images[0]).save(root / f"{number:02d}.png")
    for number in (0, 13):
        (root / f"{number:02d}.png").write_text("no image")
    return root


QUERY = ("--query", "Upper Square & ~Lower Square")
NUMBERS = ("--num_samples", "5", "--batch_size", "4", *QUERY)


def predicted(bundle, images, output, *options):
    """Exit code, what was said, and the bytes of what was written."""
    code, out, err = vkd("predict", bundle, images, "--output", output, *NUMBERS, *options)
    ours = [line for line in out.splitlines() if "(raylet)" not in line]  # which says that a worker was killed
    said = [line.replace(output.name, "OUT") for line in ours], [line for line in err.splitlines() if "vkd:" in line]
    return code, said, [path.read_bytes() for path in sorted(output.parent.glob(f"{output.name}*"))]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "IMAGES", 8)


@contextlib.contextmanager
def given(executor):
    """In the place of Ray."""
    yield executor


def test_predictions_in_blocks_are_those_of_one_process(bundle_folder, many, tmp_path, small_blocks, monkeypatch):
    monkeypatch.setattr(on_ray, "ray_executor", lambda *_: given(Backwards()))
    for suffix in ("csv", "json", "parquet"):
        whole = predicted(bundle_folder, many, tmp_path / f"whole.{suffix}")
        assert predicted(bundle_folder, many, tmp_path / f"blocks.{suffix}", "--executor", "ray") == whole
        assert whole[0] == 2
        assert len(whole[2]) == 3  # with the answers and the problems; no blocks any more


def test_studies_stay_together_whatever_their_size(bundle_folder, many, tmp_path, small_blocks, monkeypatch):
    table = tmp_path / "studies.csv"
    rows = [f"{path},{number // 3}" for number, path in enumerate(sorted(many.iterdir()))]
    table.write_text("\n".join(["image,study", *rows]))
    monkeypatch.setattr(on_ray, "ray_executor", lambda *_: given(Backwards()))
    whole = predicted(bundle_folder, many, tmp_path / "whole.csv", "--group", table)
    assert predicted(bundle_folder, many, tmp_path / "blocks.csv", "--group", table, "--executor", "ray") == whole


def test_predictions_go_on_and_refuse_blocks_of_another(bundle_folder, many, tmp_path, small_blocks, monkeypatch):
    dying, rest = Backwards(most=2), Backwards()
    monkeypatch.setattr(on_ray, "ray_executor", lambda *_: given(dying))
    with pytest.raises(MemoryError):
        predicted(bundle_folder, many, tmp_path / "blocks.csv", "--executor", "ray")
    assert not (tmp_path / "blocks.csv").exists()
    monkeypatch.setattr(on_ray, "ray_executor", lambda *_: given(rest))
    arguments = ("predict", bundle_folder, many, "--output", tmp_path / "blocks.csv", "--executor", "ray", *NUMBERS)
    other = refusal(*arguments, "--seed", "1")
    assert "blocks.csv.blocks: blocks of another prediction, with other uncertainty; delete it, or set that" in other
    found = predicted(bundle_folder, many, tmp_path / "blocks.csv", "--executor", "ray")
    assert sorted(dying.done + rest.done) == [f"{number:05d}.json" for number in range(5)]
    assert found[2] == predicted(bundle_folder, many, tmp_path / "whole.csv")[2]


def test_what_is_asked_wrongly_leaves_no_blocks(bundle_folder, many, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "ray_executor", lambda *_: given(Backwards()))
    arguments = ("predict", bundle_folder, many, "--output", tmp_path / "a.csv", "--executor", "ray")
    assert "level: found 2, expected between 0 and 1" in refusal(*arguments, "--level", "2")
    assert "no finding 'Nothing'" in refusal(*arguments, "--query", "Nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_block_is_named(bundle_folder, many, tmp_path, small_blocks, monkeypatch):
    class Damaging(Backwards):
        def run(self, write, blocks, *rest, **options):
            super().run(write, blocks, *rest, **options)
            blocks[1].path.write_text("[{}]")

    monkeypatch.setattr(on_ray, "ray_executor", lambda *_: given(Damaging()))
    arguments = ("predict", bundle_folder, many, "--output", tmp_path / "a.csv", "--executor", "ray", *NUMBERS)
    assert "00001.json: not as it was written; delete it, and run again" in vkd(*arguments)[2].splitlines()[-1]
    assert not (tmp_path / "a.csv").exists()


# ------------------------------------------------------------------------------------------------ options


def test_mistakes_are_one_line(bundle_folder, many, tmp_path, monkeypatch):
    command = ("predict", bundle_folder, many)
    assert "--executor ray: writes a file, and no pictures; give --output" in refusal(*command, "--executor", "ray")
    with_output = (*command, "--output", tmp_path / "a.csv")
    assert "--num_workers: of workers of Ray; give --executor ray too" in refusal(*with_output, "--num_workers", 2)
    monkeypatch.setitem(sys.modules, "ray", None)
    message = refusal(*with_output, "--executor", "ray")
    assert message == "vkd: Ray needs ray: pip install 'vkd-pyro[scale]'\n"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


# ---------------------------------------------------------------------------------------- Ray, two workers


@dataclass(frozen=True)
class Line:
    """A block that is a file with a number in it."""

    path: Path
    number: int


def write_lines(lines, once: Path, always: int = -1):
    """Kills its process in the middle of the file of line 2, the first time; of one line, always."""
    for line in lines:
        with written(line.path) as unfinished:
            unfinished.write_text(f"{line.number}, half")
            if line.number == always or (line.number == 2 and not once.exists()):
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if line.number == 5:
                warnings.warn("the fifth", stacklevel=2)
            if line.number in (7, 8):
                raise UserError(f"line {line.number} is bad")
            unfinished.write_text(f"{line.number}, whole")


def lines_of(folder, *numbers):
    return [Line(folder / str(number), number) for number in numbers]


def ray_processes():
    """Processes of workers below this one, which Ray names by what they do."""
    found, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(path.name)] = int(path.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1])
            found[int(path.name)] = path.joinpath("cmdline").read_bytes().decode(errors="replace")

    def is_below(pid):
        while pid > 1:
            pid = parents.get(pid, 0)
            if pid == os.getpid():
                return True
        return False

    return [pid for pid, name in found.items() if name.startswith("ray::") and "Map" in name and is_below(pid)]


@pytest.fixture(scope="module")
def workers():
    """Two workers of Ray, for all tests."""
    pytest.importorskip("ray")
    with on_ray.ray_executor(2) as executor:
        yield executor


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_block_begun_again(workers, tmp_path):
    once = tmp_path / "once"
    with pytest.warns(UserWarning, match="the fifth"):
        workers.run(partial(write_lines, once=once), lines_of(tmp_path, 0, 1, 2, 3, 4, 5), "lines", False)
    assert once.exists()
    assert [(tmp_path / str(number)).read_text() for number in range(6)] == [f"{n}, whole" for n in range(6)]
    with refused("line 7 is bad"):  # the first, whoever is earlier
        workers.run(partial(write_lines, once=once), lines_of(tmp_path, 6, 7, 8), "lines", False)
    with refused("--executor ray: a process that writes lines died 4 times at one block"):
        workers.run(partial(write_lines, once=once, always=9), lines_of(tmp_path, 9), "lines", False)


@pytest.mark.slow
def test_a_store_by_ray_is_that_of_one_process_though_a_worker_is_killed(workers, small_shards, tmp_path):
    killed = threading.Thread(target=kill_at_first_file, args=(tmp_path / "ray", "*.images.arrow"))
    killed.start()
    counts = write(tmp_path / "ray", Uneven(200), workers, views="all")
    killed.join(timeout=60)
    assert KILLED.pop()
    assert counts == write(tmp_path / "whole", Uneven(200), views="all")
    assert contents(tmp_path / "ray") == contents(tmp_path / "whole")


KILLED: list[int] = []


def kill_at_first_file(folder, pattern):
    """Kills a worker when the first file of a folder is there."""
    for _ in range(6000):
        if any(folder.glob(pattern)) and (found := ray_processes()):
            os.kill(found[0], signal.SIGKILL)
            KILLED.append(found[0])
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_predictions_by_ray_are_those_of_one_process(workers, bundle_folder, many, tmp_path, small_blocks, monkeypatch):
    monkeypatch.setattr(on_ray, "ray_executor", lambda *_: given(workers))
    killer = threading.Thread(target=kill_at_first_file, args=(tmp_path / "ray.csv.blocks", "*.json"))
    killer.start()
    by_ray = predicted(bundle_folder, many, tmp_path / "ray.csv", "--executor", "ray", "--num_workers", "2")
    killer.join(timeout=60)
    assert KILLED.pop()
    assert by_ray == predicted(bundle_folder, many, tmp_path / "whole.csv")


@pytest.mark.slow
def test_a_damaged_file_is_refused_by_ray_as_by_one_process(workers, small_shards, tmp_path):
    session = max(Path(tempfile.gettempdir()).glob("vkd-ray-*"), key=lambda path: path.stat().st_mtime_ns)
    assert session.stat().st_mode & 0o777 == 0o700
    root = write_files(tmp_path / "corpus")
    for number in (9, 25):
        (root / f"study-{number:04d}.png").write_text("no image")
    messages = []
    for name, executor in (("ray", workers), ("whole", None)):
        with refused(r"study-0009.png: ") as error:
            write(tmp_path / name, FilesCorpus(root), executor)
        messages.append(str(error))
        write(tmp_path / name, FilesCorpus(root), executor, bad_images=BadImages("skip", 0.5))
    assert contents(tmp_path / "ray") == contents(tmp_path / "whole")
    logs = [path.read_text(errors="replace") for path in session.glob("**/logs/**/*") if path.is_file()]
    assert len(logs) > 5
    assert not any("study-00" in log or "radiologist sees" in log for log in logs)


@pytest.mark.slow
def test_the_command_that_was_killed_goes_on(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG)
    tiny = ("--config", tmp_path / "c.yaml", "--data.selection.corpus.init_args.num_studies", "3000")
    by_ray = (*tiny, "--output", tmp_path / "ray", "--executor", "ray", "--num_workers", "2")
    command = [sys.executable, "-m", "vkd_pyro.cli", "prepare", *map(str, by_ray)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    others = set(Path(tempfile.gettempdir()).glob("vkd-ray-*"))
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not any((tmp_path / "ray").glob("*.arrow")):
            time.sleep(0.005)
        process.kill()
    for folder in set(Path(tempfile.gettempdir()).glob("vkd-ray-*")) - others:
        shutil.rmtree(folder, ignore_errors=True)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "ray").glob("*.arrow")}
    assert before
    assert not (tmp_path / "ray" / "store.json").exists()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "prepared: " in done.stdout
    assert all((tmp_path / "ray" / name).stat().st_mtime_ns == then for name, then in before.items())
    assert vkd("prepare", *tiny, "--output", tmp_path / "whole")[0] == 0
    ray, whole = contents(tmp_path / "ray"), contents(tmp_path / "whole")
    assert ray.keys() == whole.keys()
    assert {name for name in ray if ray[name] != whole[name]} == {"config.yaml"}  # which names its store
