"""The synthetic corpus: frozen, reproducible, and true to its own facts."""

import dataclasses
import hashlib
import re

import numpy as np
import pytest

from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.drawing.findings import DRAWERS
from vkd_pyro.synthetic.drawing.radiograph import render
from vkd_pyro.synthetic.facts import Facts, Finding
from vkd_pyro.synthetic.labels import label, truth
from vkd_pyro.synthetic.phrases import ASIDES, DENIALS, NOUNS, SHORT
from vkd_pyro.synthetic.reading import Reading, Remark, grade, read
from vkd_pyro.synthetic.reports import write_report

PINNED_TEXT_AND_LABELS = "188bea993a12a1cf3486e5247de121a01a9246d15b4f7103f127ee0eeeb4af90"
PINNED_IMAGE_MEANS = (
    150.0,
    149.1,
    146.3,
    131.2,
    137.3,
    162.1,
    158.2,
    140.3,
    152.0,
    167.9,
    149.4,
    147.9,
    165.7,
    141.5,
    163.8,
    146.7,
    172.2,
    164.0,
    155.8,
    153.7,
    134.1,
    156.0,
    120.0,
    152.4,
    168.5,
    146.5,
    168.0,
    133.4,
    188.2,
    163.4,
    145.1,
    174.0,
    143.0,
    132.8,
    155.9,
    170.4,
    142.0,
    150.5,
    143.8,
    153.2,
    131.9,
    117.8,
    143.0,
    137.8,
    149.6,
    150.0,
    148.6,
    142.8,
    169.6,
    141.7,
)
SIDED = [
    "Lung Opacity",
    "Lung Lesion",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
]


@pytest.fixture(scope="module")
def corpus() -> SyntheticCorpus:
    return SyntheticCorpus(num_studies=1200, image_size=32, seed=0)


@pytest.fixture(scope="module")
def studies(corpus: SyntheticCorpus) -> list[Study]:
    return corpus.studies()


def all_facts(corpus: SyntheticCorpus) -> list[Facts]:
    return [corpus.facts(index) for index in range(corpus.num_studies)]


def all_readings(corpus: SyntheticCorpus) -> list[Reading]:
    return [corpus.reading(index) for index in range(corpus.num_studies)]


def with_finding(facts: Facts, name: str, side: str, severity: float, kind: str = "") -> Facts:
    """`facts` with this finding alone, in the middle of the lung (of the chest wall, where it lies there)."""
    across = 0.9 if name == "Fracture" else 0.5
    kind = kind or {"Pleural Other": "thickening", "Support Devices": "pacemaker"}.get(name, "")
    return dataclasses.replace(facts, findings=(Finding(name, side, "mid", severity, 0.5, kind, across, 0.5),))


def clean(facts: Facts) -> Facts:
    """`facts` on a film of high quality, without a finding."""
    return dataclasses.replace(facts, findings=(), grain=0.0, blur=0.005, rotation=0.0, exposure=0.0)


def contrast(facts: Facts, without: Facts) -> np.ndarray:
    """Absolute difference of two films, float [64, 64]."""
    return np.abs(render(facts, 64).astype(float) - render(without, 64).astype(float))


def image_of(study: Study) -> np.ndarray:
    """The one image of a study."""
    (image,) = study.images
    assert isinstance(image, np.ndarray)
    return image


def fingerprint(study: Study) -> bytes:
    report = study.report.get("report", "(none)")
    labels = ",".join("?" if np.isnan(value) else str(int(value)) for value in study.labels)
    return f"{study.study_id}|{study.patient_id}|{study.split}|{report}|{labels}\n".encode()


# Frozen ---------------------------------------------------------------------------------------------------------------


def test_the_corpus_is_frozen() -> None:
    """What is written and labelled never changes."""
    digest = hashlib.sha256(b"".join(fingerprint(study) for study in SyntheticCorpus(50, 16).studies()))
    assert digest.hexdigest() == PINNED_TEXT_AND_LABELS


def test_images_are_frozen() -> None:
    """Half a grey level leaves room for the rounding of another machine."""
    means = [image_of(study).mean() for study in SyntheticCorpus(len(PINNED_IMAGE_MEANS), 64).studies()]
    np.testing.assert_allclose(means, PINNED_IMAGE_MEANS, atol=0.5)


def test_a_study_depends_on_seed_and_index_alone(studies: list[Study]) -> None:
    for small, large in zip(SyntheticCorpus(30, 32).studies(), studies, strict=False):
        assert fingerprint(small) == fingerprint(large)
        np.testing.assert_array_equal(image_of(small), image_of(large))


def test_another_seed_is_another_corpus(studies: list[Study]) -> None:
    other = SyntheticCorpus(20, 32, seed=1).studies()
    assert not any(np.array_equal(image_of(a), image_of(b)) for a, b in zip(other, studies, strict=False))
    assert not any(a.report == b.report for a, b in zip(other, studies, strict=False) if a.report)


# Studies --------------------------------------------------------------------------------------------------------------


def test_studies_keep_the_contract_of_a_corpus(corpus: SyntheticCorpus, studies: list[Study]) -> None:
    assert isinstance(corpus, Corpus)
    assert corpus.findings == CHEXPERT_FINDINGS
    assert len({study.study_id for study in studies}) == len(studies) == 1200
    for study in studies:
        image = image_of(study)
        assert image.shape == (32, 32)
        assert image.dtype == np.uint8
        assert image.std() > 20.0
        assert study.labels.shape == (14,)
        assert study.labels.dtype == np.float32
        assert np.isin(study.labels[~np.isnan(study.labels)], (0.0, 1.0)).all()


def test_split_is_by_patient(studies: list[Study]) -> None:
    assert all(study.split == split_of("synthetic", study.patient_id) for study in studies)
    assert 0.6 * len(studies) < len({study.patient_id for study in studies}) < 0.9 * len(studies)


def test_a_patient_keeps_the_same_anatomy(corpus: SyntheticCorpus, studies: list[Study]) -> None:
    anatomies: dict[str, set[object]] = {}
    for study, facts in zip(studies, all_facts(corpus), strict=True):
        anatomies.setdefault(study.patient_id, set()).add(facts.anatomy)
    assert all(len(found) == 1 for found in anatomies.values())
    assert len({anatomy for found in anatomies.values() for anatomy in found}) == len(anatomies)


def test_sex_and_age_are_those_of_the_anatomy_and_of_the_report(corpus: SyntheticCorpus, studies: list[Study]) -> None:
    sexes = {"woman": "female", "man": "male"}
    told = 0
    for study, facts in zip(studies, all_facts(corpus), strict=True):
        assert (study.sex, study.age) == (sexes[facts.anatomy.sex], facts.anatomy.age)
        if said := re.search(r"(\d+)-year-old (woman|man)", " ".join(study.report.get("report", "").split())):
            assert (study.age, study.sex) == (int(said[1]), sexes[said[2]])
            told += 1
    assert told > 500
    assert {sex: 0.4 < np.mean([study.sex == sex for study in studies]) < 0.6 for sex in ("female", "male")} == {
        "female": True,
        "male": True,
    }


# Labels ---------------------------------------------------------------------------------------------------------------


def test_test_split_holds_the_truth(corpus: SyntheticCorpus, studies: list[Study]) -> None:
    for study, facts in zip(studies, all_facts(corpus), strict=True):
        if study.split == "test":
            np.testing.assert_array_equal(study.labels, truth(facts))


def test_no_finding_excludes_all_but_devices(corpus: SyntheticCorpus) -> None:
    labels = np.stack([truth(facts) for facts in all_facts(corpus)])
    others = labels[:, 1:13].any(axis=1)
    np.testing.assert_array_equal(labels[:, 0], ~others)
    assert (labels[:, 0] * labels[:, 13]).any()


def test_prevalences_are_those_of_a_hospital(corpus: SyntheticCorpus) -> None:
    prevalence = np.stack([truth(facts) for facts in all_facts(corpus)]).mean(axis=0)
    assert prevalence.min() > 0.03
    assert prevalence.max() < 0.40


@pytest.mark.parametrize(
    ("effect", "cause"),
    [
        ("Pleural Effusion", "Edema"),
        ("Cardiomegaly", "Edema"),
        ("Lung Opacity", "Pneumonia"),
        ("Consolidation", "Pneumonia"),
    ],
)
def test_findings_come_together(corpus: SyntheticCorpus, effect: str, cause: str) -> None:
    names = [{finding.name for finding in facts.findings} for facts in all_facts(corpus)]
    beside = np.mean([effect in present for present in names if cause in present])
    alone = np.mean([effect in present for present in names if cause not in present])
    assert beside > 2.0 * alone


def test_training_labels_have_gaps_and_noise_within_bounds(corpus: SyntheticCorpus, studies: list[Study]) -> None:
    facts = all_facts(corpus)
    rows = [index for index, study in enumerate(studies) if study.split != "test"]
    labels = np.stack([studies[index].labels for index in rows])
    true = np.stack([truth(facts[index]) for index in rows])
    unlabelled = np.isnan(labels).all(axis=1)
    assert 0.005 < unlabelled.mean() < 0.06
    assert 0.05 < np.isnan(labels[~unlabelled]).mean() < 0.25
    known = ~np.isnan(labels)
    assert 0.01 < (labels != true)[known].mean() < 0.06
    assert (labels == 0.0)[known & (true == 1.0)].mean() < 0.20
    assert (labels == 1.0)[known & (true == 0.0)].mean() < 0.03


def test_mild_findings_are_mislabelled_more_often(corpus: SyntheticCorpus) -> None:
    rng = np.random.default_rng(0)
    wrong: dict[int, list[bool]] = {0: [], 2: []}
    for facts in all_facts(corpus):
        labels = label(read(facts, False, rng), rng)
        for finding in facts.findings:
            value, level = labels[CHEXPERT_FINDINGS.index(finding.name)], grade(finding.severity)
            if level in wrong and not np.isnan(value):
                wrong[level].append(value == 0.0)
    assert np.mean(wrong[0]) > 5.0 * np.mean(wrong[2])
    assert np.mean(wrong[2]) < 0.04


# Reports --------------------------------------------------------------------------------------------------------------


def test_some_studies_have_no_report(studies: list[Study]) -> None:
    assert 0.01 < np.mean([not study.report for study in studies]) < 0.08


def test_what_is_denied_or_resolved_is_absent(corpus: SyntheticCorpus) -> None:
    for facts, reading in zip(all_facts(corpus), all_readings(corpus), strict=True):
        present = {finding.name for finding in facts.findings}
        assert not present & {remark.finding for remark in reading.of("denied", "resolved")}
        assert present >= {remark.finding for remark in reading.of("affirmed")}


def test_sentences_of_denial_are_true(corpus: SyntheticCorpus, studies: list[Study]) -> None:
    """Read from the prose itself: neither a sentence of denial nor a list of absences names a finding that is there."""
    for facts, study in zip(all_facts(corpus), studies, strict=True):
        sentences = study.report.get("report", "").replace("\n", " ").split(". ")
        lists = [text for text in sentences if text.startswith(("No ", "There is no ", "Negative for "))]
        for finding in facts.findings:
            assert not {f"{text}." for text in sentences} & set(DENIALS[finding.name])
            assert not any(SHORT[finding.name] in text for text in lists if finding.name in SHORT)


def test_side_of_each_finding_is_told(corpus: SyntheticCorpus) -> None:
    words = {"left": ("left",), "right": ("right",), "both": ("both", "bilateral")}
    rng, told = np.random.default_rng(0), 0
    for reading in all_readings(corpus):
        for remark in reading.of("affirmed", "hedged"):
            if remark.side and remark.finding != "Edema":
                alone = dataclasses.replace(reading, remarks=(remark,), asides=())
                report = write_report(alone, rng).lower()
                assert any(word in report for word in words[remark.side]), remark
                told += 1
    assert told > 500


@pytest.mark.parametrize("finding", list(NOUNS))
@pytest.mark.parametrize("side", ["left", "both"])
@pytest.mark.parametrize("stance", ["affirmed", "hedged", "resolved"])
def test_every_wording_is_a_clean_sentence(finding: str, side: str, stance: str) -> None:
    kind = {"Pleural Other": "thickening", "Support Devices": "pacemaker"}.get(finding, "")
    asides = tuple((name, "left") for name in ASIDES)
    rng = np.random.default_rng(0)
    for level in range(3):
        remark = Remark(finding, stance, side, "lower", level, 0.5, kind)
        for _ in range(30):
            report = write_report(Reading("woman", 50, "PA", True, (remark,), asides), rng)
            assert not set("{}[]") & set(report)
            assert "  " not in report
            assert " ." not in report
            assert ".." not in report
            assert "a a " not in report


def test_severity_and_facts_without_a_label_reach_the_report() -> None:
    rng = np.random.default_rng(0)
    remark = Remark("Pleural Effusion", "affirmed", "left", "", 2)
    reports = [
        write_report(Reading("man", 70, "PA", False, (remark,), (("scoliosis", "right"),)), rng).lower()
        for _ in range(50)
    ]
    assert np.mean(["large" in report for report in reports]) > 0.8
    assert all("scoliosis" in report for report in reports)
    assert not any("small" in report for report in reports)


# Pictures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(DRAWERS))
def test_severity_raises_contrast(corpus: SyntheticCorpus, name: str) -> None:
    facts = clean(corpus.facts(0))
    side = {"Edema": "both", "Cardiomegaly": "", "Enlarged Cardiomediastinum": ""}.get(name, "left")
    mild, moderate, severe = (
        contrast(with_finding(facts, name, side, severity), facts).sum() for severity in (0.15, 0.5, 0.95)
    )
    assert 0.0 < mild < moderate < severe


@pytest.mark.parametrize("name", SIDED)
def test_finding_is_drawn_on_its_side(corpus: SyntheticCorpus, name: str) -> None:
    """The patient's left is on the right of the image."""
    facts = clean(corpus.facts(0))
    left, right = (contrast(with_finding(facts, name, side, 0.8), facts) for side in ("left", "right"))
    assert left[:, 32:].sum() > 10.0 * left[:, :32].sum()
    assert right[:, :32].sum() > 10.0 * right[:, 32:].sum()


def test_finding_is_drawn_in_its_zone(corpus: SyntheticCorpus) -> None:
    facts = clean(corpus.facts(0))
    heights = []
    for down in (0.1, 0.5, 0.9):
        lesion = Finding("Lung Lesion", "right", "", 0.9, 0.3, "", 0.5, down)
        difference = contrast(dataclasses.replace(facts, findings=(lesion,)), facts)
        heights.append((difference.sum(axis=1) * np.arange(64)).sum() / difference.sum())
    assert heights[0] + 10.0 < heights[1] < heights[2] - 10.0


def test_pneumothorax_is_black_and_effusion_white(corpus: SyntheticCorpus) -> None:
    facts = clean(corpus.facts(0))
    plain = render(facts, 64).mean()
    assert render(with_finding(facts, "Pneumothorax", "left", 0.9), 64).mean() < plain
    assert render(with_finding(facts, "Pleural Effusion", "left", 0.9), 64).mean() > plain


def test_image_does_not_depend_on_resolution(corpus: SyntheticCorpus) -> None:
    """An image of twice the size, averaged over 2 by 2 pixels, is the same image."""
    for index in range(10):
        facts = corpus.facts(index)
        small, large = render(facts, 64).astype(float), render(facts, 128).astype(float)
        halved = large.reshape(64, 2, 64, 2).mean(axis=(1, 3))
        assert abs(small.mean() - large.mean()) < 1.0
        assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.98
