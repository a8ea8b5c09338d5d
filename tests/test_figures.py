"""Figures show the numbers they are given, and say so where there are none."""

import math
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from vkd_pyro.metrics import Interval
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.figures import files, style
from vkd_pyro.utils.errors import UserError

NAN = float("nan")


def scores(finding: int, n: int = 300):
    generator = np.random.default_rng(finding)
    labels = (generator.random(n) < 0.25).astype(float)
    return labels, generator.normal(labels * (1 + finding), 1)


def data(axes, line: int = 0) -> np.ndarray:
    return np.asarray(axes.lines[line].get_xydata())


def texts(figure: Figure) -> str:
    return "\n".join(ElementTree.fromstring(figures.svg(figure)).itertext())


def ids(text: str) -> set[str]:
    return {e.attrib["id"] for e in ElementTree.fromstring(text).iter() if "id" in e.attrib}


# ------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Interval(0.912, 0.88, 0.941), "0.912 [0.880, 0.941]"),
        (Interval(NAN, NAN, NAN), "undefined"),
        (Interval(0.5, NAN, NAN), "0.500 [undefined]"),
        (0.5, "0.500"),
        (np.float64(0.25), "0.250"),
        (NAN, "undefined"),
    ],
)
def test_an_interval_as_text(value, text):
    assert figures.interval_text(value) == text


def test_digits_are_as_asked():
    assert figures.interval_text(Interval(1 / 3, 0, 1), 1) == "0.3 [0.0, 1.0]"


# ---------------------------------------------------------------------------------- curves of findings


def test_roc_shows_each_finding_and_the_mean_of_the_defined_ones():
    curves, aucs = {}, {}
    for number, finding in enumerate(("Edema", "Fracture")):
        labels, values = scores(number)
        curves[finding], aucs[finding] = roc_curve(labels, values)[:2], roc_auc_score(labels, values)
    curves["Hernia"], aucs["Hernia"] = ([NAN], [NAN]), NAN
    figure = figures.roc(curves, aucs)
    overview, *panels = figure.axes
    assert len(panels) == 3
    assert [len(axes.lines) for axes in figure.axes] == [3, 2, 2, 0]
    for axes, finding in zip(panels, curves, strict=False):
        if finding != "Hernia":
            assert data(axes, 1) == pytest.approx(np.transpose(curves[finding]))
            assert axes.get_title("left") == finding
    x, y = data(overview, 2).T
    macro = (aucs["Edema"] + aucs["Fracture"]) / 2
    assert np.trapezoid(y, x) == pytest.approx(macro, abs=2e-3)
    assert (y[0], y[-1]) == (0, 1)
    shown = texts(figure)
    assert f"macro AUC {macro:.3f}" in shown
    assert "mean of 2 of 3" in shown
    assert "AUC undefined" in shown


@pytest.mark.parametrize("reverse", [False, True])
def test_the_mean_precision_recall_curve_has_the_mean_average_precision_under_it(reverse):
    curves, areas = {}, {}
    for number, finding in enumerate("ab"):
        labels, values = scores(number)
        precision, recall, _ = precision_recall_curve(labels, values)
        curves[finding] = (recall[::-1], precision[::-1]) if reverse else (recall, precision)
        areas[finding] = average_precision_score(labels, values)
    figure = figures.precision_recall(curves, areas, {"a": 0.2, "b": 0.3})
    assert data(figure.axes[0], 2)[:, 1].mean() == pytest.approx(np.mean(list(areas.values())), abs=5e-3)
    assert data(figure.axes[2], 0).tolist() == [[0, 0.3], [1, 0.3]]
    assert data(figure.axes[2], 1) == pytest.approx(np.transpose(curves["b"]))


def test_where_no_finding_is_defined_nothing_is_drawn():
    figure = figures.roc({"a": ([NAN], [NAN])}, {"a": Interval(NAN, NAN, NAN)})
    assert [len(axes.lines) for axes in figure.axes] == [0, 0]
    assert texts(figure).count("AUC undefined") == 2


def test_twenty_findings_have_twenty_panels_and_long_curves_are_small_files():
    line = np.sort(np.random.default_rng(0).random((2, 50_000)))
    figure = figures.roc({f"finding {k}": line for k in range(20)}, {f"finding {k}": 0.5 for k in range(20)})
    assert len(figure.axes) == 21
    assert len(figures.svg(figure)) < 500_000


# ------------------------------------------------------------------------------- calibration and uncertainty


def test_reliability_leaves_empty_bins_out():
    raw = ([0.1, NAN, 0.7], [0.2, NAN, 0.9], [30, 0, 5])
    calibrated = ([0.2, 0.5, 0.8], [0.2, 0.5, 0.8], [10, 10, 15])
    diagram, counts = figures.reliability(raw, calibrated, "Edema").axes
    assert [line.get_label() for line in diagram.lines] == ["perfect", "raw", "recalibrated"]
    assert data(diagram, 1).tolist() == [[0.1, 0.2], [0.7, 0.9]]
    assert data(diagram, 2).tolist() == np.transpose(calibrated[:2]).tolist()
    assert data(counts, 0).tolist() == [[0.1, 30], [0.7, 5]]
    assert diagram.get_title("left") == "Edema"
    assert len(figures.reliability(raw).axes[0].lines) == 2


def test_histograms_hold_each_kind_of_answer_by_itself():
    total, right = np.array([0.1, 0.1, 0.6, 0.6, NAN]), np.array([True, True, True, False, True])
    axes = figures.uncertainty_histograms(total, right).axes[0]
    shares = [patch.get_data().values for patch in axes.patches[::2]]
    assert [values.sum() for values in shares] == pytest.approx([1, 1])
    assert shares[0].max() == pytest.approx(2 / 3)
    assert shares[1][-1] == 1
    labels = [patch.get_label() for patch in axes.patches[::2]]
    assert labels == ["right: 3 answers, median 0.10", "wrong: 1 answers, median 0.60"]


def test_histograms_of_no_wrong_answer():
    axes = figures.uncertainty_histograms([0.0, 0.0], [True, True]).axes[0]
    assert axes.patches[2].get_label() == "wrong: 0 answers"
    assert axes.patches[2].get_data().values.sum() == 0


def test_referral_and_risk_show_their_lines():
    shares, metric, random, oracle = np.linspace(0, 0.9, 10), np.linspace(0.8, 0.9, 10), np.full(10, 0.8), np.ones(10)
    axes = figures.referral(shares, metric, random, oracle, "macro AUC").axes[0]
    assert [data(axes, line)[:, 1].tolist() for line in range(3)] == [v.tolist() for v in (oracle, metric, random)]
    assert axes.get_ylabel() == "macro AUC of the rest"
    assert len(figures.referral(shares, metric, random).axes[0].lines) == 2
    axes = figures.risk_coverage([0.2, 1.0, 0.6], [0.01, 0.2, 0.1], [0, 0.2, 0.05]).axes[0]
    assert data(axes, 0).tolist() == [[0.2, 0.01], [1, 0.2], [0.6, 0.1]]
    assert data(axes, 1)[:, 1].tolist() == [0.2, 0.2]
    assert len(axes.lines) == 3


# ----------------------------------------------------------------------------------- z and its training


def test_a_map_shows_unknown_apart_from_absent():
    points = np.arange(8.0).reshape(4, 2)
    figure = figures.latent_maps({"Edema": (points, ["present", "absent", "unknown", "present"])})
    shown = [c.get_offsets().tolist() for c in figure.axes[0].collections if len(c.get_offsets())]
    assert shown == [[[4, 5]], [[2, 3]], [[0, 1], [6, 7]]]
    assert [t.get_text() for t in figure.legends[0].texts] == ["unknown", "absent", "present"]


def test_maps_stand_side_by_side():
    points = np.zeros((3, 2))
    figure = figures.latent_maps({"image only": (points, ["left"] * 3), "with reports": (points, ["severe"] * 3)})
    assert [axes.get_title("left") for axes in figure.axes] == ["image only", "with reports"]


def test_training_curves_show_whatever_there_is():
    table = pd.DataFrame(
        {"epoch": [0, 1, 2], "train/loss": [3, 2, 1], "val/loss": NAN, "val/nll": [0.5, 0.3, 0.4], "other": 1}
    )
    loss, nll = figures.training_curves(table).axes
    assert data(loss, 0).tolist() == [[0, 3], [1, 2], [2, 1]]
    assert data(nll, 0).tolist() == [[0, 0.5], [1, 0.3], [2, 0.4]]
    assert nll.lines[1].get_xdata() == [1, 1]  # of the lowest
    assert "dotted: epoch 1" in texts(figures.training_curves(table))
    one = figures.training_curves(pd.DataFrame({"epoch": [0, 1], "train/kl": [NAN, 2.0]}))
    assert data(one.axes[0]).tolist() == [[1, 2]]


def test_training_curves_of_nothing_are_refused():
    with pytest.raises(UserError, match=r"metrics.csv: found columns epoch, step, expected epoch and one of val/loss"):
        figures.training_curves(pd.DataFrame({"epoch": [0], "step": [1]}))


# ---------------------------------------------------------------------------- comparisons and examples


def test_a_forest_tells_by_its_markers_which_intervals_leave_the_reference_out():
    figure = figures.forest(["a", "b", "c"], [0.02, 0.01, NAN], [0.01, -0.01, NAN], [0.03, 0.03, NAN], "difference")
    axes = figure.axes[0]
    assert [data(axes, line).tolist() for line in (1, 2)] == [[[0.01, 0], [0.03, 0]], [[0.02, 0]]]
    assert [axes.lines[line].get_markerfacecolor() for line in (2, 4)] == [style.BLUE, "white"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    shown = texts(figure)
    assert "+0.010 [-0.010, +0.030]" in shown
    assert "undefined" in shown


def test_cases_stand_beside_their_overlays():
    images, overlays = np.random.default_rng(0).random((2, 8, 8)), np.zeros((2, 8, 8, 3))
    figure = figures.cases(images, overlays, ["first", "second"])
    assert [axes.get_title("left") for axes in figure.axes] == ["first", "", "second", ""]
    assert np.array_equal(figure.axes[2].images[0].get_array(), images[1])
    assert figure.axes[3].images[0].get_array().shape == (8, 8, 3)
    assert len(figures.cases(images, None, ["first", "second"]).axes) == 2


# --------------------------------------------------------------------------------------------- as files


def simple(title: str = "") -> Figure:
    return figures.reliability(([0.1, 0.9], [0.2, 0.8], [3, 4]), None, title)


def test_svg_is_the_same_for_the_same_figure_and_shares_no_id_with_another():
    figure = simple()
    first, other = figures.svg(figure), figures.svg(simple("other"))
    assert first == figures.svg(figure) == figures.svg(simple())
    assert len(ids(first)) > 10
    assert not ids(first) & ids(other)
    assert not ids(figures.svg(simple(), prefix="a")) & ids(figures.svg(simple(), prefix="b"))


def test_references_inside_an_svg_are_to_ids_it_has():
    text = figures.svg(figures.uncertainty_histograms([0.1, 0.2, 0.3], [True, False, True]), prefix="p")
    known = ids(text)
    root = ElementTree.fromstring(text)
    wanted = {v[1:] for e in root.iter() for k, v in e.attrib.items() if k.endswith("href") and v.startswith("#")}
    wanted |= {part.split(")")[0] for part in text.split("url(#")[1:]}
    assert wanted
    assert wanted <= known


def test_svg_names_no_place_on_the_network():
    text = figures.svg(simple())
    for namespace in (files.SVG, files.XLINK):
        text = text.replace(f'="{namespace}"', "")
    assert "http" not in text


def test_svg_is_for_any_page_colour_and_says_what_it_shows():
    text = figures.svg(simple(), alt='a "quoted" <alt>')
    root = ElementTree.fromstring(text)
    assert (root.attrib["role"], root.attrib["aria-label"]) == ("img", 'a "quoted" <alt>')
    assert "currentColor" in text
    assert style.INK not in text


@pytest.mark.parametrize("name", ["<script>hi()</script>", "-->", "$x_1$", '" id="a', "a & b"])
def test_names_are_text_whatever_they_hold(name):
    text = figures.svg(figures.roc({name: ([0, 1], [0, 1])}, {name: 0.5}))
    root = ElementTree.fromstring(text)
    assert name in [t.strip() for t in root.itertext()]
    assert "<script" not in text
    assert not any(element.tag.endswith("script") for element in root.iter())


def test_files_are_written_whole_and_are_the_same_again(tmp_path):
    figures.save(simple(), tmp_path, "a")
    figures.save(simple(), tmp_path, "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (540, 660)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_figure_that_cannot_be_drawn_leaves_no_file(tmp_path):
    figure = simple()
    figure.savefig = None  # type: ignore[method-assign, assignment]
    with pytest.raises(TypeError):
        figures.save(figure, tmp_path, "a")
    assert list(tmp_path.iterdir()) == []


def test_figures_leave_the_settings_of_matplotlib_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.svg(simple())
    assert dict(matplotlib.rcParams) == before
    assert math.isclose(matplotlib.rcParams["font.size"], before["font.size"])
