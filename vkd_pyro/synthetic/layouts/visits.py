"""The synthetic corpus as the layouts need it: study by study, with what is true, what was said, and further views."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.synthetic.corpus import NO_REPORT, REPORT, SyntheticCorpus
from vkd_pyro.synthetic.drawing.radiograph import render
from vkd_pyro.synthetic.facts import Facts
from vkd_pyro.synthetic.reading import Reading
from vkd_pyro.synthetic.reports import write_report

Pixels = NDArray[np.uint8]

LARGEST_DRAWN = 256
"""A larger image is this one enlarged: drawing takes time in proportion to its pixels, and shows no more detail."""

VISIT_STREAM, PATIENT_STREAM = 100, 101
"""The streams of random numbers of the layouts, apart from those of the synthetic corpus itself."""

FOLDS = {2: "validation", 5: "test", 8: "test"}
"""Every tenth patient is for validation and two for testing: by rank, so that even a small corpus has all splits."""

SAID = {"affirmed": "1.0", "hedged": "-1.0", "denied": "0.0", "resolved": "0.0"}
"""Stance of a remark -> label that a report labeller gives."""


@dataclass(frozen=True)
class Visit:
    """One study of the synthetic corpus.

    Attributes:
        index: the study's, from 0.
        patient: the patient's rank, from 0.
        order: the study's rank among those of the patient, from 0.
        facts: what is true.
        reading: what the radiologist said.
        frontal: the image, uint8 [image_size, image_size].
        report: the text, or None.
        seed: the corpus's seed.
    """

    index: int
    patient: int
    order: int
    facts: Facts
    reading: Reading
    frontal: Pixels
    report: str | None
    seed: int

    @cached_property
    def rng(self) -> np.random.Generator:
        """Random numbers of this study."""
        return np.random.default_rng([self.seed, self.index, VISIT_STREAM])

    @property
    def patient_rng(self) -> np.random.Generator:
        """Random numbers of the patient, the same in all studies of the patient."""
        return np.random.default_rng([self.seed, self.patient, PATIENT_STREAM])

    @property
    def split(self) -> str:
        """ "train", "validation" or "test"; the same in all studies of the patient."""
        return FOLDS.get(self.patient % 10, "train")

    @property
    def sections(self) -> dict[str, str]:
        """The report by its headers, such as "FINDINGS"; empty where there is no report."""
        lines = (line.partition(":") for line in (self.report or "").splitlines())
        return {header: text.strip() for header, _, text in lines}


def visits(corpus: SyntheticCorpus, progress: bool) -> Iterator[Visit]:
    """All studies in their order; a patient's studies are consecutive."""
    patient, order, body = -1, 0, None
    for index in tqdm(range(corpus.num_studies), desc="Studies", unit="study", disable=not progress):
        facts, reading = corpus.facts(index), corpus.reading(index)
        # The anatomy is drawn once a patient, so it tells patients apart.
        patient, order = (patient, order + 1) if facts.anatomy == body else (patient + 1, 0)
        body = facts.anatomy
        frontal, report = _frontal_view(facts, corpus.image_size), _report(corpus.seed, index, reading)
        yield Visit(index, patient, order, facts, reading, frontal, report, corpus.seed)


def _frontal_view(facts: Facts, image_size: int) -> Pixels:
    drawn = render(facts, min(image_size, LARGEST_DRAWN))
    return drawn if len(drawn) == image_size else np.asarray(Image.fromarray(drawn).resize((image_size, image_size)))


def _report(seed: int, index: int, reading: Reading) -> str | None:
    """The corpus's own report of a study, before it is taken apart into sections."""
    rng = np.random.default_rng([seed, index, REPORT])
    return None if rng.random() < NO_REPORT else write_report(reading, rng)


def report_labels(reading: Reading) -> dict[str, str]:
    """What a report labeller makes of a reading: finding -> "1.0", "0.0", "-1.0", or "" for what is not mentioned."""
    said = {remark.finding: SAID[remark.stance] for remark in reading.remarks}
    seen = {remark.finding for remark in reading.of("affirmed", "hedged")} - {"Support Devices"}
    return {name: said.get(name, "") for name in CHEXPERT_FINDINGS} | {"No Finding": "" if seen else "1.0"}


def lateral_view(frontal: Pixels) -> Pixels:
    """A stand-in for the side view, uint8 [H, 3 W / 4]: squeezed and blurred, with no claim to anatomy."""
    height, width = frontal.shape
    narrow = Image.fromarray(frontal).resize((3 * width // 4, height))
    return np.asarray(narrow.filter(ImageFilter.GaussianBlur(width / 64)))


def second_frontal_view(frontal: Pixels) -> Pixels:
    """The same chest on a darker film, uint8 [H, W]."""
    return (0.85 * frontal).astype(np.uint8)
