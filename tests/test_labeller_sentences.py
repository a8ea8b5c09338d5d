"""The labeller on hard sentences with right labels, by kind: `tests/sentences/`, counted as the results count them."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from labeller_sentences import SENTENCES, errors, read

GIVEN = read(SENTENCES / "given.csv")


@pytest.mark.parametrize("row", GIVEN, ids=[f"{row['kind']}-{row['sentence']}" for row in GIVEN])
def test_a_given_sentence_is_right(row):
    assert errors([row]) == []


@pytest.mark.parametrize(("name", "share"), [("frames", 0.01), ("further", 0.02), ("wild", 0.05)])
def test_few_of_the_others_are_wrong(name, share):
    rows = read(SENTENCES / f"{name}.csv")
    wrong = errors(rows)
    assert len(rows) > 300
    assert len(wrong) <= share * len(rows), wrong


def test_no_kind_is_left_behind():
    rows = [*read(SENTENCES / "frames.csv"), *read(SENTENCES / "further.csv")]
    wrong = Counter(kind for kind, _, _ in errors(rows))
    sizes = Counter(row["kind"] for row in rows)
    assert len(sizes) >= 13
    assert {kind: number for kind, number in wrong.items() if number > 0.05 * sizes[kind]} == {}
