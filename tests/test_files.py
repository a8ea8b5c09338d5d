"""Files and folders that are written whole or not at all."""

import errno
import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from safetensors import SafetensorError

from vkd_pyro.utils import files
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import private_folder, remove_unfinished, written, written_folder
from vkd_pyro.utils.reading import check_plain, read_json, read_text


def interrupted(whole, write):
    """Writes, and is killed before the end."""
    with whole as unfinished:
        write(unfinished)
        raise KeyboardInterrupt


def test_a_file_appears_when_it_is_complete(tmp_path):
    with written(tmp_path / "a") as unfinished:
        unfinished.write_text("new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_text() == "new"
    with pytest.raises(KeyboardInterrupt):
        interrupted(written(tmp_path / "a"), lambda unfinished: unfinished.write_text("other"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("empty", [False, True])
def test_a_folder_appears_when_it_is_complete(empty, tmp_path):
    folder = tmp_path / "deep" / "a"
    if empty:
        folder.mkdir(parents=True)
    with written_folder(folder) as unfinished:
        (unfinished / "file").write_text("new")
        assert not (folder / "file").exists()
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_an_error_leaves_no_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(written_folder(tmp_path / "a"), lambda unfinished: (unfinished / "file").write_text("half"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [written, written_folder])
def test_what_stands_under_a_temporary_name_is_not_touched(write, tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a.unfinished").symlink_to(tmp_path / "precious")
    (tmp_path / "b.unfinished").mkdir()
    for name in "ab":
        with write(tmp_path / name) as unfinished:
            assert unfinished.name not in ("a.unfinished", "b.unfinished")
    assert (tmp_path / "precious").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"precious", "a.unfinished", "b.unfinished", "a", "b"}


@pytest.mark.parametrize("write", [written, written_folder])
def test_a_temporary_name_that_is_taken_is_refused(write, tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "0" * 2 * size)
    taken = tmp_path / f".a.{'0' * 16}.unfinished"
    taken.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError), write(tmp_path / "a"):
        pass
    assert taken.is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    with written(tmp_path / "a") as one, written(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert (tmp_path / "a").read_text() == "one"  # the last to end


def test_a_file_that_another_has_written_meanwhile_is_kept(tmp_path):
    def late():
        with written(tmp_path / "a", replace=False) as unfinished:
            unfinished.write_text("late")
            (tmp_path / "a").write_text("first")

    with pytest.raises(UserError, match="a: something was put there meanwhile, and it is kept"):
        late()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "first"}


def killed_writer(path):
    """A process that leaves a file and a folder unfinished."""
    with written(path) as unfinished, written_folder(path.with_name("folder")) as folder:
        unfinished.write_text("half")
        (folder / "file").write_text("half")
        os._exit(1)


def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=killed_writer, args=(tmp_path / "a",))
    process.start()
    process.join()
    foreign = tmp_path / f".a.{'1' * 16}.unfinished"
    foreign.symlink_to(tmp_path / "elsewhere")
    assert len(list(tmp_path.iterdir())) == 3
    with written(tmp_path / "b") as unfinished, written_folder(tmp_path / "c") as folder:
        remove_unfinished(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {foreign.name, unfinished.name, folder.name}
    assert {path.name for path in tmp_path.iterdir()} == {foreign.name, "b", "c"}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_may_write_and_files_are_private(umask, tmp_path):
    before = os.umask(umask)
    try:
        with written(tmp_path / "a") as unfinished, written_folder(tmp_path / "b") as folder:
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (unfinished, folder)]
        private_folder(tmp_path / "c" / "d")
    finally:
        os.umask(before)
    assert modes == [0o600, 0o700]
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert found == {"a": 0o600, "b": 0o755 & ~umask, "c": 0o755 & ~umask}
    assert stat.S_IMODE((tmp_path / "c" / "d").stat().st_mode) == 0o700


def test_a_name_may_be_as_long_as_a_name_may_be(tmp_path):
    with written(tmp_path / ("a" * 255)) as unfinished:
        unfinished.write_text("new")
    assert (tmp_path / ("a" * 255)).read_text() == "new"


FULL = (
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EFBIG, "File too large"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
)


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("write", [written, written_folder])
def test_a_full_disk_is_one_line_and_leaves_nothing(write, error, tmp_path):
    def fail():
        with write(tmp_path / "a"):
            try:
                raise error
            finally:
                raise RuntimeError("unexpected pos 64 vs 0")  # as a library does that closes its file

    with pytest.raises(UserError, match=r"a: the disk is full \(.*\); make room and run again"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("mine")
    with pytest.raises(OSError, match="not empty"), written_folder(tmp_path / "a"):
        pass
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


def no_plain_files(folder):
    """A pipe, a device by a link, a folder: what would hang, or has no end."""
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "folder").mkdir()
    return [folder / name for name in ("pipe", "device", "folder")]


@pytest.mark.parametrize("read", [check_plain, read_text, lambda path: read_json(path, "")])
def test_only_plain_files_are_read(read, tmp_path):
    for path in no_plain_files(tmp_path):
        with pytest.raises(UserError, match=f"{path.name}: a folder, a pipe or a device, expected a plain file"):
            read(path)
    (tmp_path / "file").write_text("1")
    (tmp_path / "link").symlink_to("file")
    assert read(tmp_path / "link") == read(tmp_path / "file")


def test_text_is_utf8_and_of_a_size(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbf\xc3\x96dem")
    assert read_text(path) == "Ödem"
    with pytest.raises(UserError, match="file: more than 7 bytes, expected a small file"):
        read_text(path, largest=7)
    path.write_bytes(b"\xd6dem")
    with pytest.raises(UserError, match="file: not text in UTF-8"):
        read_text(path)


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "1" * 5000, '{"a": }'])
def test_json_that_is_none_is_one_line(content, tmp_path):
    path = Path(tmp_path / "file.json")
    path.write_text(content)
    with pytest.raises(UserError, match=r"file\.json: not readable as JSON \(.*\); put back a copy") as error:
        read_json(path, "put back a copy")
    assert "\n" not in str(error.value)
    path.write_text(json.dumps({"a": [1]}))
    assert read_json(path, "") == {"a": [1]}
