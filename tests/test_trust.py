"""Bundles that can be trusted: signatures, cards for the hub, bundles of the hub's cache, what is sent to it."""

import json
import os
import shutil
import subprocess
import urllib.error
from pathlib import Path

import pytest
import yaml

from tests.test_cli import refusal, vkd
from tests.test_predict import DATA, trained
from vkd_pyro import load_bundle
from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.artifacts.export import load_predictor
from vkd_pyro.artifacts.export.writing import export_bundle
from vkd_pyro.artifacts.hub import fetched, parsed
from vkd_pyro.artifacts.signing import MAKE_KEYS, SIGNATURE, sign, verify
from vkd_pyro.training.card import write_card
from vkd_pyro.training.posthoc import calibrate
from vkd_pyro.utils.errors import UserError

pytest.importorskip("model_signing", reason="the sign extra is not installed")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two pairs, made as the manual says."""
    folders = [tmp_path_factory.mktemp(name) for name in ("ours", "theirs")]
    for folder in folders:
        subprocess.run(MAKE_KEYS, shell=True, cwd=folder, check=True, capture_output=True)
    return folders


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, method = tmp_path_factory.mktemp("trust") / "bundle", trained(0)
    card = write_card(method, DATA, 0.5)
    save_bundle(folder, method.image_model, DATA.findings, DATA.transform, card, {}, calibrate(method, DATA))
    return folder


@pytest.fixture
def bundle(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "bundle"))


@pytest.fixture
def signed(bundle, keys):
    sign(bundle, keys[0] / "private.pem")
    return bundle


# ------------------------------------------------------------------------------------------ signatures


def test_a_folder_is_verified_by_a_path_from_here(signed, keys, monkeypatch):
    monkeypatch.chdir(signed.parent)
    verify(Path(signed.name), keys[0] / "public.pem")


def test_what_was_signed_is_verified_wherever_it_is_copied(signed, keys, tmp_path):
    verify(signed, keys[0] / "public.pem")
    copy = Path(shutil.copytree(signed, tmp_path / "elsewhere" / "another name"))
    verify(copy, keys[0] / "public.pem")
    assert load_bundle(copy, trusted_key=keys[0] / "public.pem").bundle_hash == load_bundle(signed).bundle_hash


def test_another_key_is_refused(signed, keys):
    with pytest.raises(UserError, match="its signature is damaged, or of another key; get it again from who signed it"):
        verify(signed, keys[1] / "public.pem")


TINY = ("--data.selection.corpus", "tests.conftest.TinyCorpus", "--num_samples", 2, "--page", "false")
SITE = ("--data.selection.corpus.init_args.num_studies", 200, "--resamples", 20)


def test_an_evaluation_reads_only_what_the_key_has_signed(signed, keys, tmp_path):
    ours, theirs = (("--trusted_key", folder / "public.pem") for folder in keys)
    assert "of another key" in refusal("evaluate", signed, *TINY, "--output", tmp_path / "no", *theirs)
    assert not (tmp_path / "no").exists()
    code, _, err = vkd("evaluate", signed, *TINY, "--output", tmp_path / "yes", *ours)
    assert code == 0, err
    assert (tmp_path / "yes" / "evaluation.json").is_file()
    (tmp_path / "run").mkdir()
    message = refusal("evaluate", tmp_path / "run", *ours)
    assert f"--trusted_key: {tmp_path / 'run'} is a run, which has no signature; give its bundle" in message


def test_a_changed_file_is_named(signed, keys):
    path = signed / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"not the files that were signed \(changed: weights.safetensors\)"):
        verify(signed, keys[0] / "public.pem")


def test_one_file_more_or_less_is_named(signed, keys):
    (signed / "more.txt").write_text("more")
    with pytest.raises(UserError, match=r"more: more\.txt"):
        verify(signed, keys[0] / "public.pem")
    (signed / "more.txt").unlink()
    (signed / "ood.safetensors").unlink()
    with pytest.raises(UserError, match=r"missing: ood\.safetensors"):
        verify(signed, keys[0] / "public.pem")


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_link_or_a_folder_in_it_is_refused(signed, keys, kind):
    (signed / "odd").symlink_to(signed / "config.json") if kind == "link" else (signed / "odd").mkdir()
    with pytest.raises(UserError, match="odd: a link, a folder or a device, which no bundle has"):
        verify(signed, keys[0] / "public.pem")


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "damaged, or of another key"),
        (b"{}", "damaged, or of another key"),
        (b"\xff" * 100, "damaged, or of another key"),
        (b"[" * 100_000, "damaged, or of another key"),
        (b"x" * (2 << 20), "more than 1,048,576 bytes"),
    ],
)
def test_a_damaged_signature_is_refused(signed, keys, content, wrong):
    (signed / SIGNATURE).write_bytes(content)
    with pytest.raises(UserError, match=wrong):
        verify(signed, keys[0] / "public.pem")


def test_a_file_that_who_signed_left_out_is_named(bundle, keys):
    from model_signing import hashing, signing

    ignored = [bundle / SIGNATURE, bundle / "README.md"]
    files = hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)
    signer = signing.Config().use_elliptic_key_signer(private_key=keys[0] / "private.pem").set_hashing_config(files)
    signer.sign(bundle, bundle / SIGNATURE)
    with pytest.raises(UserError, match=r"README\.md: not signed, since who signed left it out"):
        verify(bundle, keys[0] / "public.pem")


def test_a_signature_without_a_hint_of_its_key_is_refused(signed, keys, capfd):
    content = json.loads((signed / SIGNATURE).read_text())
    content["verificationMaterial"]["publicKey"]["hint"] = ""
    (signed / SIGNATURE).write_text(json.dumps(content))
    with pytest.raises(UserError, match="damaged, or of another key"):
        verify(signed, keys[0] / "public.pem")
    assert capfd.readouterr().out == ""


def test_what_is_loaded_is_what_was_verified(signed, keys, monkeypatch):
    """A file exchanged as soon as it is verified changes nothing of what is loaded."""
    from vkd_pyro.artifacts import signing

    before, whole = load_bundle(signed).bundle_hash, signing.verify

    def verified_then_exchanged(folder, key):
        whole(folder, key)
        (signed / "config.json").write_text("{}")

    monkeypatch.setattr(signing, "verify", verified_then_exchanged)
    assert load_bundle(signed, trusted_key=keys[0] / "public.pem").bundle_hash == before


def test_nothing_is_parsed_before_it_is_verified(bundle, keys, monkeypatch):
    monkeypatch.setattr("vkd_pyro.artifacts.bundle.read_config", lambda folder: pytest.fail("parsed"))
    with pytest.raises(UserError, match=r"not signed; expected model\.sig in it, as vkd sign writes"):
        load_bundle(bundle, trusted_key=keys[0] / "public.pem")


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_is_none_is_refused(bundle, keys, tmp_path, content):
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(UserError, match=r"key\.pem: not a key in PEM without a password; make keys by openssl"):
        sign(bundle, tmp_path / "key.pem")
    assert not (bundle / SIGNATURE).exists()
    with pytest.raises(UserError, match="No such file or directory; make keys by openssl"):
        sign(bundle, tmp_path / "none.pem")


def test_the_wrong_half_of_a_pair_is_refused(bundle, keys):
    with pytest.raises(UserError, match=r"public\.pem: a public key, expected a private one"):
        sign(bundle, keys[0] / "public.pem")
    sign(bundle, keys[0] / "private.pem")
    with pytest.raises(UserError, match=r"private\.pem: a private key, expected a public one"):
        verify(bundle, keys[0] / "private.pem")


def test_a_signature_is_not_replaced_in_silence(signed, keys):
    with pytest.raises(UserError, match="signed already; delete it to sign with another key"):
        sign(signed, keys[1] / "private.pem")


def test_an_export_is_signed_alike(bundle, keys, tmp_path):
    export_bundle(bundle, tmp_path / "export")
    sign(tmp_path / "export", keys[0] / "private.pem")
    load_predictor(tmp_path / "export", trusted_key=keys[0] / "public.pem")
    (tmp_path / "export" / "head.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"changed: head\.bin"):
        load_predictor(tmp_path / "export", trusted_key=keys[0] / "public.pem")


def test_the_commands(bundle, keys, tmp_path):
    from PIL import Image

    Image.fromarray(DATA.studies("test")[0].images[0]).save(tmp_path / "x.png")
    ask = ("predict", bundle, tmp_path / "x.png", "--num_samples", "5", "--trusted_key", keys[0] / "public.pem")
    assert "not signed" in refusal(*ask)
    code, out, err = vkd("sign", bundle, "--key", keys[0] / "private.pem")
    assert (code, err) == (0, "")
    assert out == f"written: {bundle / SIGNATURE}\n"
    assert vkd("verify", bundle, "--key", keys[0] / "public.pem") == (0, f"verified: {bundle}\n", "")
    code, out, err = vkd(*ask)
    assert code == 0, err
    assert "of another key" in refusal("verify", bundle, "--key", keys[1] / "public.pem")


# ------------------------------------------------------------------------------------------------ cards


def test_a_card_has_the_metadata_of_the_hub(made):
    _, head, text = (made / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["library_name"] == "vkd_pyro"
    assert metadata["pipeline_tag"] == "image-classification"
    assert metadata["datasets"] == ["tiny"]
    counts = DATA.count("train")
    for finding in DATA.findings:
        assert f"| {finding} | {counts['positive'][finding]} |" in text
    assert f"| patients | {counts['patients']} |" in text
    assert "Not a medical device" in text
    assert "patient-0" not in text


# ------------------------------------------------------------------------------------------------- hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(bundle, tmp_path, monkeypatch):
    """A cache as huggingface_hub lays it out: files by hash, links to them, the commit of a branch."""
    root = tmp_path / "hub"
    repository = root / "models--hospital--chest"
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    for folder in (snapshot, blobs, repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for number, path in enumerate(sorted(bundle.iterdir())):
        shutil.copyfile(path, blobs / f"{number:040d}")
        (snapshot / path.name).symlink_to(os.path.relpath(blobs / f"{number:040d}", snapshot))
    for module in ("huggingface_hub.constants", "huggingface_hub.file_download"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(root), raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return repository


@pytest.mark.parametrize("name", ["hf://hospital/chest", f"hf://hospital/chest@{COMMIT}", "hf://hospital/chest@main"])
def test_a_bundle_of_the_cache_loads_offline(bundle, cache, name):
    assert load_bundle(name).bundle_hash == load_bundle(bundle).bundle_hash
    assert load_predictor(Path(name)).bundle_hash == load_bundle(bundle).bundle_hash


def test_a_bundle_of_the_hub_is_evaluated_and_recalibrated(bundle, cache, tmp_path):
    assert "--output: not given, and hf:/hospital/chest is a bundle" in refusal(
        "evaluate", "hf://hospital/chest", *TINY
    )
    for name, given in (("here", bundle), ("there", "hf://hospital/chest")):
        code, _, err = vkd("evaluate", given, *TINY, "--output", tmp_path / name)
        assert code == 0, err
        code, _, err = vkd("recalibrate", given, *TINY[:4], *SITE, "--output", tmp_path / f"{name} fitted")
        assert code == 0, err
    ours, theirs = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("there", "here"))
    assert ours["findings"] == theirs["findings"]
    ours, theirs = (load_bundle(tmp_path / f"{name} fitted") for name in ("there", "here"))
    assert (ours.weights_hash, ours.calibration.to_json()) == (theirs.weights_hash, theirs.calibration.to_json())


def test_what_is_not_in_the_cache_is_not_asked_for(cache):
    with pytest.raises(UserError, match=r"other: config\.json: not in the hub's cache, and the hub is not asked"):
        load_bundle("hf://hospital/other")


def test_a_link_out_of_the_cache_is_refused(cache, tmp_path):
    (tmp_path / "secret").write_text("secret")
    link = cache / "snapshots" / COMMIT / "README.md"
    link.unlink()
    link.symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="leads out of the hub's cache"):
        load_bundle("hf://hospital/chest")


def test_a_signature_travels_with_it(signed, cache, keys):
    link = cache / "snapshots" / COMMIT / SIGNATURE
    if not link.exists():
        shutil.copyfile(signed / SIGNATURE, link)
    assert load_bundle("hf://hospital/chest", trusted_key=keys[0] / "public.pem").findings == DATA.findings
    with pytest.raises(UserError, match="of another key"):
        load_bundle("hf://hospital/chest", trusted_key=keys[1] / "public.pem")


def test_nothing_of_it_stays_behind(cache):
    with fetched("hf://hospital/chest", ("config.json",), ()) as folder:
        assert [path.name for path in folder.iterdir()] == ["config.json"]
        assert not (folder / "config.json").is_symlink()
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["hf://", "hf://one", "hf://a/b/c", "hf://../b", "hf://a/..", "hf://a/b@../c", "hf://a/b@"]
)
def test_names_that_are_none_are_refused(name):
    with pytest.raises(UserError, match="expected hf://owner/name or hf://owner/name@revision"):
        parsed(name)


class Api:
    """What `push` asks of huggingface_hub."""

    calls: list

    def create_repo(self, repository, **options):
        self.calls.append(("create", repository, options))

    def upload_folder(self, **options):
        self.calls.append(("upload", options))
        return "https://hub/commit/1"


def test_a_push_sends_the_files_of_the_bundle_alone(signed, monkeypatch):
    Api.calls = []
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    (signed / "notes.txt").write_text("of a patient")
    code, out, err = vkd("push", signed, "hospital/chest")
    assert code == 0, err
    assert Api.calls[0] == ("create", "hospital/chest", {"private": True, "exist_ok": True})
    sent = Api.calls[1][1]
    assert sorted(sent["allow_patterns"]) == [
        *("README.md", "config.json", "model.sig", "ood.safetensors", "weights.safetensors")
    ]
    assert "sending config.json, weights.safetensors" in out
    assert "sent: https://hub/commit/1" in out


def test_a_push_is_refused_where_nothing_may_be_asked(bundle, monkeypatch):
    Api.calls = []
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert "not asked unless HF_HUB_OFFLINE=0" in refusal("push", bundle, "hospital/chest")
    assert Api.calls == []


def test_what_the_hub_says_is_told(bundle, monkeypatch):
    class Refusing(Api):
        def create_repo(self, repository, **options):
            raise urllib.error.URLError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi", Refusing)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert "push: the hub refuses: <urlopen error no network>; log in by hf auth login" in refusal(
        "push", bundle, "hospital/chest"
    )
