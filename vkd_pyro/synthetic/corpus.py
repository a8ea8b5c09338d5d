"""A corpus of drawn chest radiographs with written reports, for tests, examples and controlled experiments.

The idea, in the order of the code:

    facts   = draw_facts(patient, study)   what is true: anatomy, film, findings with side, zone, severity, extent
    image   = render(facts)                a radiograph that shows it
    reading = read(facts)                  what a radiologist says of it: affirmed, hedged, denied, resolved, or nothing
    report  = write_report(reading)        the prose
    labels  = label(reading) or truth(facts)

The report says more about the image than the labels do: side, zone, severity and extent of each finding, and facts
that have no label (tortuous aorta, scoliosis, low lung volumes, ...). Mild findings are hard to see, and often hedged
or missed by the radiologist.
"""

import numpy as np

from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.data.reports import WHOLE
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Sex, Study
from vkd_pyro.synthetic.drawing.radiograph import render
from vkd_pyro.synthetic.epidemiology import draw_facts
from vkd_pyro.synthetic.facts import Facts
from vkd_pyro.synthetic.labels import label, truth
from vkd_pyro.synthetic.reading import Reading, read
from vkd_pyro.synthetic.reports import write_report

Rng = np.random.Generator

VISIT, PATIENT, FACTS, READING, REPORT, LABELS = range(6)
"""The streams of random numbers: each step of a study has its own, so that one can change without the others."""

NO_REPORT = 0.04
"""Share of studies without report."""

RETURNS = 0.25
"""Probability that a study is one more of the same patient."""

SEXES: dict[str, Sex] = {"woman": "female", "man": "male"}


class SyntheticCorpus(Corpus):
    """Drawn radiographs, one a study, with reports and the 14 CheXpert findings.

    What is drawn, written and labelled is frozen, so that results are comparable. Study i depends on `seed` and i
    alone: a larger corpus begins with the studies of a smaller one.

    Labels of the train and validation splits are as report labelling makes them: some mild or hedged findings are
    flipped, some hedged or unmentioned ones are NaN, and a few studies have no labels at all. Labels of the **test**
    split are the radiologist's truth, taken from the facts: no noise and no NaN, as in the hand-labelled test set of
    MIMIC-CXR. A few studies of every split have no report.

    Args:
        num_studies: Number of studies.
        image_size: Height and width of the images, in pixels.
        seed: Seed of everything that is drawn.
    """

    name = "synthetic"
    findings = CHEXPERT_FINDINGS

    def __init__(self, num_studies: int = 2000, image_size: int = 64, seed: int = 0) -> None:
        self.num_studies = num_studies
        self.image_size = image_size
        self.seed = seed

    def studies(self) -> list[Study]:
        """All studies; they are drawn anew at each call, so keep the list."""
        return [self.study(index) for index in range(self.num_studies)]

    def study(self, index: int) -> Study:
        """One study: image uint8 [image_size, image_size], report, labels float32 [14] and split.

        Sex and age are those of the anatomy that is drawn and told of; a patient has the same age in all studies.
        """
        facts, patient_id = self.facts(index), f"p{self._first_study(index):06d}"
        split = split_of(self.name, patient_id)
        return Study(
            study_id=f"synthetic-{index:06d}",
            patient_id=patient_id,
            images=(render(facts, self.image_size),),
            views=("frontal",),
            report=self._report(index),
            labels=truth(facts) if split == "test" else label(self.reading(index), self._rng(index, LABELS)),
            split=split,
            sex=SEXES[facts.anatomy.sex],
            age=float(facts.anatomy.age),
        )

    def facts(self, index: int) -> Facts:
        """What is true of study `index`."""
        return draw_facts(self._rng(self._first_study(index), PATIENT), self._rng(index, FACTS))

    def reading(self, index: int) -> Reading:
        """What the radiologist says of study `index`."""
        later = self._first_study(index) < index
        return read(self.facts(index), later, self._rng(index, READING))

    def _report(self, index: int) -> dict[str, str]:
        rng = self._rng(index, REPORT)
        return {} if rng.random() < NO_REPORT else {WHOLE: write_report(self.reading(index), rng)}

    def _rng(self, index: int, stream: int) -> Rng:
        return np.random.default_rng(np.random.SeedSequence([self.seed, index, stream]))

    def _first_study(self, index: int) -> int:
        """Index of the first study of the patient of study `index`; a patient's studies are consecutive."""
        while index > 0 and self._rng(index, VISIT).random() < RETURNS:
            index -= 1
        return index
