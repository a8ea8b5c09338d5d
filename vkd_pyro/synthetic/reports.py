"""The prose of a report, of what the radiologist made of a film.

A report has an indication, findings and an impression. Every remark of the reading becomes a sentence in a randomly
chosen wording; the indication, talk of earlier films and technical remarks name findings that are not there.
"""

import re

import numpy as np

from vkd_pyro.synthetic.phrases import (
    ALL_CLEAR,
    ASIDES,
    BOTH_SIDES,
    CHANGES,
    COUNTED,
    DENIALS,
    EARLIER,
    FRAMES,
    HEDGES,
    HINTS,
    NO_EARLIER,
    NOUNS,
    ONE_SIDE,
    REASONS,
    RESOLVED,
    SHORT,
    VIEWS,
    Phrases,
)
from vkd_pyro.synthetic.reading import Reading, Remark

Rng = np.random.Generator


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
