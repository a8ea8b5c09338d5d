"""How well the model ranks studies: averages, a row a finding, and their curves."""

import numpy as np

from vkd_pyro import metrics
from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation
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
    )


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
