"""Files and folders that are written whole or not at all."""

import pytest

from vkd_pyro.utils.files import written, written_folder


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


def test_what_a_killed_writer_left_is_not_taken_over(tmp_path):
    (tmp_path / "a.unfinished").mkdir()
    (tmp_path / "a.unfinished" / "old").write_text("half")
    with written_folder(tmp_path / "a") as unfinished:
        (unfinished / "file").write_text("new")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("mine")
    with pytest.raises(OSError, match="not empty"), written_folder(tmp_path / "a"):
        pass
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]
