"""The prepared store: equal to the files, whole or gone on with, and refused where it is of something else."""

import contextlib
import io
import json
import math
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image

from tests.conftest import TinyCorpus, study_data
from tests.test_cli import CONFIG, vkd
from tests.test_encoders import write_bert
from vkd_pyro.data.doctor import examine
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.labels.policy import LabelPolicy
from vkd_pyro.data.reports import ReportText
from vkd_pyro.data.selection import BadImages, Selection, reindex_labels
from vkd_pyro.data.store import Store, layout, prepare
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.encoders.report import LanguageModelEncoder, WordEncoder
from vkd_pyro.synthetic.layouts import synthesize
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import sha256_of, write_signed_json

WORDS = WordEncoder(64, 8)
PHRASES = ("clear lungs", "no pneumothorax", "large heart", "heart no clear lungs pneumothorax")
SKIP = BadImages("skip", max_share=0.5)


class Uneven(TinyCorpus):
    """One to three images a study, of several sizes and views; every fourth study has no report."""

    def studies(self):
        return [self._uneven(number, study) for number, study in enumerate(super().studies())]

    def _uneven(self, number, study):
        generator = np.random.default_rng(number)
        count = 1 + number % 3
        images = [generator.integers(0, 255, (20 + 7 * i, 30 - number % 5), dtype=np.uint8) for i in range(count)]
        labels = generator.choice(np.array([1, 0, -1, -2, np.nan], np.float32), len(self.findings))
        text = " ".join(generator.choice(PHRASES, 1 + number % 5))
        return Study(
            study.study_id,
            study.patient_id,
            tuple(images),
            ("frontal", "lateral", "unknown")[:count],
            {"findings": text, "impression": PHRASES[number % 4]} if number % 4 else {},
            labels,
            study.split,
        )


class OtherClass(Uneven):
    """The same studies by another reader."""


class Files(Corpus):
    """The studies that `write_files` wrote."""

    name = "files"
    findings = TinyCorpus.findings

    def __init__(self, root: Path) -> None:
        self.root = root

    def studies(self):
        table = json.loads((self.root / "studies.json").read_text())
        return [
            Study(
                name, name, (self.root / f"{name}.png",), ("frontal",), {"report": text}, np.array(labels, "f4"), split
            )
            for name, text, labels, split in table
        ]


def write_files(root, num_studies=30):
    root.mkdir()
    studies = TinyCorpus(num_studies).studies()
    for study in studies:
        Image.fromarray(study.images[0]).save(root / f"{study.study_id}.png")
    rows = [[s.study_id, s.report["report"], s.labels.tolist(), s.split] for s in studies]
    (root / "studies.json").write_text(json.dumps(rows))
    return root


def write(folder, corpus, encoder=WORDS, bad_images=None, **options):
    """A store of a corpus, with images of 16 pixels."""
    selection = Selection(corpus, options.pop("image_size", 16), **options)
    return prepare(selection, encoder, folder, bad_images, progress=False)


def data_of(corpus, folder=None, **options):
    return study_data(corpus, **({"image_size": 16, "batch_size": 4, "store": folder} | options))


def contents(folder):
    """Of every file of a store, its bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@contextlib.contextmanager
def refused(match):
    """`UserError` of one line that matches."""
    with pytest.raises(UserError, match=match) as error:
        yield
    assert "\n" not in str(error.value)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(layout, "SHARD", 7)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), seed=0)


def bert_encoder(folder, **arguments):
    return LanguageModelEncoder(str(folder), **({"max_tokens": 20} | arguments))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A store of `Uneven(40)`, not to be changed."""
    folder = tmp_path_factory.mktemp("store") / "uneven"
    write(folder, Uneven(40))
    return folder


# -------------------------------------------------------------------------------- equal to the files


def assert_same_batches(expected, found, tolerance=0.0):
    expected, found = list(expected), list(found)
    assert len(expected) == len(found) > 0
    for one, other in zip(expected, found, strict=True):
        assert one.study_ids == other.study_ids
        for name in ("images", "labels", "known", "report_mask", "has_report"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert one.report.dtype == other.report.dtype
        assert torch.allclose(one.report, other.report, rtol=tolerance, atol=tolerance / 100)


def assert_same_data(raw, stored, encoder, tolerance=0.0):
    assert raw.summary() == stored.summary()
    loaders = [data.train_loader(encoder, seed=3) for data in (raw, stored)]
    for epoch in range(3):
        for loader in loaders:
            loader.batch_sampler.set_epoch(epoch)
        assert_same_batches(*loaders, tolerance)
    for split in ("validation", "test"):
        assert_same_batches(*(data.evaluation_loader(split, encoder) for data in (raw, stored)), tolerance)


@pytest.mark.parametrize("views", ["frontal", "all"])
@pytest.mark.parametrize("corpus", [TinyCorpus(40), Uneven(40)], ids=["one image", "several images"])
def test_batches_from_a_store_are_those_from_the_files(corpus, views, small_shards, tmp_path):
    write(tmp_path / "store", corpus, views=views)
    raw, stored = (
        data_of(corpus, folder, views=views, augmentation=Augmentation(), train_policy=LabelPolicy("soft"))
        for folder in (None, tmp_path / "store")
    )
    assert_same_data(raw, stored, WORDS)
    assert_same_data(raw, stored, None)


@pytest.mark.parametrize("cache", [True, False], ids=["embeddings", "tokens"])
def test_reports_of_a_language_model_are_those_from_the_files(cache, bert, small_shards, tmp_path):
    encoder = bert_encoder(bert, cache=cache)
    write(tmp_path / "store", Uneven(40), encoder)
    raw, stored = data_of(Uneven(40)), data_of(Uneven(40), tmp_path / "store")
    # Beside other reports the language model rounds otherwise: at most a unit of float16's last place.
    assert_same_data(raw, stored, encoder, tolerance=2**-10 if cache else 0.0)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_worker_processes_read_the_store_themselves(start_method, tmp_path):
    corpus = TinyCorpus(layout.SHARD + 40)  # two shards
    write(tmp_path / "store", corpus)
    sizes = {"batch_size": 32, "augmentation": Augmentation()}
    raw = data_of(corpus, **sizes).train_loader(WORDS, seed=0)
    by_workers = data_of(corpus, tmp_path / "store", num_workers=2, **sizes).train_loader(WORDS, seed=0)
    by_workers.multiprocessing_context = start_method
    assert_same_batches(raw, by_workers)


def test_what_is_sent_to_a_worker_process_holds_no_image(uneven):
    assert len(pickle.dumps(Store(uneven))) < 500
    data = data_of(Uneven(40), uneven)
    dataset = data.evaluation_loader("train", WORDS).dataset
    sent = pickle.dumps(dataset)
    assert len(sent) < 4000 < sum(study.images[0].nbytes for study in dataset.studies)
    for original, copied in zip(dataset.studies, pickle.loads(sent).studies, strict=True):
        assert np.array_equal(original.images[0], copied.images[0])


def test_images_of_a_store_cannot_be_written_to(uneven):
    with pytest.raises(ValueError, match="read-only"):
        Store(uneven).studies[0].images[0][:] = 0


@pytest.mark.filterwarnings("ignore:never (known|positive|absent) in training")
def test_a_model_trained_from_a_store_is_that_trained_from_the_files(tmp_path):
    synthesize("mimic-cxr", tmp_path / "corpus", num_studies=60, image_size=16)
    config = yaml.safe_load(CONFIG)
    corpus = {"class_path": "vkd_pyro.data.corpora.mimic_cxr.MimicCXR", "init_args": {"root": str(tmp_path / "corpus")}}
    config["data"]["selection"] |= {"corpus": corpus, "image_size": 16}
    config["training"]["max_epochs"] = 1
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    options = ("--config", tmp_path / "config.yaml")
    for command in (
        ("prepare", *options, "--output", tmp_path / "store"),
        ("train", *options, "--run", tmp_path / "raw"),
        ("train", *options, "--run", tmp_path / "stored", "--data.loading.store", tmp_path / "store"),
    ):
        code, _, err = vkd(*command)
        assert code == 0, err
    raw, stored = (
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in ("raw", "stored")
    )
    assert raw.keys() == stored.keys()
    assert all(torch.equal(raw[name], stored[name]) for name in raw if isinstance(raw[name], torch.Tensor))
    assert (tmp_path / "raw" / "metrics.csv").read_text() == (tmp_path / "stored" / "metrics.csv").read_text()
    assert (tmp_path / "raw" / "data.json").read_text() == (tmp_path / "stored" / "data.json").read_text()


# -------------------------------------------------------------------------------------- sex and age


class Told(Uneven):
    """With sex and age of some."""

    def studies(self):
        return [
            replace(study, sex=("female", "male", "unknown")[n % 3], age=math.nan if n % 4 == 0 else 20.5 + n)
            for n, study in enumerate(super().studies())
        ]


def people(studies):
    return [(study.study_id, study.sex, str(study.age)) for study in studies]


def test_a_store_keeps_sex_and_age(small_shards, tmp_path):
    write(tmp_path / "store", Told(40))
    found = people(Store(tmp_path / "store").studies)
    assert found == people(Told(40).studies())
    assert {sex for _, sex, _ in found} == {"female", "male", "unknown"}
    raw, stored = data_of(Told(40)), data_of(Told(40), tmp_path / "store")
    for split in ("train", "validation", "test"):
        assert people(stored.studies(split)) == people(raw.studies(split))


def test_a_corpus_that_tells_another_sex_or_age_is_another(tmp_path, monkeypatch):
    write(tmp_path / "store", Told(40))
    monkeypatch.setattr(Told, "studies", Uneven.studies)
    with refused("the corpus has changed since this store was begun"):
        write(tmp_path / "store", Told(40))


# ------------------------------------------------------------------------------------------- killed


def prepare_slowly(folder, connection):
    """In a process of its own: some seconds for few images, most of it with an unfinished file."""
    read, prepared, written = ImageTransform.__call__, WordEncoder.prepare, layout.written

    def slowly(function, *arguments):
        time.sleep(0.01)
        return function(*arguments)

    @contextlib.contextmanager
    def written_slowly(path):
        with written(path) as unfinished:
            yield unfinished
            time.sleep(0.03)

    layout.SHARD, layout.written = 2, written_slowly
    ImageTransform.__call__ = lambda *arguments: slowly(read, *arguments)
    WordEncoder.prepare = lambda *arguments: slowly(prepared, *arguments)
    connection.send("begins")
    write(folder, Uneven(60), views="all")


@pytest.fixture(scope="module")
def writers():
    """Starts writers, each a fresh process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_store"])

    def start(folder):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=prepare_slowly, args=(folder, sender))
        process.start()
        sender.close()
        assert receiver.recv() == "begins"
        return process

    return start


def test_a_killed_writer_goes_on(writers, tmp_path, monkeypatch):
    generator, folder = random.Random(0), tmp_path / "killed"
    half_written, unfinished, written = 0, 0, {}
    for _ in range(40):
        if half_written >= 3 and unfinished >= 1:
            break
        process = writers(folder)
        time.sleep(generator.uniform(0.0, 0.5))
        process.kill()
        process.join()
        found = {path.name: path.stat() for path in folder.glob("*.arrow")}
        half_written += len(found) > 0 and not (folder / layout.COMPLETE).exists()
        unfinished += any(folder.glob("*.unfinished"))
        assert written.keys() <= found.keys()  # what was complete is not written again
        assert all(found[name].st_mtime_ns == stat.st_mtime_ns for name, stat in written.items())
        written = found
    assert half_written >= 3
    assert unfinished >= 1
    monkeypatch.setattr(layout, "SHARD", 2)
    counts = write(folder, Uneven(60), views="all")
    assert counts == write(tmp_path / "whole", Uneven(60), views="all")
    assert len(list(folder.glob("*.images.arrow"))) == 30
    assert contents(folder) == contents(tmp_path / "whole")
    assert not any(folder.glob("*.unfinished"))


def test_a_store_that_is_being_written_has_no_reader_and_no_second_writer(writers, tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "SHARD", 2)
    process = writers(tmp_path / "store")
    try:
        while process.is_alive() and not any((tmp_path / "store").glob("*.arrow")):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGSTOP)  # it holds what it holds
        message = r"store: not complete \(of 30 shards \d+ of images, \d+ of reports\); run the same vkd prepare again"
        with refused(message):
            Store(tmp_path / "store")
        with refused("store: another vkd prepare is writing to it; wait until it has ended"):
            write(tmp_path / "store", Uneven(60), views="all")
    finally:
        process.kill()
        process.join()


def test_a_complete_store_is_not_written_again(tmp_path):
    write(tmp_path / "store", Uneven(40))
    reader = data_of(Uneven(40), tmp_path / "store").evaluation_loader("test", WORDS)
    before = list(reader)

    def stats():
        files = (path for path in (tmp_path / "store").iterdir() if path.name != ".lock")
        return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}

    first = stats()
    (tmp_path / "store" / f".studies.arrow.{'0' * 16}.unfinished").touch()  # of a writer that was killed
    encoder = WordEncoder(64, 8)
    encoder.prepare = lambda reports: pytest.fail("reports are prepared again")
    told = json.loads((tmp_path / "store/store.json").read_text())
    assert write(tmp_path / "store", Uneven(40), encoder).items() < told.items()
    assert stats() == first
    assert_same_batches(before, reader)


def test_a_folder_without_a_store_is_refused(tmp_path):
    with refused(r"nowhere: not a store \(no plan.json\); make one by vkd prepare"):
        Store(tmp_path / "nowhere")


# -------------------------------------------------------------------------- made with something else

CHANGES = {
    "image size": ({"image_size": 24}, r"image transform \{'size': 16\}, found now \{'size': 24\}"),
    "views": ({"views": "all"}, "views frontal, found now all"),
    "unknown views": ({"unknown_views": "keep"}, "unknown_views drop, found now keep"),
    "sections": (
        {"report": ReportText(("impression",))},
        r"report.sections \['findings', 'impression', 'addendum'\], found now \['impression'\]",
    ),
    "masked words": (
        {"report": ReportText(mask_label_words=True)},
        "report.mask_label_words False, found now True",
    ),
    "corpus argument": ({"corpus": Uneven(39)}, r"corpus \{'num_studies': 40\}, found now \{'num_studies': 39\}"),
    "corpus class": (
        {"corpus": OtherClass(40)},
        r"corpus \{'class': 'tests.test_store.Uneven'\}, found now \{'class': 'tests.test_store.OtherClass'\}",
    ),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_a_store_made_with_another_setting_is_refused(changes, message, uneven):
    options = {"corpus": Uneven(40)} | changes
    with refused(f"uneven: this store was made with {message}; prepare another store, or set it back"):
        data_of(options.pop("corpus"), uneven, **options).studies("train")


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "masked words"])  # which want the labeller
def test_a_store_made_with_another_setting_is_not_gone_on_with(name, uneven):
    changes, message = CHANGES[name]
    before = contents(uneven)
    with refused(message):
        write(uneven, **({"corpus": Uneven(40)} | changes))
    assert contents(uneven) == before


def test_a_store_made_with_other_labels_is_refused(uneven, tmp_path):
    names = [study.study_id for study in Uneven(40).studies()]
    for number in range(2):
        table = pd.DataFrame({"study_id": names} | dict.fromkeys(Uneven.findings, number))
        table.to_csv(tmp_path / f"{number}.csv", index=False)
    write(tmp_path / "store", Uneven(40), labels=tmp_path / "0.csv")
    data = data_of(Uneven(40), tmp_path / "store", labels=tmp_path / "0.csv")
    assert (data.targets("test") == 0).all()
    with refused("labels [0-9a-f]{64}, found now [0-9a-f]{64};"):
        data_of(Uneven(40), tmp_path / "store", labels=tmp_path / "1.csv").studies("test")
    with refused("labels [0-9a-f]{64}, found now None;"):
        data_of(Uneven(40), tmp_path / "store").studies("test")
    with refused("labels None, found now [0-9a-f]{64};"):
        data_of(Uneven(40), uneven, labels=tmp_path / "0.csv").studies("test")


def test_a_store_of_findings_in_another_order_is_refused(uneven, monkeypatch):
    monkeypatch.setattr(Uneven, "findings", Uneven.findings[::-1])
    with refused("findings .*'Upper Square', .*'Rare Square'.*, found now .*'Rare Square', .*'Upper Square'"):
        data_of(Uneven(40), uneven).studies("train")


def test_a_store_made_with_another_vocabulary_is_refused(uneven):
    data = data_of(Uneven(40), uneven)
    with refused(r"report encoder \{'vocabulary_size': 64\}, found now \{'vocabulary_size': 32\}"):
        data.train_loader(WordEncoder(32, 8), seed=0)
    with refused(r"report encoder \{'max_tokens': 256\}, found now \{'max_tokens': 9\}"):
        data.train_loader(WordEncoder(64, 8, max_tokens=9), seed=0)
    # The width is of what is trained, not of what is prepared.
    assert len(next(iter(data.train_loader(WordEncoder(64, 4), seed=0)))) == 4


def test_a_store_made_with_another_language_model_is_refused(bert, tmp_path):
    encoder = bert_encoder(bert)
    write(tmp_path / "store", Uneven(40), encoder)
    data = data_of(Uneven(40), tmp_path / "store")
    moved = shutil.copytree(bert, tmp_path / "moved")
    assert len(next(iter(data.train_loader(bert_encoder(moved, dropout=0.1), seed=0)))) == 4
    other = bert_encoder(write_bert(tmp_path / "other", seed=1))
    with refused("report encoder {'language_model': '[0-9a-f]{64}'}, found now {'language_model': '[0-9a-f]{64}'}"):
        data.train_loader(other, seed=0)
    with refused(r"report encoder \{'max_tokens': 20\}, found now \{'max_tokens': 9\}"):
        data.train_loader(bert_encoder(bert, max_tokens=9), seed=0)
    with refused(r"report encoder \{'cache': True\}, found now \{'cache': False\}"):
        data.train_loader(bert_encoder(bert, cache=False), seed=0)
    with refused("report encoder .*, found now .*'encoder': 'words'"):
        data.train_loader(WORDS, seed=0)


FITTING = {
    "label policy": {"train_policy": LabelPolicy("ones", "ignore"), "eval_policy": LabelPolicy("zeros")},
    "batch size": {"batch_size": 5},
    "augmentation": {"augmentation": Augmentation()},
    "findings": {"findings": ("Rare Square", "Elsewhere", "Upper Square")},
    "fewer studies": {"max_train_studies": 9},
}


@pytest.mark.parametrize("options", FITTING.values(), ids=FITTING.keys())
def test_a_store_serves_other_settings_of_training(options, uneven):
    assert_same_data(data_of(Uneven(40), **options), data_of(Uneven(40), uneven, **options), WORDS)


def test_a_store_serves_the_same_files_elsewhere(tmp_path):
    files = Files(write_files(tmp_path / "here"))
    write(tmp_path / "store", files)
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = Files(tmp_path / "there")
    assert_same_data(data_of(moved), data_of(moved, tmp_path / "store"), WORDS)
    write(tmp_path / "store", moved)
    shutil.rmtree(tmp_path / "there")
    assert len(data_of(moved, tmp_path / "store").studies("train")) == len(data_of(TinyCorpus(30)).studies("train"))


# ------------------------------------------------------------------------------------- another folder


@pytest.mark.parametrize("name", ["notes.txt", "store.json", "00000.images.arrow"])
def test_a_folder_with_something_else_is_not_written_to(name, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_text("mine")
    with refused("other: holds something that is no store; choose another --output"):
        write(tmp_path / "other", TinyCorpus(5))
    assert contents(tmp_path / "other") == {name: b"mine"}


def test_a_file_is_no_folder_of_a_store(tmp_path):
    (tmp_path / "file").write_text("mine")
    with refused("file: holds something that is no store"):
        write(tmp_path / "file", TinyCorpus(5))


def change_label(root):
    table = json.loads((root / "studies.json").read_text())
    table[3][2][0] = 1.0 - table[3][2][0]
    (root / "studies.json").write_text(json.dumps(table))


def change_text(root):
    text = (root / "studies.json").read_text()
    (root / "studies.json").write_text(text.replace("radiologist", "physician", 1))


def change_image(root):
    Image.new("L", (32, 32)).save(root / "study-0003.png")


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "begun"])
@pytest.mark.parametrize("change", [change_label, change_text, change_image])
def test_a_corpus_that_changed_since_the_store_was_begun_is_refused(change, complete, small_shards, tmp_path):
    root = write_files(tmp_path / "files")
    write(tmp_path / "store", Files(root))
    if not complete:
        for name in ("store.json", "00003.images.arrow", "00002.reports.arrow"):
            (tmp_path / "store" / name).unlink()
    before = contents(tmp_path / "store")
    change(root)
    with refused("store: .* has changed since this store was begun; prepare it into another folder"):
        write(tmp_path / "store", Files(root))
    assert contents(tmp_path / "store") == before


def test_a_store_of_another_version_is_refused(uneven, tmp_path):
    folder = shutil.copytree(uneven, tmp_path / "store")
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"version": 0}))
    for use in (Store, lambda folder: write(folder, Uneven(40))):
        with refused("a store of version 0, expected 2; prepare it again"):
            use(folder)


# ---------------------------------------------------------------------------------------- what is there


def read_arrow(path):
    return pa.ipc.open_file(io.BytesIO(path.read_bytes()[: -layout.HASH])).read_all()


@pytest.mark.parametrize("kind", ["tokens", "embeddings"])
def test_no_padding_is_stored(kind, bert, small_shards, tmp_path):
    encoder = bert_encoder(bert) if kind == "embeddings" else WORDS
    write(tmp_path / "store", Uneven(40), encoder)
    texts = Selection(Uneven(40), 16).read().texts
    lengths = [report.numel() for report in encoder.prepare([text or "" for text in texts])]
    assert len(set(lengths)) > 3
    tables = [read_arrow(path)["tokens"] for path in sorted((tmp_path / "store").glob("*.reports.arrow"))]
    assert len(tables) == len(list((tmp_path / "store").glob("*.images.arrow"))) == math.ceil(40 / 7)
    assert [len(row) for table in tables for row in table] == lengths
    assert sum(len(table.chunk(0).values) for table in tables) == sum(lengths)
    expected = pa.float16() if kind == "embeddings" else pa.int64()
    assert {table.type.value_type for table in tables} == {expected}


@pytest.mark.parametrize("num_studies", [1, 6, 7, 8, 14])
def test_a_shard_has_so_many_studies(num_studies, small_shards, tmp_path):
    write(tmp_path / "store", TinyCorpus(num_studies))
    for kind in ("images", "reports"):
        assert len(list((tmp_path / "store").glob(f"*.{kind}.arrow"))) == math.ceil(num_studies / 7)
    assert [s.study_id for s in Store(tmp_path / "store").studies] == [f"study-{n:04d}" for n in range(num_studies)]


@pytest.mark.parametrize("image_size", [1, 7])
def test_images_of_an_odd_number_of_bytes_are_read(image_size, small_shards, tmp_path):
    write(tmp_path / "store", Uneven(20), image_size=image_size, views="all", unknown_views="keep")
    transform = ImageTransform(image_size)
    for raw, stored in zip(Uneven(20).studies(), Store(tmp_path / "store").studies, strict=True):
        assert [transform(image)[0].tolist() for image in raw.images] == [image.tolist() for image in stored.images]


def test_nobody_else_may_read_a_store(small_shards, tmp_path):
    old = os.umask(0)
    try:
        write(tmp_path / "store", Uneven(20))
    finally:
        os.umask(old)
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "store").iterdir()} == {0o600}


def cut(content):
    return content[: len(content) // 2]


def emptied(content):
    return b""


def flipped(content):
    """The first and the last bytes."""
    return bytes(255 - byte for byte in content[:8]) + content[8:-8] + bytes(255 - byte for byte in content[-8:])


@pytest.mark.parametrize("damage", [cut, emptied, flipped])
@pytest.mark.parametrize(
    "name", ["plan.json", "store.json", "studies.arrow", "00000.images.arrow", "00000.reports.arrow"]
)
def test_a_damaged_file_is_named(name, damage, uneven, tmp_path):
    folder = shutil.copytree(uneven, tmp_path / "store")
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with refused(rf"store/{name}: (missing or damaged|not readable as JSON \(.*\)); "):
        next(iter(data_of(Uneven(40), folder).train_loader(WORDS, seed=0)))
    if name in ("plan.json", "store.json", "00000.images.arrow"):
        with refused(rf"store/{name}: "):
            write(folder, Uneven(40))


@pytest.mark.parametrize("name", ["studies.arrow", "00000.images.arrow", "00000.reports.arrow", "bad_images.csv"])
def test_a_damaged_store_is_mended_as_it_says(name, uneven, tmp_path):
    folder = shutil.copytree(uneven, tmp_path / "store")
    (folder / name).write_bytes(b"")
    with refused(f"{name}: missing or damaged; delete it and store.json, and run vkd prepare again"):
        next(iter(data_of(Uneven(40), folder).train_loader(WORDS, seed=0)))
    (folder / name).unlink()
    (folder / "store.json").unlink()
    write(folder, Uneven(40))
    assert contents(folder) == contents(uneven)


def read_all(folder):
    """Every image and report of a store."""
    store = Store(folder)
    reports = store.reports(WORDS, range(len(store.studies)))
    return [(study.labels.tolist(), [image.sum() for image in study.images]) for study in store.studies], list(reports)


@pytest.mark.parametrize("name", ["studies.arrow", "00000.images.arrow", "00000.reports.arrow", "bad_images.csv"])
def test_a_flipped_bit_is_found_and_named(name, tmp_path):
    folder, draw = tmp_path / "store", random.Random(name)
    write(folder, TinyCorpus(3))
    whole = (folder / name).read_bytes()
    read_all(folder)
    for place in draw.sample(range(len(whole)), min(len(whole), 60)):
        changed = bytearray(whole)
        changed[place] ^= 1 << draw.randrange(8)
        (folder / "new").write_bytes(changed)
        (folder / "new").replace(folder / name)  # as a mapped file may not be written over
        with refused(rf"store/{name}: missing or damaged; delete it and store\.json, and run vkd prepare again"):
            read_all(folder)


CHANGES_OF_CONTENT = {
    "a pixel": ("00001.images.arrow", lambda table: table["pixels"].__setitem__(0, b"\xff" * 256)),
    "the study of an image": ("00001.images.arrow", lambda table: table["study"].__setitem__(0, 8)),
    "a label": ("studies.arrow", lambda table: table["labels"][0].__setitem__(0, 1.0 - table["labels"][0][0])),
    "a split": ("studies.arrow", lambda table: table["split"].__setitem__(0, "test")),
    "a word": ("00001.reports.arrow", lambda table: table["tokens"][0].__setitem__(0, 7)),
}


@pytest.mark.parametrize(("name", "change"), CHANGES_OF_CONTENT.values(), ids=CHANGES_OF_CONTENT.keys())
def test_a_file_of_another_content_is_found_and_named(name, change, small_shards, tmp_path):
    """Also where it carries the hash of what it now holds."""
    folder = tmp_path / "store"
    write(folder, TinyCorpus(20))
    table = read_arrow(folder / name)
    columns = table.to_pydict()
    change(columns)
    (folder / name).unlink()
    layout.write_arrow(folder / name, pa.table(columns, table.schema))
    with refused(rf"store/{name}: missing or damaged"):
        Store(folder)


def test_shards_that_changed_places_are_found(small_shards, tmp_path):
    folder = tmp_path / "store"
    write(folder, TinyCorpus(20))
    one, other = (folder / f"0000{number}.reports.arrow" for number in (0, 1))
    one.rename(folder / "aside")
    other.rename(one)
    (folder / "aside").rename(other)
    with refused(r"00000\.reports\.arrow: missing or damaged"):
        Store(folder)


@pytest.mark.parametrize("name", ["00001.images.arrow", "00001.reports.arrow", "studies.arrow"])
def test_the_doctor_names_the_damaged_file(name, small_shards, tmp_path):
    folder = tmp_path / "store"
    write(folder, TinyCorpus(60))
    assert "ok       contents" in str(examine(folder))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    diagnosis = examine(folder)
    assert not diagnosis.can_train
    assert f"{name}: missing or damaged" in str(diagnosis)


def test_a_damaged_shard_is_not_gone_on_with(small_shards, tmp_path):
    folder = tmp_path / "store"
    write(folder, TinyCorpus(20))
    (folder / "store.json").unlink()
    for name in ("00001.images.arrow", "00001.reports.arrow"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole.replace(whole[600:640], bytes(40), 1))
        with refused(rf"{name}: missing or damaged"):
            write(folder, TinyCorpus(20))
        (folder / name).write_bytes(whole)
    write(folder, TinyCorpus(20))


@pytest.mark.parametrize("name", ["plan.json", "store.json"])
def test_a_changed_plan_is_refused_also_if_it_is_signed_again(name, uneven, tmp_path):
    folder = shutil.copytree(uneven, tmp_path / "store")
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | {"shards": 5}))
    with refused(rf"{name}: changed since it was written"):
        Store(folder)
    for key in content:
        for value in (None, [], 10**30, {"": ""}, "x"):
            changed = {other: value for other, value in content.items() if other != "config_sha256"} | {key: value}
            write_signed_json(folder / name, changed)
            if name == "plan.json":  # the hash of it is in the other
                store = json.loads((uneven / "store.json").read_text())
                hashes = store["sha256"] | {name: sha256_of(folder / name)}
                write_signed_json(folder / "store.json", store | {"sha256": hashes})
            with contextlib.suppress(UserError):
                Store(folder)


# ------------------------------------------------------------------------------------------ bad images


def test_a_bad_image_is_named_and_mended(small_shards, tmp_path):
    files = Files(write_files(tmp_path / "files"))
    image = tmp_path / "files" / "study-0016.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:200])
    for _ in range(2):
        with refused(r"study-0016.png: unreadable or truncated image"):
            write(tmp_path / "store", files)
        assert (tmp_path / "store" / "00001.images.arrow").is_file()
        with refused(r"not complete \(of 5 shards 2 of images, 0 of reports\)"):
            Store(tmp_path / "store")
    first = (tmp_path / "store" / "00000.images.arrow").stat().st_mtime_ns
    image.write_bytes(whole)
    write(tmp_path / "store", files)
    assert (tmp_path / "store" / "00000.images.arrow").stat().st_mtime_ns == first
    write(tmp_path / "whole", files)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def damage_three(root):
    (root / "study-0002.png").write_bytes(b"")
    (root / "study-0011.png").write_text("no image")
    (root / "study-0029.png").unlink()


def test_bad_images_are_skipped_alike_from_a_store_and_from_files(small_shards, tmp_path):
    files = Files(write_files(tmp_path / "files"))
    damage_three(tmp_path / "files")
    counts = write(tmp_path / "store", files, bad_images=SKIP)
    left_out = {"images that cannot be read": 3, "studies whose images cannot be read": 3}
    assert counts == {"studies": 27, "images": 27, "reports": 27, "left_out": left_out}
    listed = pd.read_csv(tmp_path / "store" / "bad_images.csv")
    assert listed["study"].tolist() == ["study-0002", "study-0011", "study-0029"]
    assert all(f"{study}.png: " in problem for study, problem in listed.itertuples(index=False))
    raw, stored = data_of(files, bad_images=SKIP), data_of(files, tmp_path / "store", bad_images=SKIP)
    assert_same_data(raw, stored, WORDS)
    assert raw.unreadable == stored.unreadable == list(listed.itertuples(index=False, name=None))


def test_a_study_keeps_its_good_images(tmp_path, monkeypatch):
    def broken(self, image, read=ImageTransform.__call__):
        if image.shape[0] == 27:  # the second of a study
            raise UserError("second.png: broken")
        return read(self, image)

    monkeypatch.setattr(ImageTransform, "__call__", broken)
    write(tmp_path / "store", Uneven(40), bad_images=SKIP, views="all", unknown_views="keep")
    options = {"bad_images": SKIP, "views": "all", "unknown_views": "keep"}
    raw, stored = data_of(Uneven(40), **options), data_of(Uneven(40), tmp_path / "store", **options)
    assert_same_data(raw, stored, WORDS)
    assert stored.summary()["left_out"] == {"images that cannot be read": 26}
    assert {study.views for split in ("train", "test") for study in stored.studies(split)} == {
        ("frontal",),
        ("frontal", "unknown"),
    }


def test_too_many_bad_images_are_refused(small_shards, tmp_path):
    files = Files(write_files(tmp_path / "files"))
    damage_three(tmp_path / "files")
    few = BadImages("skip", max_share=0.09)
    message = "data.selection.bad_images: 3 of 30 images cannot be read, more than max_share 0.09 allows; fetch"
    with refused(message):
        write(tmp_path / "store", files, bad_images=few)
    with refused(message):
        data_of(files, bad_images=few).studies("train")
    with refused("not complete"):
        Store(tmp_path / "store")
    shutil.copy(tmp_path / "files" / "study-0003.png", tmp_path / "files" / "study-0002.png")  # fetched again
    counts = write(tmp_path / "store", files, bad_images=few)
    assert (counts["images"], counts["left_out"]["images that cannot be read"]) == (28, 2)
    assert_same_data(data_of(files, bad_images=few), data_of(files, tmp_path / "store", bad_images=few), WORDS)


def darken(folder, number):
    for path in sorted(folder.glob("*.png"))[:number]:
        Image.fromarray(np.asarray(Image.open(path)) // 16).save(path)


def test_pictures_with_hardly_any_gray_levels_are_counted_and_beyond_a_share_refused(small_shards, tmp_path):
    files = Files(write_files(tmp_path / "files"))
    darken(tmp_path / "files", 2)
    found = r"2 of 30 images looked at have hardly any gray levels \(fewer than 32\)"
    with pytest.raises(UserError, match=rf"data.selection.bad_images: {found}, more than max_flat_share 0.05 allows"):
        write(tmp_path / "store", files)
    with pytest.warns(UserWarning, match=found):
        write(tmp_path / "store", files, bad_images=BadImages(max_flat_share=0.1))
    for folder in (None, tmp_path / "store"):
        with pytest.raises(UserError, match=r"\d of 2\d images looked at have hardly any .* max_flat_share 0 allows"):
            data_of(files, folder, bad_images=BadImages(max_flat_share=0)).check_pictures()


def test_an_error_policy_does_not_take_what_was_skipped(small_shards, tmp_path):
    files = Files(write_files(tmp_path / "files"))
    damage_three(tmp_path / "files")
    write(tmp_path / "store", files, bad_images=SKIP)
    (tmp_path / "store" / "store.json").unlink()  # as if killed before its end
    with refused("study-0002.png: unreadable or truncated image"):
        write(tmp_path / "store", files)


def test_no_readable_image_at_all_is_refused(tmp_path):
    files = Files(write_files(tmp_path / "files"))
    for image in (tmp_path / "files").glob("*.png"):
        image.write_bytes(b"")
    every = BadImages("skip", max_share=1.0)
    for use in (lambda: write(tmp_path / "store", files, bad_images=every), data_of(files, bad_images=every).summary):
        with refused("data.selection.bad_images: no image can be read"):
            use()


# ------------------------------------------------------------------------------------------- selection


def test_the_identity_of_a_selection_has_no_path(tmp_path):
    root = write_files(tmp_path / "files")
    names = [study.study_id for study in Files(root).studies()]
    pd.DataFrame({"study_id": names} | dict.fromkeys(Files.findings, 1)).to_csv(tmp_path / "labels.csv", index=False)
    identity = Selection(Files(root), 16, labels=tmp_path / "labels.csv").identity()
    assert str(tmp_path) not in json.dumps(identity)
    moved = shutil.copytree(tmp_path, tmp_path.with_name("moved"))
    assert Selection(Files(moved / "files"), 16, labels=moved / "labels.csv").identity() == identity


def test_labels_are_taken_by_the_name_of_their_finding():
    studies = Uneven(3).studies()
    labels = reindex_labels(studies, ("a", "b", "c"), ("c", "x", "a"))
    expected = np.array([[study.labels[2], np.nan, study.labels[0]] for study in studies], np.float32)
    assert labels.dtype == np.float32
    assert np.array_equal(labels, expected, equal_nan=True)


def test_studies_without_a_chosen_view_are_counted():
    read = Selection(Uneven(9), 16, views="lateral").read()
    assert [study.study_id for study in read.studies] == [f"study-{n:04d}" for n in (1, 2, 4, 5, 7, 8)]
    assert read.left_out == {
        "images of frontal view": 9,
        "images of unknown view": 3,
        "studies without a chosen view": 3,
    }
    kept = Selection(Uneven(9), 16, views="lateral", unknown_views="keep").read()
    assert [study.views for study in kept.studies] == [("lateral",), ("lateral", "unknown")] * 3
    assert "images of unknown view" not in kept.left_out


def test_a_selection_without_a_study_is_refused():
    with refused("tiny: no study is left .*9 studies without a chosen view.*see data.selection.views"):
        Selection(TinyCorpus(9), 16, views="lateral").read()
