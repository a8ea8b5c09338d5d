"""The page: complete in itself, inert, and honest where a number is undefined.

`python -m tests.test_page PATH` writes a page of made-up numbers, to be looked at.
"""

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.html import render, shown, write_page
from vkd_pyro.reporting.page import SECTIONS, CaptionedFigure, Evaluated, Page, Section, Table, Undefined

NAN = float("nan")
FINDINGS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other"),
    *("Fracture", "Support Devices"),
)
ONE_CLASS = "no study, or only one class, is labelled"


# --------------------------------------------------------------------------------- made-up evaluation


def around(estimate: float, width: float = 0.03) -> Interval:
    return Interval(estimate, estimate - width, min(estimate + 0.8 * width, 1))


def demo_page(findings=FINDINGS, n: int = 824) -> Page:
    """A page with every section, of made-up numbers; the AUC of the last finding is undefined."""
    generator = np.random.default_rng(0)
    labels = (generator.random((n, len(findings))) < generator.uniform(0.05, 0.35, len(findings))).astype(float)
    labels[:, -1] = 0
    logits = generator.normal(labels * generator.uniform(0.8, 2.5, len(findings)), 1) - 1.5
    probabilities = 1 / (1 + np.exp(-1.4 * logits))
    sections = [
        demo_summary(len(findings)),
        demo_findings(findings, labels, probabilities),
        demo_curves(findings, labels, probabilities),
        demo_calibration(),
        demo_uncertainty(generator),
        demo_decisions(findings),
        demo_subgroups(),
        demo_latent(findings, generator),
        demo_training(),
        demo_cases(generator),
        demo_card(),
    ]
    evaluated = Evaluated(
        model="vkd, seed 0",
        data="synthetic",
        split="test",
        patients=605,
        studies=n,
        images=1204,
        labels=labels.size,
        positives=int(labels.sum()),
        policies={"training": "uncertain is masked, blank is negative", "evaluation": "uncertain is left out"},
        seed=0,
        num_samples=100,
        bundle_hash="3f9a0c51d2e7",
        version="0.1.0",
        more={"studies with a report": 790},
    )
    warning = (
        "reports are ignored: KL(q(z | report) || p(z | image)) is 0.0310 nats, less than 0.1: z knows of the report "
        "no more than the image told it. Try a lower objective.kl_scale (e.g. 0.02), or objective.divergence BalancedKL"
    )
    return Page("Findings in chest X-rays: vkd on synthetic", evaluated, sections, (warning,))


def demo_summary(number: int) -> Section:
    rows = [
        (f"macro ({number - 1} findings defined)", around(0.841, 0.012), around(0.512, 0.02), around(0.962, 0.006)),
        ("macro30 (10 findings with at least 30 positives)", around(0.852, 0.01), around(0.55, 0.02), around(0.965)),
        ("micro (all pairs pooled)", around(0.893, 0.008), around(0.601, 0.01), around(0.97, 0.004)),
        ("weighted (by positives)", around(0.861, 0.01), around(0.58, 0.02), around(0.968, 0.005)),
    ]
    return Section(
        "summary",
        lead="How well the findings are told from the images alone. In brackets: 95 % intervals, patients resampled.",
        highlights={
            "macro AUC": rows[0][1],
            "micro AUC": rows[2][1],
            "negative log-likelihood (nats)": Interval(0.315, 0.301, 0.33),
            "error rate, most uncertain fifth": around(0.31, 0.02),
        },
        tables=[
            Table(
                "Averages",
                ["average", "AUC", "average precision", "AUC of the report's classifier *"],
                rows,
                note="* reads the report: not available at inference",
            )
        ],
    )


def demo_findings(findings, labels, probabilities) -> Section:
    rows = []
    for name, y, p in zip(findings, labels.T, probabilities.T, strict=True):
        positives = int(y.sum())
        auc = around(roc_auc_score(y, p)) if positives else Undefined(ONE_CLASS)
        precision = around(average_precision_score(y, p), 0.06) if positives else Undefined(ONE_CLASS)
        brier, slope = float(np.mean((p - y) ** 2)), around(0.93, 0.1) if positives else NAN
        rows.append((name, len(y), positives, auc, precision, brier, slope))
    columns = ["finding", "known", "positive", "AUC", "average precision", "Brier", "calibration slope"]
    return Section("findings", tables=[Table("Findings", columns, rows, undefined="too few positives to fit a line")])


def demo_curves(findings, labels, probabilities) -> Section:
    rocs, aucs, recalls, precisions = {}, {}, {}, {}
    for name, y, p in zip(findings, labels.T, probabilities.T, strict=True):
        if not y.any():
            rocs[name] = recalls[name] = ([NAN], [NAN])
            aucs[name] = precisions[name] = NAN
            continue
        precision, recall, _ = precision_recall_curve(y, p)
        rocs[name], recalls[name] = roc_curve(y, p)[:2], (recall, precision)
        aucs[name], precisions[name] = around(roc_auc_score(y, p)), around(average_precision_score(y, p), 0.06)
    prevalences = dict(zip(findings, labels.mean(0), strict=True))
    return Section(
        "curves",
        lead="Gray in the first panel: every finding; heavy: their mean.",
        figures=[
            CaptionedFigure("ROC curves", figures.roc(rocs, aucs), "Sensitivity against the false positive rate."),
            CaptionedFigure(
                "Precision-recall curves",
                figures.precision_recall(recalls, precisions, prevalences),
                "Dotted: the prevalence, which is the precision of a random order.",
            ),
        ],
    )


def demo_calibration() -> Section:
    predicted = np.linspace(0.03, 0.95, 10)
    counts = np.geomspace(6000, 40, 10).round()
    raw = (predicted, predicted**1.5, counts)
    calibrated = (predicted, predicted + 0.02 * np.sin(9 * predicted), counts[::-1].cumsum()[::-1] / 2)
    empty = np.where(np.arange(10) > 6, NAN, 1)
    one = tuple(values * empty for values in raw)
    return Section(
        "calibration",
        lead="Whether a probability of 0.3 means three in ten; recalibrated by Platt scaling fitted on validation.",
        tables=[
            Table(
                "Calibration, all findings pooled",
                ["probabilities", "ECE", "adaptive ECE", "Brier", "log loss (nats)"],
                [
                    ("raw", around(0.041, 0.005), 0.044, 0.101, 0.318),
                    ("recalibrated", around(0.012, 0.004), 0.013, 0.094, 0.3),
                ],
            )
        ],
        figures=[
            CaptionedFigure("All findings", figures.reliability(raw, calibrated), "Pooled; counts are logarithmic."),
            CaptionedFigure(
                "Pleural Effusion", figures.reliability(one, None, "Pleural Effusion"), "Raw only; empty bins left out."
            ),
        ],
    )


def demo_uncertainty(generator) -> Section:
    right = generator.random(4000) < 0.85
    total = np.where(right, generator.beta(1.2, 4, 4000), generator.beta(4, 2, 4000)) * np.log(2)
    shares = np.linspace(0, 0.9, 19)
    metric, oracle = 0.84 + 0.09 * shares, np.minimum(0.84 + 0.4 * shares, 1)
    random = 0.84 + 0.004 * np.sin(12 * shares)
    return Section(
        "uncertainty",
        lead="Entropy of the mean prediction. Its part carried by z is the mutual information of answer and z.",
        figures=[
            CaptionedFigure("Uncertainty of right and of wrong answers", figures.uncertainty_histograms(total, right)),
            CaptionedFigure(
                "Referral", figures.referral(shares, metric, random, oracle), "The most uncertain studies are referred."
            ),
            CaptionedFigure("Risk and coverage", figures.risk_coverage(1 - shares, 0.15 * (1 - shares) ** 2 + 0.01)),
        ],
    )


def demo_decisions(findings) -> Section:
    points = [
        (name, 0.05 + 0.02 * k, around(0.9), around(0.62, 0.05), 0.11, True) for k, name in enumerate(findings[:5])
    ]
    sets = [(name, 0.9, around(0.902, 0.02), 0.74) for name in findings[:5]]
    return Section(
        "decisions",
        tables=[
            Table(
                "Operating points, chosen on validation for a sensitivity of 0.9",
                ["finding", "threshold", "sensitivity", "specificity", "referred", "reached"],
                points,
            ),
            Table("Conformal sets", ["finding", "stated coverage", "coverage found", "sets of one answer"], sets),
        ],
    )


def demo_subgroups() -> Section:
    rows = [
        ("female", 301, around(0.843), around(0.319, 0.01)),
        ("male", 304, around(0.838), around(0.31, 0.01)),
        ("under 20 years", 4, Undefined("fewer than 10 patients"), around(0.35, 0.1)),
        ("frontal", 605, around(0.846), around(0.31, 0.01)),
    ]
    return Section(
        "subgroups", tables=[Table("Subgroups", ["subgroup", "patients", "macro AUC", "log loss (nats)"], rows)]
    )


def demo_latent(findings, generator) -> Section:
    labels = generator.choice([0, 1, NAN], 800, p=[0.7, 0.25, 0.05])
    plain = generator.normal(0, 1, (800, 2)) * [2, 1]
    told = plain + np.where(np.nan_to_num(labels)[:, None] == 1, [2.5, 2], [-0.5, -0.5])
    finding = findings[min(2, len(findings) - 1)]
    words = np.select([labels == 1, labels == 0], ["present", "absent"], "unknown")
    maps = {f"{finding}: without reports": (plain, words), f"{finding}: with reports": (told, words)}
    return Section(
        "latent",
        facts={
            "KL(q || p), nats": 14.2,
            "active units, prior": 61,
            "active units, posterior": 88,
            "change of p by z": NAN,
        },
        figures=[CaptionedFigure("t-SNE of z", figures.latent_maps(maps), "A point a study; perplexity 30.")],
    )


def demo_training() -> Section:
    epoch = np.arange(20)
    fall = np.exp(-epoch / 5)
    table = pd.DataFrame(
        {
            "epoch": epoch,
            "train/loss": 7 + 8 * fall,
            "val/loss": 8 + 6 * fall,
            "val/nll": 0.31 + 0.15 * fall + 0.0004 * epoch**1.5,
            "val/macro_auc": 0.85 - 0.3 * fall,
            "val/report_macro_auc": 0.96 - 0.4 * fall,
            "val/micro_auc": 0.89 - 0.25 * fall,
            "val/report_micro_auc": 0.97 - 0.4 * fall,
            "train/kl": 14 - 13 * fall,
            "val/kl": 18 - 13 * fall,
            "train/beta": 1.0,
            "train/log_likelihood": -4 - 3 * fall,
            "train/auxiliary": -3 - 4 * fall,
            "val/active_units_prior": (60 * (1 - fall)).round(),
            "val/active_units_posterior": (90 * (1 - fall)).round(),
            "val/mutual_information": 2.1 * (1 - fall),
            "val/z_change": 0.1 * (1 - fall),
            "val/z_spread": 0.05 * (1 - fall),
        }
    )
    return Section("training", figures=[CaptionedFigure("Training curves", figures.training_curves(table))])


def demo_cases(generator) -> Section:
    images = generator.random((3, 64, 64)).cumsum(1) % 1
    overlays = np.stack([images, images * 0.6, 1 - images], axis=-1)
    captions = [
        "Edema 0.91, uncertainty 0.30 nats\nlabel: present",
        "Fracture 0.12\nlabel: absent",
        "Pneumonia 0.48\nunknown",
    ]
    shown = figures.cases(images, overlays, captions)
    return Section("cases", figures=[CaptionedFigure("Cases", shown, "Right: Grad-CAM.")])


def demo_card() -> Section:
    return Section(
        "card",
        facts={
            "Intended use": "Research. Not a medical device: not for diagnosis, triage or treatment.",
            "Trained on": "synthetic: 2,759 studies, chosen on 417 by the negative log-likelihood of a label.",
            "Limits": "Its probabilities hold for patients, scanners and labelling like those it was trained on.",
        },
    )


# ------------------------------------------------------------------------------------------ what is held


@pytest.fixture(scope="module")
def page() -> Page:
    return demo_page(("Edema", "Support <Devices> & $x$", "Hernia"), 120)


@pytest.fixture(scope="module")
def html(page) -> str:
    return render(page)


class Elements(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def one(cell, **options) -> Page:
    """A page with one table of one number."""
    return small(Section("findings", tables=[Table("T", ["finding", "AUC"], [("Edema", cell)], **options)]))


def small(*sections: Section, **changes) -> Page:
    evaluated = Evaluated("m", "corpus", "test", 1, 2, 3, 4, 5, {}, 6, 7, "abc", "0.1.0")
    return Page("title", replace(evaluated, **changes), sections)


def test_sections_stand_in_their_order_with_a_link_to_each(page, html):
    ids = [a["id"] for tag, a in Elements(html).found if tag == "section"]
    assert ids == [name for name in SECTIONS if name in {section.name for section in page.sections}]
    links = {a["href"] for tag, a in Elements(html).found if tag == "a"}
    assert links == {"#content", "#evaluated", "checklist.html", *(f"#{name}" for name in ids)}
    shuffled = Page(page.title, page.evaluated, page.sections[::-1], page.warnings)
    assert render(shuffled) == html  # and the same content is the same page


def test_any_section_may_be_left_out():
    everything = [Section(name, lead=f"lead of {name}") for name in SECTIONS]
    for left_out in (None, *everything):
        text = render(small(*(section for section in everything if section != left_out)))
        shown_leads = [section.name for section in everything if f"lead of {section.name}" in text]
        assert shown_leads == [section.name for section in everything if section != left_out]
    assert "<section" not in render(small())


def test_ids_are_unique(html):
    ids = [a["id"] for _, a in Elements(html).found if "id" in a]
    assert len(ids) > 200
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing(html):
    elements = Elements(html)
    for tag, attributes in elements.found:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "data", "srcset", "action"):
                assert value.startswith(("#", "data:image/png;base64,")) or value == "checklist.html", (tag, name)
            assert "://" not in (value or "") or name.startswith("xmlns"), (tag, name)
    assert not {tag for tag, _ in elements.found} & {"script", "link", "iframe", "object", "embed", "base"}
    assert not re.search(r"@import|url\((?!#)", html)


def test_what_was_evaluated_is_said():
    text = " ".join(Elements(render(small(policies={"evaluation": "uncertain is left out"}, images=1204))).text.split())
    for fact in ("corpus, test split", "1,204", "uncertain is left out", "abc", "0.1.0", "samples of z an image7"):
        assert fact in text
    assert "date" not in text
    assert "2026-01-02" in render(small(date="2026-01-02"))


@pytest.mark.parametrize("cell", [NAN, np.float64(NAN), Interval(NAN, NAN, NAN), Undefined("only one class")])
def test_undefined_has_its_reason(cell):
    text = render(one(cell, undefined="only one class"))
    assert '<span class="undefined">undefined</span><sup title="only one class">1</sup>' in text
    assert "<sup>1</sup> undefined: only one class" in text


def test_reasons_are_footnotes_once_each(html):
    assert html.count(f"undefined: {ONE_CLASS}") == 1
    assert html.count("undefined: too few positives to fit a line") == 1
    assert "fewer than 10 patients" in html


def test_an_undefined_fact_has_its_reason(html):
    assert re.search(r'undefined</span>\s*<span class="reason">\(the data do not define it\)', html)


def test_intervals_and_numbers():
    assert vars(shown(Interval(0.912, 0.88, 0.941))) == {
        "text": "0.912", "interval": "[0.880, 0.941]", "reason": "", "is_number": True,
    }  # fmt: skip
    assert shown(Interval(0.9, NAN, NAN), undefined="one patient").interval == "[undefined]"
    assert shown(Interval(0.9, NAN, NAN), undefined="one patient").reason == "one patient"
    assert [shown(cell).text for cell in (12345, np.int64(7), np.float32(0.5), 0.0, True)] == [
        "12,345", "7", "0.500", "0.000", "yes",
    ]  # fmt: skip
    assert shown(1 / 3, digits=1).text == "0.3"
    assert '<span class="estimate">0.912</span> <span class="interval">[0.880, 0.941]</span>' in render(
        one(Interval(0.912, 0.88, 0.941))
    )


def test_numbers_are_aligned_and_rows_and_columns_have_headings():
    rows = [("a", 1, "text", NAN), ("b", 2.5, "text", Undefined("why"))]
    text = render(small(Section("findings", tables=[Table("T", ["w", "x", "y", "z"], rows)])))
    heads = [a for tag, a in Elements(text).found if tag == "th"]
    assert [a.get("class") for a in heads if a["scope"] == "col"] == [None, "number", None, "number"]
    assert [a["scope"] for a in heads] == ["col"] * 4 + ["row"] * 2
    assert ">T</h3>" in text


def test_a_table_of_no_rows_is_a_page():
    assert "<tbody>\n</tbody>" in render(small(Section("findings", tables=[Table("T", ["x", "y"], [])])))


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}"])
def test_everything_is_inert(evil):
    figure = CaptionedFigure(evil, figures.roc({evil: ([0, 1], [0, 1])}, {evil: 0.5}), evil, evil)
    table = Table(evil, [evil, evil], [(evil, Undefined(evil))], evil)
    section = Section("findings", evil, {evil: evil}, {evil: Undefined(evil)}, [table], [figure], [evil])
    page = Page(evil, Evaluated(evil, evil, evil, 1, 1, 1, 1, 1, {evil: evil}, 1, 1, evil, evil), [section], [evil])
    elements = Elements(render(page))
    assert {tag for tag, _ in elements.found}.isdisjoint({"script", "img"})
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert evil in elements.text


def test_every_figure_is_described(page, html):
    labels = [a["aria-label"] for tag, a in Elements(html).found if tag == "svg"]
    assert len(labels) == sum(len(section.figures) for section in page.sections)
    assert all(labels)
    assert "Precision-recall curves. Dotted: the prevalence, which is the precision of a random order." in labels


def test_what_cannot_be_a_page_is_refused():
    with pytest.raises(ValueError, match="section: found 'roc', expected one of summary, findings"):
        Section("roc")
    with pytest.raises(ValueError, match="T: 1 cells in a row, 2 columns: a"):
        Table("T", ["x", "y"], [("a",)])
    with pytest.raises(ValueError, match="found more than one of card, expected one each"):
        small(Section("card"), Section("card"))


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "index.html"
    write_page(small(), path)
    before = path.read_text()
    assert before == render(small())
    with pytest.raises(AttributeError):
        write_page(small(Section("curves", figures=[CaptionedFigure("no figure", None)])), path)  # type: ignore[arg-type]
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]


if __name__ == "__main__":
    write_page(demo_page(), Path(sys.argv[1]))
