"""Bundles on the Hugging Face hub: "hf://owner/name@revision".

Of a repository only a bundle's own files are fetched, into the hub's cache; a revision that is the hash of a commit
names the same files for ever. Nothing is asked of the hub unless HF_HUB_OFFLINE=0; what the cache has is used without.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vkd_pyro.artifacts.guard import MAX_WEIGHTS
from vkd_pyro.encoders.hub import ASK, may_be_asked
from vkd_pyro.utils.errors import UserError, one_line

SCHEME = "hf://"
NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def on_hub(name: str | Path) -> bool:
    """Whether it names a repository of the hub; `Path` makes one slash of two."""
    return str(name).startswith((SCHEME, SCHEME[:-1]))


@contextmanager
def fetched(name: str | Path, needed: Sequence[str], optional: Sequence[str]) -> Iterator[Path]:
    """A folder with the files of a bundle of the hub, as long as the block lasts: of the cache, or fetched to it.

    The cache holds links to files that are named by their hash. A bundle has no links, so here are the files
    themselves, without a copy where the file system allows that.

    Args: the name; files that must be there, and that may be.

    Raises:
        UserError: not such a name; nothing in the cache, and the hub may not be asked; or no bundle in the repository.
    """
    repository, revision = parsed(name)
    with TemporaryDirectory(prefix="vkd-hub-") as folder:
        commits = set()
        for file in (*needed, *optional):
            if (found := _file(repository, revision, file, file in needed)) is not None:
                _put(found, Path(folder) / file)
                commits.add(found.parent.name)
        if len(commits) > 1:
            raise UserError(f"{SCHEME}{repository}: changed while it was read; try again, best with @COMMIT behind it")
        yield Path(folder)


def parsed(name: str | Path) -> tuple[str, str | None]:
    """Owner/name and revision; raises `UserError` where it is no such name."""
    text = str(name)
    text = text if text.startswith(SCHEME) else text.replace("hf:/", SCHEME, 1)
    match = NAME.fullmatch(text)
    if match is None or ".." in text:
        raise UserError(
            f"{text[:80]!r}: found as the name of a bundle, expected hf://owner/name or hf://owner/name@revision"
        )
    return match[1], match[2]


def _file(repository: str, revision: str | None, file: str, needed: bool) -> Path | None:
    """A file of the cache, fetched to it where the hub may be asked; None where there is none, and it is not needed."""
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    name = f"{SCHEME}{repository}{f'@{revision}' if revision else ''}"
    try:
        if may_be_asked():
            url = hub.hf_hub_url(repository, file, revision=revision)
            size = hub.get_hf_file_metadata(url).size or 0
            if size > MAX_WEIGHTS:
                raise UserError(f"{name}: {file}: {size:,} bytes, more than the limit of {MAX_WEIGHTS:,}")
        return Path(hub.hf_hub_download(repository, file, revision=revision, local_files_only=not may_be_asked()))
    except LocalEntryNotFoundError:
        if not needed:
            return None
        raise UserError(
            f"{name}: {file}: not in the hub's cache, and the hub is not asked; set {ASK} to fetch it"
        ) from None
    except EntryNotFoundError:
        if not needed:
            return None
        raise UserError(f"{name}: no {file} in it; not a bundle of vkd_pyro") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(f"{name}: the hub gives no {file}: {one_line(error)[:200]}") from error


def _put(found: Path, place: Path) -> None:
    """The file that a link of the cache leads to, which must be of the same repository: snapshots/COMMIT/FILE in it."""
    real = found.resolve()
    if not real.is_relative_to(found.parents[2].resolve()):
        raise UserError(f"{found}: leads out of the hub's cache; delete it, and fetch it again")
    try:
        os.link(real, place)
    except OSError:  # another file system
        shutil.copyfile(real, place)


def push(folder: Path, repository: str, files: Sequence[str], private: bool = True, revision: str | None = None) -> str:
    """Sends files of a folder to a repository of the hub, which is made where it is not there.

    Args: the folder of a bundle; owner/name; which of its files; whether a new repository is private; the branch.
    Returns: the commit's address.

    Raises:
        UserError: no such name; the hub may not be asked, or refuses.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import HfHubHTTPError

    parsed(f"{SCHEME}{repository}")
    if not may_be_asked():
        raise UserError(f"push: sends the bundle to the hub, which is not asked unless {ASK}; set it for this command")
    try:
        api = hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(files),
            revision=revision,
            commit_message="A bundle of vkd_pyro",
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(f"push: the hub refuses: {one_line(error)[:200]}; log in by hf auth login") from error
    return str(getattr(commit, "commit_url", commit))
