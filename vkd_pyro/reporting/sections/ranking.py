"""How well the model ranks studies: averages, a row a finding, and their curves."""

import numpy as np

from vkd_pyro import metrics
from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation
from vkd_pyro.metrics import Interval
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import CaptionedFigure, Cell, Section, Table, Undefined
from vkd_pyro.reporting.sections.assessment import Assessment


def summary(e: Evaluation, assessed: Assessment) -> Section:
    with_report = not np.isnan(e.report_probabilities).all()
    report = e.averages()["report"] if with_report else {}
    explained = {
        "macro": f"mean of the {int(assessed.ranking['undefined'].eq('').sum())} findings whose AUC is defined",
        f"macro{MIN_POSITIVES}": f"mean of the findings with at least {MIN_POSITIVES} positives here",
        "micro": "all known (study, finding) pairs pooled",
        "weighted": "mean of the findings by their positives",
    }
    columns = ["average", "AUC from the image", *(["AUC from the report"] if with_report else []), "what it is"]
    rows: list[list[Cell]] = [
        [name, value, *([report[name]] if with_report else []), explained[name]]
        for name, value in assessed.averages.items()
    ]
    note = (
        "Intervals of 95 %: patients resampled, the trained model being what it is."
        + " The report's classifier q(y | z) reads the report, which is not there at inference." * with_report
    )
    return Section(
        "summary",
        highlights={
            f"macro{MIN_POSITIVES} AUC": assessed.averages[f"macro{MIN_POSITIVES}"],
            "micro AUC": assessed.averages["micro"],
            "log loss of a label (nats)": e.nll(),
        },
        tables=[Table("Area under the ROC curve", columns, rows, note)],
        figures=[_forest(assessed)],
    )


def _forest(assessed: Assessment) -> CaptionedFigure:
    """Areas of the findings that have one, the highest first."""
    defined = assessed.ranking[assessed.ranking["undefined"].eq("")]
    areas = sorted(zip(defined.index, defined["AUC"], strict=True), key=lambda pair: -pair[1].estimate)
    values = [[area.estimate, area.low, area.high] for _, area in areas]
    estimates, lows, highs = zip(*values, strict=True) if values else ((), (), ())
    figure = figures.forest([str(name) for name, _ in areas], estimates, lows, highs, reference=0.5, signed=False)
    caption = "Each finding's area under the ROC curve with its interval; the dashed line is chance."
    return CaptionedFigure("Areas with their intervals", figure, caption)


def verdict(e: Evaluation, assessed: Assessment, against: tuple[str, Interval] | None = None) -> str:
    """The result in sentences: how good over all findings, for which most and least, beside which other method, and
    whether z is used."""
    average = assessed.averages[f"macro{MIN_POSITIVES}"]
    enough = assessed.ranking[assessed.ranking["undefined"].eq("") & assessed.ranking["positive"].ge(MIN_POSITIVES)]
    studies, patients = len(set(e.study_ids)), len(set(e.patient_ids))
    said = [f"{studies:,} studies of {patients:,} patients, {e.how.get('split', 'test')} split."]
    if np.isnan(average.estimate) or enough.empty:
        said.append(f"No finding has {MIN_POSITIVES} positives here, so there is no verdict.")
        return " ".join(said)
    order = enough["AUC"].map(lambda area: area.estimate).sort_values()
    best, least = order.index[-1], order.index[0]
    said.append(
        f"The mean area under the ROC curve of the {len(enough)} findings with at least {MIN_POSITIVES} positives is "
        f"{average:.3f}; best for {best} ({enough['AUC'][best]:.3f}), least for {least} ({enough['AUC'][least]:.3f})."
    )
    if against is not None:
        said.append(_beside(*against))
    gain = e.joint()["marginal_nll"] - e.joint()["joint_nll"]
    if gain > 0.01:
        said.append(f"Predicting a study's findings together is {gain:.2f} nats better than one by one: z is used.")
    return " ".join(said)


def _beside(name: str, difference: Interval) -> str:
    if np.isnan(difference.low):
        return f"Beside {name} nothing can be said."
    surely = (
        "better than" if difference.low > 0 else "worse than" if difference.high < 0 else "not shown to differ from"
    )
    return f"That is {surely} {name} on the same studies ({difference})."


def findings(e: Evaluation, assessed: Assessment) -> Section:
    with_report = not np.isnan(e.report_probabilities).all()
    columns = ["finding", "known", "positive", "AUC", "average precision", *(["AUC, report"] if with_report else [])]
    rows: list[list[Cell]] = []
    for finding, row in assessed.ranking.iterrows():
        why = row["undefined"]
        cells: list[Cell] = [Undefined(why) if why else row[name] for name in ("AUC", "average precision")]
        report: list[Cell] = [Undefined(why) if why else row["report AUC"]] if with_report else []
        rows.append([str(finding), int(row["known"]), int(row["positive"]), *cells, *report])
    note = (
        "Intervals of 95 %. Of an AUC: the values that its clustered variance does not contradict, patients being "
        "independent and their studies not; how often such intervals hold the truth was simulated, see the manual. Of "
        f"average precision: patients resampled, a finding with fewer than {metrics.RARE} positives given their number."
    )
    return Section("findings", tables=[Table("Ranking", columns, rows, note)])


def curves(e: Evaluation, assessed: Assessment) -> Section | None:
    if e.models is not None:
        return None  # scores of several models are not on one scale
    defined = [k for k, why in enumerate(assessed.ranking["undefined"]) if not why]
    if not defined:
        return None
    roc, pr, prevalence = {}, {}, {}
    for k in defined:
        p, y, name = e.probabilities[:, k], e.labels[:, k], e.findings[k]
        one, other = metrics.roc_curve(p, y), metrics.precision_recall_curve(p, y)
        roc[name] = (one.false_positive_rate, one.sensitivity)
        pr[name] = (other.recall, other.precision)
        prevalence[name] = float(np.nanmean(y))
    table = assessed.ranking.iloc[defined]
    return Section(
        "curves",
        figures=[
            CaptionedFigure("ROC curves", figures.roc(roc, dict(zip(roc, table["AUC"], strict=True)))),
            CaptionedFigure(
                "Precision-recall curves",
                figures.precision_recall(pr, dict(zip(pr, table["average precision"], strict=True)), prevalence),
                "The dotted line is the share of positives, which chance would reach.",
            ),
        ],
    )
