"""What `vkd recalibrate` is worth at a shifted site, by how many labelled studies it has.

    python scripts/recalibration.py runs/synthetic/bundle --json results/recalibration.json

The site is the synthetic corpus as drawn with another seed, shifted in three ways: findings are more frequent (a study
without any is left out with probability 0.6), images have less contrast (gamma 1.4, gray levels pressed together), and
labels are wrong now and then (3 % of the absent, 10 % of the present ones are flipped), in what is fitted to; what is
tested on has the same prevalence and contrast, and true labels. Some thousand studies that no fit sees are tested on.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from comparing import write_result
from jsonargparse.typing import PositiveInt
from trainings import errors_in_one_line

from vkd_pyro import metrics
from vkd_pyro.artifacts.bundle import Bundle, load_bundle
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.evaluation.outputs import StudyOutputs, outputs_of_images, signals
from vkd_pyro.evaluation.site import recalibrate
from vkd_pyro.posthoc.calibration import Calibration
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.labels import truth

LEFT_OUT = 0.6
"""Share of the studies without an abnormality that do not come to this site."""
FLIPPED = {0: 0.03, 1: 0.10}
GAMMA, DARKEST, BRIGHTEST = 1.4, 40, 200


class ShiftedSite(Corpus):
    """Studies of a site: those to fit to in the split "validation", with noisy labels; those to test on in "test".

    Args:
        num_fitted, num_tested: how many studies of each.
        image_size: in pixels.
    """

    name = "shifted site"
    findings = CHEXPERT_FINDINGS

    def __init__(self, num_fitted: int, num_tested: int, image_size: int = 64) -> None:
        self.num_fitted, self.num_tested, self.image_size = num_fitted, num_tested, image_size

    def studies(self) -> list[Study]:
        """Drawn until there are enough of both."""
        drawn = SyntheticCorpus(10**9, self.image_size, seed=7)
        found: dict[str, list[Study]] = {"validation": [], "test": []}
        wanted = {"validation": self.num_fitted, "test": self.num_tested}
        for index in range(10**9):
            split = "test" if index // 50 % 2 else "validation"  # a patient's studies are consecutive
            if all(len(found[name]) == number for name, number in wanted.items()):
                return found["validation"] + found["test"]
            rng = np.random.default_rng([11, index])
            labels = truth(drawn.facts(index))
            if len(found[split]) < wanted[split] and (labels[1:].any() or rng.random() > LEFT_OUT):
                found[split].append(self._study(drawn, index, split, labels, rng))
        raise AssertionError("not reached")

    def _study(
        self, drawn: SyntheticCorpus, index: int, split: str, labels: np.ndarray, rng: np.random.Generator
    ) -> Study:
        (image,) = drawn.study(index).images
        gray = (np.asarray(image) / 255.0) ** GAMMA * (BRIGHTEST - DARKEST) + DARKEST
        if split == "validation":
            flipped = rng.random(len(labels)) < np.where(labels == 1, FLIPPED[1], FLIPPED[0])
            labels = np.where(flipped, 1 - labels, labels)
        return Study(
            study_id=f"site-{index:06d}",
            patient_id=f"site-{index:06d}",
            images=(gray.round().astype(np.uint8),),
            views=("frontal",),
            report={},
            labels=labels.astype(np.float32),
            split=split,
        )


def measured(calibration: Calibration, rows: StudyOutputs) -> dict[str, float]:
    """What a calibration is worth on the studies that were held back."""
    fit = calibration.study
    honest = fit.recalibration(rows.probabilities)
    yes = np.where(np.isnan(fit.operating_points.thresholds), np.nan, honest >= fit.operating_points.thresholds)
    coverage = fit.conformal.coverage(honest, rows.labels)
    return {
        "ECE": metrics.expected_calibration_error(honest, rows.labels),
        "log loss": metrics.negative_log_likelihood(honest, rows.labels),
        "sensitivity": float(np.nanmean(yes[rows.labels == 1])),
        "specificity": float(1 - np.nanmean(yes[rows.labels == 0])),
        "coverage, present": float(np.nanmean(coverage.present)),
        "coverage, absent": float(np.nanmean(coverage.absent)),
        "out-of-distribution": float(calibration.reference.score(signals(rows)).flagged.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--sizes", type=PositiveInt, nargs="+", default=[100, 300, 1000], help="labelled studies")
    parser.add_argument("--tested", type=PositiveInt, default=2000, help="studies that are tested on")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    bundle = load_bundle(given.bundle)
    rows: dict[str, dict[str, float | str]] = {}
    for size in given.sizes:
        data = _data(bundle, size, given.tested)
        made = recalibrate(bundle, data, ("validation",), resamples=200)
        if not rows:
            tested = outputs_of_images(bundle.method, data, "test", 100)
            assert bundle.calibration is not None  # `recalibrate` refuses else
            rows["as it was"] = {"chosen": "", **measured(bundle.calibration, tested)}
        rows[f"{size} studies"] = {"chosen": made.chosen["study"], **measured(made.calibration, tested)}
    print(pd.DataFrame(rows).T.to_string())
    if given.json:
        shown = {
            name: {m: f"{v:.3f}" if isinstance(v, float) else v for m, v in row.items()} for name, row in rows.items()
        }
        write_result(given.json, {"rows": "fitted to", "table": shown, "tested": given.tested})


def _data(bundle: Bundle, size: int, tested: int) -> StudyData:
    corpus = ShiftedSite(size, tested, bundle.transform.size)
    return StudyData(Selection(corpus, image_size=bundle.transform.size), loading=Loading(batch_size=64))


if __name__ == "__main__":
    with errors_in_one_line():
        main()
