"""Reports of the synthetic corpus: what the radiologist made of a film (`Reading`), and the prose (`write_report`).

A report has an indication, findings and an impression. Every remark of the reading becomes a sentence in a randomly
chosen wording; the indication, talk of earlier films and technical remarks name findings that are not there.
"""

import re
from dataclasses import dataclass

import numpy as np

Rng = np.random.Generator
Phrases = tuple[str, ...]


@dataclass(frozen=True)
class Remark:
    """What the radiologist says of one finding.

    Attributes:
        finding: One of the findings' names.
        stance: "affirmed", "hedged", "denied" or "resolved" (seen on an earlier film only).
        side: "left", "right", "both", or "".
        zone: "upper", "mid", "lower", or "".
        grade: 0 mild, 1 moderate, 2 severe.
        extent: 0 (small) to 1.
        kind: A device's or a pleural lesion's kind, else "".
    """

    finding: str
    stance: str
    side: str = ""
    zone: str = ""
    grade: int = 0
    extent: float = 0.0
    kind: str = ""


@dataclass(frozen=True)
class Reading:
    """All that the radiologist says of a film; a finding without a remark is passed over in silence.

    Attributes:
        sex: "woman" or "man".
        age: Years.
        view: "PA" or "AP".
        compared: Whether an earlier film is at hand.
        remarks: At most one a finding.
        asides: What is seen but has no label, as (name in `ASIDES`, side or "").
    """

    sex: str
    age: int
    view: str
    compared: bool
    remarks: tuple[Remark, ...]
    asides: tuple[tuple[str, str], ...]

    def of(self, *stances: str) -> list[Remark]:
        """The remarks with one of these stances."""
        return [remark for remark in self.remarks if remark.stance in stances]


def write_report(reading: Reading, rng: Rng) -> str:
    """The report: indication, comparison, findings, impression; one paragraph each."""
    paragraphs = [
        f"EXAMINATION: {_one(VIEWS[reading.view], rng)}",
        f"INDICATION: {_indication(reading, rng)}",
        f"COMPARISON: {_one(EARLIER if reading.compared else NO_EARLIER, rng)}",
        f"FINDINGS: {_findings(reading, rng)}",
        f"IMPRESSION: {_impression(reading, rng)}",
    ]
    if rng.random() < 0.3:
        del paragraphs[2]
    return "\n".join(paragraphs)


# Paragraphs -----------------------------------------------------------------------------------------------------------


def _indication(reading: Reading, rng: Rng) -> str:
    """Why the film was taken; sometimes a hint at a finding, more often none, or a false one."""
    real = [remark.finding for remark in reading.of("affirmed") if remark.finding in HINTS]
    reasons = HINTS[_one(tuple(real), rng)] if real and rng.random() < 0.3 else REASONS
    return f"{reading.age}-year-old {reading.sex} {_one(reasons, rng)}."


def _findings(reading: Reading, rng: Rng) -> str:
    """All remarks and asides, in a random order; denials that can be joined are joined."""
    sentences = [_present(remark, reading.compared, rng) for remark in reading.of("affirmed", "hedged")]
    sentences += [_fill(_one(RESOLVED, rng), remark, rng) for remark in reading.of("resolved")]
    sentences += [_one(ASIDES[name], rng).format(side=side) for name, side in reading.asides]
    order = rng.permutation(len(sentences))
    return " ".join([sentences[i] for i in order] + _denials(reading, rng))


def _denials(reading: Reading, rng: Rng) -> list[str]:
    """Sentences that say what is absent."""
    denied = [remark.finding for remark in reading.of("denied")]
    joined = [finding for finding in denied if finding in SHORT and rng.random() < 0.7]
    sentences = [_one(DENIALS[finding], rng) for finding in denied if finding not in joined]
    if joined:
        listed = [SHORT[finding] for finding in joined]
        names = ", ".join(listed[:-1]) + " or " + listed[-1] if len(listed) > 1 else listed[0]
        sentences.append(
            _one(("There is no {}.", "No {}.", "No evidence of {}.", "Negative for {}."), rng).format(names)
        )
    return sentences


def _impression(reading: Reading, rng: Rng) -> str:
    """The gravest remarks again, in other words."""
    seen = sorted(reading.of("affirmed"), key=lambda remark: -remark.grade)[: 2 + int(rng.integers(3))]
    uncertainties = [remark for remark in reading.of("hedged") if not seen or rng.random() < 0.6]
    lines = [_sentence(_noun(remark, rng)) for remark in seen]
    lines += [_fill(_one(HEDGES, rng), remark, rng) for remark in uncertainties]
    if not lines:
        return _one(ALL_CLEAR, rng)
    if rng.random() < 0.5 and len(lines) > 1:
        lines = [f"{number}. {line}" for number, line in enumerate(lines, start=1)]
    return " ".join(lines)


# Sentences ------------------------------------------------------------------------------------------------------------


def _one(phrases: Phrases, rng: Rng) -> str:
    return phrases[int(rng.integers(len(phrases)))]


def _sentence(text: str) -> str:
    """Capitalised, without an article, closed by a full stop."""
    text = text.removeprefix("a ").removeprefix("an ")
    return text[0].upper() + text[1:] + "."


def _present(remark: Remark, compared: bool, rng: Rng) -> str:
    """A finding that is there, or may be."""
    if remark.stance == "hedged":
        return _fill(_one(HEDGES, rng), remark, rng)
    if compared and rng.random() < 0.1:
        return _fill("again seen {verb} {noun}.", remark, rng)
    text = _fill(_one(FRAMES, rng), remark, rng)
    change = _one(CHANGES, rng) if compared and rng.random() < 0.4 else ""
    return text[:-1] + change + "."


def _fill(frame: str, remark: Remark, rng: Rng) -> str:
    """A frame around the noun phrase of a remark; {bare} is the phrase without its article."""
    noun = _noun(remark, rng)
    verb = "are" if _plural(remark) else "is"
    bare = noun.removeprefix("a ").removeprefix("an ")
    text = frame.format(noun=noun, bare=bare, verb=verb, has="have" if verb == "are" else "has")
    return text[0].upper() + text[1:]


def _plural(remark: Remark) -> bool:
    return (remark.side == "both" and remark.finding in COUNTED) or remark.kind.endswith("s")


def _noun(remark: Remark, rng: Rng) -> str:
    """The noun phrase of a remark with its article, e.g. "a small left pleural effusion"."""
    words = {
        "grade": ("mild", "moderate", "severe")[remark.grade],
        "size": ("small", "moderate", "large")[remark.grade],
        "density": ("subtle", "moderate", "dense")[remark.grade],
        "shift": ("nondisplaced", "minimally displaced", "displaced")[remark.grade],
        "extent": ("focal", "patchy", "extensive")[min(int(3 * remark.extent), 2)],
        "mm": str(int(17 + 35 * remark.extent)),
        "side": "bilateral" if remark.side == "both" else remark.side,
        "where": _where(remark, rng),
        "rib": {"upper": "fourth", "mid": "sixth", "lower": "eighth"}.get(remark.zone, ""),
        "kind": remark.kind,
        "s": "s" if _plural(remark) else "",
    }
    if rng.random() < 0.12:
        words |= {"grade": "", "size": "", "density": "", "shift": ""}
    text = " ".join(_one(NOUNS[remark.finding], rng).format(**words).split())
    if _plural(remark):
        return text.removeprefix("[a] ")
    return re.sub(r"^\[a\] (?=[aeiou])", "an ", text).replace("[a] ", "a ")


def _where(remark: Remark, rng: Rng) -> str:
    """The place in words, e.g. "in the right upper lobe"."""
    if not remark.zone:
        return {"": "", "both": "bilaterally"}.get(remark.side, f"on the {remark.side}")
    if remark.side == "both":
        return _one(BOTH_SIDES[remark.zone], rng)
    return _one(ONE_SIDE[remark.zone], rng).format(side=remark.side)


# Phrases --------------------------------------------------------------------------------------------------------------

VIEWS: dict[str, Phrases] = {
    "PA": ("Chest radiograph, PA view.", "PA chest x-ray.", "Single frontal PA view of the chest."),
    "AP": ("Portable AP chest radiograph.", "Single portable AP view of the chest.", "AP chest, portable."),
}
EARLIER: Phrases = ("Prior chest radiograph.", "Radiograph from two days earlier.", "Previous study of last year.")
NO_EARLIER: Phrases = ("None.", "None available.", "No prior studies for comparison.")

REASONS: Phrases = (
    "with chest pain",
    "with shortness of breath",
    "for preoperative evaluation",
    "with cough",
    "with a history of pneumonia",
    "with a history of congestive heart failure",
    "with prior pneumothorax",
    "with known lung nodule on outside study",
    "after a fall, to evaluate for fracture",
    "to evaluate for pneumonia",
    "to rule out pleural effusion",
    "with dizziness, to exclude an acute process",
    "with remote rib fractures",
    "with weakness",
)
HINTS: dict[str, Phrases] = {
    "Cardiomegaly": ("with leg swelling", "with known cardiomyopathy"),
    "Edema": ("with worsening dyspnea and orthopnea", "with heart failure, evaluate for edema"),
    "Pneumonia": ("with fever and productive cough", "with leukocytosis, evaluate for pneumonia"),
    "Pneumothorax": ("after chest trauma", "after line placement, evaluate for pneumothorax"),
    "Fracture": ("after motor vehicle collision", "with rib pain after a fall"),
    "Lung Lesion": ("with weight loss", "with a history of malignancy"),
    "Support Devices": ("intubated, evaluate lines and tubes", "after surgery, line placement"),
}

FRAMES: Phrases = (
    "there {verb} {noun}.",
    "{noun} {verb} present.",
    "{noun} {verb} seen.",
    "{noun} {verb} noted.",
    "{bare}.",
)
HEDGES: Phrases = (
    "{noun} may be present.",
    "{noun} cannot be excluded.",
    "cannot exclude {noun}.",
    "possible {bare}.",
    "findings may represent {noun}.",
    "questionable {bare}.",
    "appearance is suspicious for {noun}.",
)
RESOLVED: Phrases = (
    "previously seen {bare} {has} resolved.",
    "interval resolution of {bare}.",
    "{bare} on the prior study {has} cleared.",
)
CHANGES: Phrases = (", unchanged", ", increased since the prior study", ", decreased from prior", ", new since prior")

COUNTED = ("Pleural Effusion", "Pneumothorax", "Lung Opacity")

NOUNS: dict[str, Phrases] = {
    "Enlarged Cardiomediastinum": (
        "{grade} widening of the mediastinum",
        "{grade} enlargement of the cardiomediastinal silhouette",
        "{grade} prominence of the superior mediastinum",
    ),
    "Cardiomegaly": (
        "{grade} cardiomegaly",
        "{grade} enlargement of the heart",
        "{grade} enlargement of the cardiac silhouette",
    ),
    "Lung Opacity": (
        "[a] {density} opacity {where}",
        "{extent} {density} airspace opacification {where}",
        "{density} hazy opacification {where}",
        "[a] {extent} {density} opacity {where}",
    ),
    "Lung Lesion": (
        "[a] {mm} mm nodule {where}",
        "[a] {density} {mm} mm rounded lesion {where}",
        "[a] {mm} mm mass {where}",
    ),
    "Edema": (
        "{grade} pulmonary edema",
        "{grade} interstitial edema",
        "{grade} pulmonary vascular congestion with {extent} edema",
    ),
    "Consolidation": (
        "{density} consolidation {where}",
        "{extent} {density} consolidation {where}",
        "{density} airspace consolidation {where}",
    ),
    "Pneumonia": ("{grade} pneumonia {where}", "{extent} pneumonia {where}", "{grade} {extent} pneumonia {where}"),
    "Atelectasis": (
        "{grade} atelectasis {where}",
        "{grade} linear atelectasis {where}",
        "{grade} platelike atelectasis {where}",
        "{extent} subsegmental atelectasis {where}",
    ),
    "Pneumothorax": (
        "[a] {size} {side} pneumothorax",
        "[a] {size} {side} apical pneumothorax",
        "[a] {size} pneumothorax {where}",
    ),
    "Pleural Effusion": (
        "[a] {size} {side} pleural effusion{s}",
        "[a] {size} {side} effusion{s}",
        "[a] {size} layering {side} pleural effusion{s}",
    ),
    "Pleural Other": ("{grade} {side} pleural {kind}", "{extent} {side} pleural {kind}"),
    "Fracture": (
        "[a] {shift} {side} {rib} rib fracture",
        "[a] {shift} fracture of the {side} {rib} rib",
        "[a] {shift} fracture of the {side} lateral {rib} rib",
    ),
    "Support Devices": (
        "[a] {side} {kind}",
        "[a] {side} {kind} in standard position",
        "[a] {side} {kind} in appropriate position",
    ),
}
"""Finding to its noun phrases; [a] becomes an article."""

ONE_SIDE: dict[str, Phrases] = {
    "upper": ("in the {side} upper lobe", "in the {side} upper lung zone", "at the {side} apex"),
    "mid": ("in the {side} mid lung", "in the {side} perihilar region", "in the {side} mid lung zone"),
    "lower": ("in the {side} lower lobe", "at the {side} lung base", "in the {side} lower lung zone"),
}
BOTH_SIDES: dict[str, Phrases] = {
    "upper": ("in both upper lobes", "in the upper lungs bilaterally"),
    "mid": ("in both mid lungs", "in the perihilar regions bilaterally"),
    "lower": ("at both lung bases", "in the lower lobes bilaterally"),
}

SHORT: dict[str, str] = {
    "Consolidation": "focal consolidation",
    "Pneumonia": "pneumonia",
    "Lung Opacity": "focal opacity",
    "Edema": "pulmonary edema",
    "Pleural Effusion": "pleural effusion",
    "Pneumothorax": "pneumothorax",
    "Fracture": "acute fracture",
}
"""Findings that are denied in a list, and their names there."""

DENIALS: dict[str, Phrases] = {
    "Enlarged Cardiomediastinum": (
        "The mediastinal contours are normal.",
        "Mediastinum is not widened.",
        "Cardiomediastinal silhouette is within normal limits.",
    ),
    "Cardiomegaly": ("The heart is normal in size.", "Heart size is within normal limits.", "No cardiomegaly."),
    "Lung Opacity": ("The lungs are clear.", "Lungs are clear without opacity.", "No focal airspace opacity."),
    "Lung Lesion": ("No suspicious nodule or mass.", "No pulmonary nodule."),
    "Edema": ("No pulmonary edema.", "Pulmonary vasculature is normal.", "No vascular congestion or edema."),
    "Consolidation": ("No focal consolidation.", "The lungs are without consolidation."),
    "Pneumonia": ("No evidence of pneumonia.", "No radiographic findings of pneumonia."),
    "Atelectasis": ("No atelectasis.", "No significant atelectasis."),
    "Pneumothorax": ("No pneumothorax.", "No evidence of pneumothorax."),
    "Pleural Effusion": ("No pleural effusion.", "The costophrenic angles are sharp."),
    "Pleural Other": ("No pleural thickening.", "Pleural surfaces are smooth."),
    "Fracture": ("No acute fracture.", "Osseous structures are intact.", "No acute bony abnormality."),
    "Support Devices": ("No lines or tubes.", "No support devices."),
}

ASIDES: dict[str, Phrases] = {
    "tortuous aorta": ("The aorta is tortuous.", "Tortuosity of the thoracic aorta.", "Tortuous, ectatic aorta."),
    "hyperinflation": (
        "The lungs are hyperinflated.",
        "Hyperinflation with flattened diaphragms, suggesting COPD.",
        "Emphysematous changes with increased lung volumes.",
    ),
    "low lung volumes": ("Lung volumes are low.", "Low lung volumes with crowding of bronchovascular structures."),
    "scoliosis": ("Scoliosis of the thoracic spine, convex to the {side}.", "Thoracic scoliosis, {side} convex."),
    "granuloma": (
        "Calcified granuloma in the {side} lung.",
        "A calcified {side} lung granuloma is incidentally noted.",
    ),
    "raised diaphragm": ("Elevated {side} hemidiaphragm.", "The {side} hemidiaphragm is elevated."),
    "rotation": ("The patient is rotated to the {side}.", "Evaluation is limited by {side}ward rotation."),
    "underexposure": ("The film is underpenetrated.", "Underexposed film limits evaluation for subtle opacity."),
    "breasts": ("Breast shadows overlie the lower lungs.",),
}
"""What is seen but has no label, and its sentences."""

ALL_CLEAR: Phrases = (
    "No acute cardiopulmonary process.",
    "No acute cardiopulmonary abnormality.",
    "Normal chest radiograph.",
    "No acute intrathoracic abnormality.",
    "Unremarkable examination.",
)
