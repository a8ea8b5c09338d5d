"""Signatures of bundles and exports, by model-signing (OpenSSF) with plain keys of an elliptic curve; no network.

BUNDLE/model.sig lies in the folder that it signs, so that it travels with it; it names each other file and its SHA-256.
A signature says that the holder of the key has signed these files, and nothing of how good the model is.
"""

import base64
import json
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vkd_pyro.artifacts.guard import MAX_WEIGHTS
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import written
from vkd_pyro.utils.reading import read_bytes
from vkd_pyro.utils.text import printable

SIGNATURE = "model.sig"
LARGEST_SIGNATURE, LARGEST_KEY = 1 << 20, 1 << 16
"""Bytes, at most: 1 MiB, 64 KiB."""
MAKE_KEYS = (
    "openssl ecparam -name prime256v1 -genkey -noout -out private.pem; "
    "openssl ec -in private.pem -pubout -out public.pem"
)


def sign(folder: Path, private_key: Path) -> Path:
    """Signs every file of a bundle or export, which must be one that loads. Returns: the path of the signature.

    Raises:
        UserError: it is signed already; or the key is none.
    """
    signature = folder.absolute() / SIGNATURE  # of a relative path the library makes another
    if signature.exists():
        raise UserError(f"{signature}: signed already; delete it to sign with another key")
    _check_files(folder)
    with _library(private_key, True) as (signing, _, hashing), TemporaryDirectory(prefix="vkd-sign-") as elsewhere:
        files = hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key).set_hashing_config(files)
        made = Path(elsewhere) / SIGNATURE
        signer.sign(folder, made)
        with written(signature, replace=False) as unfinished:
            unfinished.write_bytes(made.read_bytes())
    signature.chmod(0o644)
    return signature


def verify(folder: Path, public_key: Path) -> None:
    """Checks that each file is as the holder of the key has signed it, none is missing, and none is more.

    It reads hashes of the files alone, and parses nothing of what they say.

    Raises:
        UserError: there is no signature, or it is of another key, or of other files.
    """
    signature = folder.absolute() / SIGNATURE  # of a relative path the library makes another
    if not signature.is_file():
        raise UserError(f"{folder}: not signed; expected {SIGNATURE} in it, as vkd sign writes")
    content = read_bytes(signature, LARGEST_SIGNATURE)
    _check_files(folder)
    with _library(public_key, False) as (_, verifying, hashing):
        files = hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key).set_hashing_config(files)
        try:
            if not json.loads(content)["verificationMaterial"]["publicKey"]["hint"]:
                raise ValueError("no hint of the key")
            verifier.verify(folder, signature)
            signed = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
            names = {resource["name"] for resource in signed["predicate"]["resources"]}
        except Exception as error:  # of the library, of JSON, of cryptography: what is not verified is not trusted
            raise UserError(f"{folder}: {_said(error)}; get it again from who signed it") from None
    if left_out := {path.name for path in folder.iterdir()} - names - {SIGNATURE}:
        raise UserError(
            f"{folder}: {printable(', '.join(sorted(left_out)))[:200]}: not signed, since who signed left it out; get "
            "it again, with a signature of every file"
        )


@contextmanager
def verified_copy(folder: Path, public_key: Path) -> Iterator[Path]:
    """A copy of the folder that nobody else can write to, verified, as long as the block lasts: what is loaded of it is
    what was verified.

    Raises:
        UserError: as `verify`; or a file is larger than any of a bundle.
    """
    with TemporaryDirectory(prefix="vkd-verified-") as place:
        copy = Path(place)
        if not (folder / SIGNATURE).is_file():
            verify(folder, public_key)  # which says so
        _check_files(folder)
        for path in folder.iterdir():
            if (size := path.stat().st_size) > MAX_WEIGHTS:
                raise UserError(f"{path}: {size:,} bytes, more than the limit of {MAX_WEIGHTS:,}; get it again")
            shutil.copyfile(path, copy / path.name, follow_symlinks=False)
        try:
            verify(copy, public_key)
        except UserError as error:
            raise UserError(str(error).replace(str(copy), str(folder))) from None
        yield copy


def _said(error: Exception) -> str:
    text = one_line(error)
    if not text.startswith("Signature mismatch"):
        return "its signature is damaged, or of another key"
    changed = re.findall(r"Hash mismatch for \\?'([^'\\]+)", text)
    more, less = (re.findall(rf"{kind} files [^:]*: ([^\"]+)", text) for kind in ("Extra", "Missing"))
    parts = {"changed": changed, "more": more, "missing": less}
    told = "; ".join(f"{name}: {', '.join(found)}" for name, found in parts.items() if found)
    return f"not the files that were signed ({printable(told or text)[:200]})"


def _check_files(folder: Path) -> None:
    """Raises `UserError` where there is anything but files, which a bundle never has."""
    for path in folder.iterdir():
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UserError(f"{path}: a link, a folder or a device, which no bundle has; remove it")


@contextmanager
def _library(key: Path, private: bool) -> Iterator[tuple]:
    """The modules of model-signing; errors of the key are told in one line."""
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        raise UserError(f"signatures need {error.name}: pip install 'vkd-pyro[sign]'") from error
    try:
        content = read_bytes(key, LARGEST_KEY)
    except OSError as error:
        raise UserError(f"--key: {key}: {error.strerror}; make keys by {MAKE_KEYS}") from error
    try:
        found = load_pem_private_key(content, None) if b"PRIVATE" in content else load_pem_public_key(content)
    except (ValueError, TypeError) as error:
        raise UserError(f"--key: {key}: not a key in PEM without a password; make keys by {MAKE_KEYS}") from error
    if hasattr(found, "private_bytes") != private:
        kinds = ("private", "public") if private else ("public", "private")
        raise UserError(f"--key: {key}: a {kinds[1]} key, expected a {kinds[0]} one; make keys by {MAKE_KEYS}")
    yield signing, verifying, hashing
