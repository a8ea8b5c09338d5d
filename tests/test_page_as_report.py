"""What a page fills in of a paper: who was studied, where it failed, how it was made, the checklists, the tables."""

import csv
import io
import json
import math

import numpy as np
import pytest

from tests.conftest import TinyCorpus, study_data
from tests.test_tables import evaluation_of as make_evaluation
from tests.test_training import make_vkd
from vkd_pyro.data.cohort import cohort_of
from vkd_pyro.evaluation.tables import failures
from vkd_pyro.metrics import Interval
from vkd_pyro.reporting.checklist import CHECKLISTS, checklists
from vkd_pyro.reporting.figures import flow
from vkd_pyro.reporting.html import shown
from vkd_pyro.reporting.method import formula_of, method_facts
from vkd_pyro.reporting.page import SECTIONS, Table, Undefined
from vkd_pyro.reporting.sections import Assessment, Extras, page_of
from vkd_pyro.reporting.tables import as_csv, as_latex, tables_of
from vkd_pyro.reporting.write import save_all


class Described(TinyCorpus):
    """Half are women, every third label of the first finding is not known, ages from 30."""

    def _study(self, number):
        study = super()._study(number)
        labels = study.labels.copy()
        if number % 3 == 0:
            labels[0] = np.nan
        return type(study)(
            **{**vars(study), "labels": labels, "sex": ("female", "male")[number % 2], "age": 30.0 + number % 10}
        )


def test_a_cohort_is_counted_split_by_split():
    data = study_data(Described(), image_size=32, batch_size=8)
    found = cohort_of(data)
    for split, counts in found.included.items():
        studies = data.studies(split)
        assert counts == {
            "patients": len({study.patient_id for study in studies}),
            "studies": len(studies),
            "images": sum(len(study.images) for study in studies),
        }
        women = sum(study.sex == "female" for study in studies)
        column = found.characteristics[split]
        assert column["sex: female"] == f"{women} of {len(studies)} ({women / len(studies):.1%})"
        ages = [study.age for study in studies]
        assert column["age in years, median (quartiles)"].startswith(f"{np.median(ages):.0f} (")
        first = np.array([study.labels[0] for study in studies])
        known, positive = int((~np.isnan(first)).sum()), int(np.nansum(first))
        missing = f", {len(studies) - known} not known" if known < len(studies) else ""
        assert column[data.findings[0]] == f"{positive} of {known} ({positive / known:.1%}){missing}"
    assert set(found.shared_patients.values()) == {0}
    assert json.loads(json.dumps(found.summary()))["labels"] == "the corpus's own"


def test_a_cohort_says_nothing_of_what_a_corpus_does_not_have():
    rows = cohort_of(study_data(TinyCorpus(), image_size=32, batch_size=8)).characteristics.index
    assert "sex: female" not in rows
    assert "age in years, median (quartiles)" not in rows
    assert "sex: unknown" in rows


def test_a_flow_names_every_count():
    counts = {"patients": 3, "studies": 1234, "images": 5}
    drawn = flow("Corpus", {"images of lateral view": 77}, {"train": counts, "test": counts})
    said = {text.get_text() for text in drawn.axes[0].texts}
    assert {
        "Corpus",
        "left out",
        "77 images of lateral view",
        "train",
        "test",
        "1,234 studies",
        "2,468 studies",
    } <= said


def test_failures_are_the_surest_wrong_answers():
    p = np.array([[0.9], [0.8], [0.2], [0.1], [0.6], [0.05]])
    y = np.array([[1.0], [0.0], [1.0], [0.0], [0.0], [0.0]])
    table = failures(make_evaluation(p, y))
    assert table[["error", "rank", "probability"]].to_numpy().tolist() == [
        ["false alarm", 1, 0.8],
        ["false alarm", 2, 0.6],
        ["miss", 1, 0.2],
    ]
    perfect = failures(make_evaluation(np.array([[0.9], [0.1]]), np.array([[1.0], [0.0]])))
    assert perfect.empty


@pytest.mark.parametrize("number", range(len(CHECKLISTS)))
def test_a_checklist_has_each_item_once_with_an_answer(number):
    found = checklists(list(SECTIONS))[number]
    numbers = [item.number for item in found.items]
    assert len(set(numbers)) == len(numbers)
    expected = {"CLAIM 2024": [str(n) for n in range(1, 45)], "TRIPOD+AI": TRIPOD}[found.name]
    assert numbers == expected
    for item in found.items:
        assert item.section in SECTIONS or item.author
    without = checklists(["summary"])[number]
    assert {item.section for item in without.items} <= {"", "summary"}
    assert all(item.section or item.author for item in without.items)


TRIPOD = [
    "1",
    "2",
    "3a",
    "3b",
    "3c",
    "4",
    "5a",
    "5b",
    "6a",
    "6b",
    "6c",
    "7",
    "8a",
    "8b",
    "8c",
    "9a",
    "9b",
    "9c",
    "10",
    "11",
    "12a",
    "12b",
    "12c",
    "12d",
    "12e",
    "12f",
    "12g",
    "13",
    "14",
    "15",
    "16",
    "17",
    "18a",
    "18b",
    "18c",
    "18d",
    "18e",
    "18f",
    "19",
    "20a",
    "20b",
    "20c",
    "21",
    "22",
    "23a",
    "23b",
    "24",
    "25",
    "26",
    "27a",
    "27b",
    "27c",
]


def test_tables_are_files_for_a_paper():
    rows = [["=1+1 & co", Interval(0.5, 0.25, 0.75)], ["50% of_it", Undefined("none")]]
    table = Table("A {title}", ["finding", "AUC"], rows)
    assert list(csv.reader(io.StringIO(as_csv(table)))) == [
        ["finding", "AUC"],
        ["'=1+1 & co", "0.500 [0.250, 0.750]"],
        ["50% of_it", "undefined"],
    ]
    latex = as_latex(table)
    assert r"\caption{A \{title\}}" in latex
    assert r"=1+1 \& co & 0.500 [0.250, 0.750] \\" in latex
    assert r"50\% of\_it & undefined \\" in latex
    assert r"\begin{tabular}{lr}" in latex


def test_formulas_are_those_of_the_docstrings():
    vkd = make_vkd()
    assert formula_of(vkd).startswith("Model   p(z | x_I) p(y | x_I, z)")
    assert formula_of(vkd.objective).startswith("loss = - E_{z ~ s}[log p(y | x_I, z)]")
    config = {
        "seed": 7,
        "training": {"max_epochs": 3, "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}}},
    }
    facts = method_facts(vkd, study_data(TinyCorpus(), image_size=32, batch_size=8), config).facts
    assert facts["training, optimizer"] == "Adam (lr 0.1)"
    assert facts["seed of the training"] == "7"
    assert "pyro-ppl 1." in facts["software"]


@pytest.fixture(scope="module")
def assessed(tmp_path_factory):
    generator = np.random.default_rng(0)
    y = (generator.random((200, 2)) < (0.3, 0.02)).astype(float)
    p = np.clip(0.3 * y + generator.random((200, 2)) * 0.6, 0.01, 0.99)
    blank = dict.fromkeys(("joint_log_prob", "marginal_log_prob", "answer_information"), np.full(200, math.nan))
    evaluation = make_evaluation(p, y, **blank)
    data = study_data(TinyCorpus(), image_size=32, batch_size=8)
    extras = Extras("mine", cohort=cohort_of(data), method=method_facts(make_vkd(), data, {"seed": 1}))
    folder = tmp_path_factory.mktemp("page") / "evaluation"
    return evaluation, save_all(evaluation, folder, extras, 50), extras, folder


def numbers_of(value):
    """Every number of a JSON document."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers_of(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_every_number_of_the_page_is_in_the_json(assessed):
    evaluation, tables, extras, folder = assessed
    document = json.loads((folder / "evaluation.json").read_text())
    known = {f"{number:.3f}" for number in numbers_of(document)} | {f"{number:,}" for number in numbers_of(document)}
    page = page_of(evaluation, tables, extras)
    checked = 0
    for section in page.sections:
        if section.name not in ("summary", "findings", "calibration", "clinical"):
            continue
        for table in section.tables:
            for row in table.rows:
                for cell in row[1:]:
                    values = (cell.estimate, cell.low, cell.high) if isinstance(cell, Interval) else (cell,)
                    for value in values:
                        if isinstance(value, int | float) and not math.isnan(value):
                            share = table.title == "What to refer"  # counts of 1,000 answers
                            text = f"{value / 1000:.3f}" if share else shown(value).text
                            assert text in known, (section.name, table.title, row[0], text)
                            checked += 1
    assert checked > 50


def test_the_verdict_says_what_the_table_says(assessed):
    evaluation, tables, extras, _ = assessed
    page = page_of(evaluation, tables, extras)
    assert f"{tables.averages['macro30']:.3f}" in page.verdict
    assert f"best for {evaluation.findings[0]}" in page.verdict
    rare = make_evaluation(evaluation.probabilities[:20], evaluation.labels[:20])
    assert "there is no verdict" in page_of(rare, Assessment.of(rare, 20), Extras("rare")).verdict


def test_what_stands_beside_the_page(assessed):
    evaluation, _, _, folder = assessed
    assert {"index.html", "checklist.html", "checklist.json", "failures.csv", "tables", "figures"} <= {
        path.name for path in folder.iterdir()
    }
    page, text = (folder / "index.html").read_text(), (folder / "checklist.html").read_text()
    for item in (item for each in json.loads((folder / "checklist.json").read_text()) for item in each["items"]):
        assert item["status"] in ("filled in", "filled in, to be completed", "the author writes this")
        if item["section"]:
            assert f'href="index.html#{item["section"]}"' in text
            assert f'id="{item["section"]}"' in page
    assert "<script" not in page + text
    shared = page + text + (folder / "evaluation.json").read_text()
    assert not any(f">{study}<" in shared or f'"{study}"' in shared for study in evaluation.study_ids)
    names = {path.name for path in (folder / "tables").iterdir()}
    assert names == {f"{n}.{k}" for n, _ in tables_of(page_of(*assessed[:3])) for k in ("csv", "tex")}
