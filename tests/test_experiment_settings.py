"""What an experiment on a small corpus chooses: folds, a share of the labels, and controls of what reports teach."""

import dataclasses
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import TinyCorpus, study_data
from tests.test_cli import CONFIG, refusal, vkd
from tests.test_store import assert_same_data, write
from vkd_pyro.data.controls import NONE_PRESENT, labels_as_report, shuffled_reports
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.labels.policy import LabelPolicy
from vkd_pyro.data.loading.dataset import HalfLabelledSampler, ShuffledSampler
from vkd_pyro.data.splits import Folds, keeps_labels, split_of
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import ReportEncoder
from vkd_pyro.methods import VKD, ImageOnly, NoReport
from vkd_pyro.schedules import Constant
from vkd_pyro.training.fitting import fit
from vkd_pyro.training.module import MethodTraining
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError

SPLITS = ("train", "validation", "test")
HALF = 4


class Clinic(TinyCorpus):
    """Two studies a patient, one or two images a study, every sixth study without a report or without any label."""

    def studies(self):
        return [self._of_clinic(number, study) for number, study in enumerate(super().studies())]

    def _of_clinic(self, number, study):
        patient = f"patient-{number // 2:04d}"
        return dataclasses.replace(
            study,
            patient_id=patient,
            images=study.images * (1 + number % 2),
            views=("frontal",) * (1 + number % 2),
            report={"report": f"Report {number}."} if number % 6 else {},
            labels=study.labels if number % 6 != 5 else np.full_like(study.labels, np.nan),
            split=split_of(self.name, patient),
        )


class Letters(ReportEncoder):
    """Keeps the letters of a report, so that a test can read it."""

    def __init__(self, features_dim: int = 8) -> None:
        super().__init__()
        self.features_dim = features_dim
        self.embeddings = torch.nn.Embedding(128, features_dim)

    def prepare(self, reports):
        return [torch.tensor(list(report.encode()) or [0]) for report in reports]

    def forward(self, report, mask):
        return (self.embeddings(report) * mask[..., None]).sum(1)


def data_of(num_studies=120, **options):
    return study_data(Clinic(num_studies), **({"image_size": 16, "batch_size": 2 * HALF} | options))


def texts_of(data, split, encoder):
    """Report by study; None where there is none. With `encoder` as evaluation reads it, in training as well."""
    loader = data.evaluation_loader(split, encoder)
    rows = [row for batch in loader for row in zip(batch.study_ids, batch.has_report, batch.report, strict=True)]
    return {name: bytes(letters).rstrip(b"\0").decode() if has else None for name, has, letters in rows}


def training_batches(data, encoder, epoch=0, seed=0):
    loader = data.train_loader(encoder, seed)
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


# ------------------------------------------------------------------------------------------- folds


@pytest.mark.parametrize(
    ("patient", "fold", "split"),
    [
        ("1", 2, "train"),  # sha256("fold:openi:1") = 8d19...: 0.551 of 5 parts; "validation:openi:1" = 3e45...: 0.243
        ("7", 0, "train"),  # 166b...: 0.088; a339...: 0.638
        ("8", 3, "validation"),  # c68f...: 0.776; 04da...: 0.019
    ],
)
def test_the_fold_of_a_patient_is_that_of_the_sha256_of_its_name(patient, fold, split):
    assert Folds(fold).split_of("openi", patient) == "test"
    assert Folds((fold + 1) % 5).split_of("openi", patient) == split


@pytest.mark.parametrize("num_folds", [2, 5, 10])
def test_every_patient_is_tested_in_one_fold_and_is_otherwise_always_of_the_same_split(num_folds):
    for patient in map(str, range(1000)):
        splits = Counter(Folds(fold, num_folds).split_of("anywhere", patient) for fold in range(num_folds))
        assert sorted(splits.values()) == sorted((1, num_folds - 1))
        assert splits["test"] == 1


def test_folds_have_the_shares_they_name():
    for fold in range(4):
        counts = Counter(Folds(fold, 4, 0.2).split_of("anywhere", str(patient)) for patient in range(10_000))
        assert counts["test"] == pytest.approx(2500, abs=150)
        assert counts["validation"] == pytest.approx(1500, abs=130)


@pytest.mark.parametrize("stored", [False, True], ids=["files", "store"])
def test_the_test_sets_of_the_folds_are_all_studies_and_no_patient_is_in_two_splits(stored, tmp_path):
    if stored:
        write(tmp_path / "store", Clinic(120), Letters())
    tested = []
    for fold in range(5):
        data = data_of(folds=Folds(fold), store=tmp_path / "store" if stored else None)
        studies = {split: data.studies(split) for split in SPLITS}
        assert sorted(s.study_id for split in SPLITS for s in studies[split]) == [f"study-{n:04d}" for n in range(120)]
        for one, other in combinations(SPLITS, 2):
            assert not {s.patient_id for s in studies[one]} & {s.patient_id for s in studies[other]}
        tested += [s.study_id for s in studies["test"]]
    assert sorted(tested) == [f"study-{n:04d}" for n in range(120)]


def test_runs_of_different_experiments_are_told_apart():
    usual = data_of()
    assert not {"folds", "label_share", "control"} & (set(usual.summary()) | set(usual.description()))
    said = {"num_folds": 5, "validation_share": 0.125}
    for fold in range(2):
        data = data_of(folds=Folds(fold), label_share=0.5, control="shuffled_reports")
        for summary in (data.summary(), data.description()):
            assert summary["folds"] == {"fold": fold} | said
            assert (summary["label_share"], summary["control"]) == (0.5, "shuffled_reports")


# ------------------------------------------------------------------------------------- label share


def test_a_smaller_share_of_patients_is_among_a_larger_one():
    patients = list(map(str, range(10_000)))
    kept = [{p for p in patients if keeps_labels("anywhere", p, share)} for share in (0.01, 0.1, 0.3, 1.0)]
    for (smaller, larger), share in zip(pairwise(kept), (0.01, 0.1, 0.3), strict=True):
        assert smaller < larger
        assert len(smaller) == pytest.approx(10_000 * share, abs=150)
    assert len(kept[-1]) == 10_000


def test_labels_are_hidden_in_training_alone_and_by_patient():
    whole, few = data_of(), data_of(label_share=0.3)
    for split in SPLITS:
        kept = np.array([split != "train" or keeps_labels("tiny", s.patient_id, 0.3) for s in whole.studies(split)])
        expected = np.where(kept[:, None], whole.targets(split), np.nan)
        assert np.array_equal(few.targets(split), expected, equal_nan=True)
        counts = few.count(split)
        assert counts["with a report"] == whole.count(split)["with a report"]
        assert counts["without any label"] == np.isnan(expected).all(1).sum()
    assert whole.count("train")["without any label"] < few.count("train")["without any label"]


def test_all_labels_leave_the_order_as_it_was():
    loader = data_of().train_loader(Letters(), seed=3)
    assert isinstance(loader.batch_sampler.sampler, ShuffledSampler)
    assert list(loader.batch_sampler.sampler) == list(ShuffledSampler(len(loader.dataset), seed=3))


def test_the_labelled_half_is_the_same_whatever_else_is_read():
    options = {"augmentation": Augmentation(), "label_share": 0.3}
    arms = [
        (data_of(**options), Letters()),
        (data_of(**options), None),
        (data_of(**options, control="shuffled_reports"), Letters()),
        (data_of(**options, control="labels_as_report"), Letters()),
    ]
    for epoch in range(4):
        batches = [training_batches(*arm, epoch) for arm in arms]
        for batch, *others in zip(*batches, strict=True):
            assert [len(other) for other in (batch, *others)] == [2 * HALF, HALF, 2 * HALF, HALF]
            assert batch.known[:HALF].any(1).all()
            assert not batch.known[HALF:].any()
            assert batch.has_report[HALF:].all()
            for other in others:
                assert other.study_ids[:HALF] == batch.study_ids[:HALF]
                assert torch.equal(other.images[:HALF], batch.images[:HALF])
                assert torch.equal(other.labels[:HALF], batch.labels[:HALF])
    assert len(batches[0]) == len(data_of().train_loader(None, 0))


@pytest.mark.parametrize("reads", [True, False], ids=["reports", "no reports"])
def test_rows_of_a_half_come_equally_often(reads):
    data = data_of(label_share=0.3)
    sampler = data.train_loader(Letters() if reads else None, seed=0).batch_sampler.sampler
    assert isinstance(sampler, HalfLabelledSampler)
    seen = {name: Counter(dict.fromkeys(rows, 0)) for name, rows in sampler.halves.items()}
    assert set(seen) == ({"labelled", "unlabelled"} if reads else {"labelled"})
    passes = set()
    for epoch in range(5):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert len(draws) == len(sampler)
        for draw in draws:
            counts = seen["labelled" if draw[1] in seen["labelled"] else "unlabelled"]
            counts[draw[1]] += 1
            assert max(counts.values()) - min(counts.values()) <= 1
        assert not passes & set(draws)  # else a row would be augmented twice alike
        assert len(set(draws)) == len(draws)
        passes |= set(draws)
    assert seen["labelled"].total() == 5 * HALF * sampler.num_batches
    assert min(seen["labelled"].values()) > 5  # several times an epoch


def test_half_labelled_batches_are_a_function_of_seed_and_epoch():
    def draws(seed, epoch):
        sampler = HalfLabelledSampler(range(5), range(5, 17), 3, 7, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert draws(0, 2) == draws(0, 2)
    assert draws(0, 2) != draws(1, 2)
    rows = [row for epoch in range(5) for _, row in draws(0, epoch) if row < 5]
    assert all(sorted(rows[start : start + 5]) == list(range(5)) for start in range(0, 105, 5))
    assert rows[:5] != rows[5:10]


def test_a_labelled_image_is_augmented_anew_each_time():
    data = data_of(label_share=0.1, augmentation=Augmentation())
    batches = training_batches(data, None)
    images = [image for batch in batches for image in batch.images]
    assert len(images) > 2 * len({name for batch in batches for name in batch.study_ids})
    assert len({image.numpy().tobytes() for image in images}) == len(images)


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda encoder: VKD(Clinic.findings, encoder, Letters(), 4), 2 * HALF),
        (lambda encoder: NoReport(Clinic.findings, encoder, 4), HALF),
        (lambda encoder: ImageOnly(Clinic.findings, encoder), HALF),
    ],
    ids=["vkd", "no_report", "image_only"],
)
def test_training_sees_the_batches_of_each_epoch(make, rows, tmp_path, monkeypatch):
    seen = {}

    def step(self, batch, batch_idx, usual=MethodTraining.training_step):
        seen.setdefault(self.current_epoch, []).append(batch.study_ids)
        return usual(self, batch, batch_idx)

    monkeypatch.setattr(MethodTraining, "training_step", step)
    torch.manual_seed(0)
    method = make(ConvEncoder((8,)))
    data = data_of(label_share=0.5, folds=Folds(1))
    training = Training(max_epochs=2, accelerator="cpu", num_samples=2)
    fit(method, data, tmp_path / "run", beta_schedule=Constant(), training=training, progress=False, seed=5)
    for epoch in range(2):
        expected = [batch.study_ids for batch in training_batches(data, Letters(), epoch, seed=5)]
        assert seen[epoch] == [names[:rows] for names in expected]
    assert seen[0] != seen[1]


# ---------------------------------------------------------------------------------------- controls


@pytest.mark.parametrize("options", [{}, {"folds": Folds(2)}, {"label_share": 0.3}], ids=str)
def test_shuffled_reports_are_those_of_their_split_and_none_is_in_its_place(options):
    usual, shuffled, again = (data_of(**options, control=c) for c in ("none", "shuffled_reports", "shuffled_reports"))
    for split in SPLITS:
        own, given = (texts_of(data, split, Letters()) for data in (usual, shuffled))
        assert Counter(own.values()) == Counter(given.values())
        for name, text in own.items():
            assert (given[name] is None) if text is None else (given[name] != text)
        assert texts_of(again, split, Letters()) == given
    assert list(given.values()) != [*list(own.values())[1:], next(iter(own.values()))]  # in no order to be learned


def test_a_report_that_has_no_other_to_be_exchanged_with_stays():
    assert shuffled_reports([7, 8, 9], [False, True, False], "a") == [7, 8, 9]
    assert shuffled_reports([7, 8, 9], [True, False, True], "a") == [9, 8, 7]
    assert shuffled_reports([], [], "a") == []
    assert shuffled_reports(range(50), [True] * 50, "a") != shuffled_reports(range(50), [True] * 50, "b")


def test_labels_are_said_in_words():
    unknown = np.nan
    targets = np.array(
        [[1, 0, 1], [0, 0, 0], [unknown, 1, 0], [unknown, 0, unknown], [unknown] * 3, [0.7, -1, 0]], np.float32
    )
    assert labels_as_report(targets, ("Edema", "Lung Lesion", "Fracture")) == [
        "Edema. Fracture.",
        NONE_PRESENT,
        "Lung Lesion.",
        NONE_PRESENT,
        None,
        "Edema.",
    ]


@pytest.mark.parametrize("label_share", [0.3, 1.0])
def test_labels_as_report_say_what_is_known_and_nothing_that_is_hidden(label_share):
    data = data_of(label_share=label_share, control="labels_as_report", train_policy=LabelPolicy(blank="ignore"))
    for split in SPLITS:
        targets = data.targets(split)
        for study, row in zip(data.studies(split), targets, strict=True):
            hidden = split == "train" and not keeps_labels("tiny", study.patient_id, label_share)
            assert np.isnan(row).all() == (hidden or np.isnan(study.labels).all())
        texts = list(texts_of(data, split, Letters()).values())
        assert texts == labels_as_report(targets, data.findings)
        assert data.count(split)["with a report"] == (~np.isnan(targets)).any(1).sum() < len(targets)
    for batch in training_batches(data, Letters()):
        assert torch.equal(batch.has_report, batch.known.any(1))
        assert not batch.report[~batch.has_report].any()


def test_labels_as_report_follow_the_policy_of_their_split():
    data = data_of(control="labels_as_report", train_policy=LabelPolicy(uncertain="ones"))
    for study in data._source.studies:
        study.labels[:] = (-1, 0, 1)
    assert set(texts_of(data, "train", Letters()).values()) == {"Upper Square. Rare Square."}
    assert set(texts_of(data, "test", Letters()).values()) == {"Rare Square."}


# ------------------------------------------------------------------------------------ together


@pytest.mark.parametrize(
    "options",
    [
        {"folds": Folds(3)},
        {"label_share": 0.4},
        {"control": "shuffled_reports"},
        {"control": "labels_as_report"},
        {"folds": Folds(1, 3), "label_share": 0.4, "control": "shuffled_reports"},
        {"folds": Folds(2), "label_share": 0.4, "control": "labels_as_report"},
    ],
    ids=str,
)
def test_a_store_gives_the_same_batches_as_the_files(options, tmp_path):
    write(tmp_path / "store", Clinic(120), Letters())
    raw, stored = (
        data_of(store=folder, augmentation=Augmentation(), **options) for folder in (None, tmp_path / "store")
    )
    assert_same_data(raw, stored, Letters())
    assert_same_data(raw, stored, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Folds(5), r"data.task.folds.fold: found 5, expected 0 to 4"),
        (lambda: Folds(-1, 3), r"data.task.folds.fold: found -1, expected 0 to 2"),
        (lambda: Folds(0, 1), r"data.task.folds.num_folds: found 1, expected at least 2"),
        (lambda: Folds(validation_share=0), r"data.task.folds.validation_share: found 0, expected between 0 and 1"),
        (lambda: Folds(validation_share=1), r"data.task.folds.validation_share: found 1, expected between 0 and 1"),
        (lambda: data_of(label_share=0), r"data.task.label_share: found 0, expected more than 0, at most 1"),
        (lambda: data_of(label_share=1.5), r"data.task.label_share: found 1.5, expected more than 0"),
        (lambda: data_of(label_share=0.5, batch_size=1), r"data.loading.batch_size: found 1, expected at least 2 with"),
        (
            lambda: data_of(control="noise"),
            r"data.task.control: found 'noise', expected one of none, shuffled_reports, lab",
        ),
        (
            lambda: data_of(label_share=1e-9).train_loader(None, 0),
            r"data.task.label_share: 1e-09 leaves no training label known; set it higher",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_command_line_takes_them_and_keeps_them(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    experiment = ("--data.task.folds.fold=1", "--data.task.label_share=0.5", "--data.task.control=shuffled_reports")
    code, _, err = vkd("train", "--config", config, "--run", tmp_path / "run", *experiment)
    assert (code, err.count("error")) == (0, 0), err
    assert vkd("evaluate", tmp_path / "run")[0] == 0
    rows = pd.read_parquet(tmp_path / "run" / "evaluation" / "test" / "predictions.parquet")
    assert len(rows) == sum(Folds(1).split_of("tiny", f"patient-{n:04d}") == "test" for n in range(60))
    message = refusal("train", "--config", config, "--run", tmp_path / "other", "--data.task.folds.fold=7")
    assert "data.task.folds.fold: found 7, expected 0 to 4" in message
