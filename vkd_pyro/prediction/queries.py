"""Questions about several findings at once, such as "Pleural Effusion & ~Edema": a name, ~ not, & and, | or, ( ).

~ binds closest, then &, then |. A question is parsed to a tree and never run. Given z, findings are taken as
independent, so what a question is worth at a draw of z follows from the probabilities of its findings there; its
probability is the mean over draws, and their spread says how sure that mean is. The product of the marginals, which is
what independent outputs would say, is worth the same at the mean of the draws.
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vkd_pyro.data.labels.findings import abnormalities
from vkd_pyro.utils.errors import UserError

Floats = NDArray[np.floating]

MOST_TOKENS, DEEPEST, MOST_REPEATED = 200, 50, 10
"""Of a question: names and signs, parentheses in each other, and findings that are named more than once."""

ANY, NONE = "any abnormality", "no abnormality"
"""Names for "at least one of all findings", and for "none of them"; devices and "No Finding" are none."""


@dataclass(frozen=True)
class Name:
    """A finding, by its number."""

    finding: int


@dataclass(frozen=True)
class Not:
    """The contrary."""

    of: "Tree"


@dataclass(frozen=True)
class And:
    """Both."""

    left: "Tree"
    right: "Tree"


Tree = Name | Not | And


@dataclass(frozen=True)
class Answer:
    """What is said of a question.

    Attributes:
        query: the question.
        probability: [N], the mean over draws.
        standard_error: [N], of that mean, by the spread of the draws; 0 where nothing is drawn, NaN of a single draw.
        product: [N], what the product of the marginals says, as if findings were independent given the image.
    """

    query: str
    probability: Floats
    standard_error: Floats
    product: Floats

    def of(self, row: int) -> "Answer":
        """Of one row."""
        return Answer(self.query, *(array[[row]] for array in (self.probability, self.standard_error, self.product)))


@dataclass(frozen=True)
class Query:
    """A question about findings.

    Attributes:
        text: as it was asked.
        tree: what it means.
    """

    text: str
    tree: Tree

    @property
    def num_findings(self) -> int:
        """How many findings it names."""
        return len(set(_names(self.tree)))

    def at(self, probabilities: ArrayLike) -> Floats:
        """How probable a yes is where findings are independent and have these probabilities, [..., K] to [...].

        Findings that are named once are taken together by the rules of independent events; on those named more often,
        as in "A & B | ~A & C", each case is taken on its own.
        """
        p = np.asarray(probabilities, float)
        repeated = [finding for finding, times in Counter(_names(self.tree)).items() if times > 1]
        return _by_cases(self.tree, p, repeated, {})

    def answer(self, samples: ArrayLike, drawn: bool = True) -> Answer:
        """From samples, [V, S, N, K]: V networks, of which each has the same S draws of z; whether there is a z."""
        samples = np.asarray(samples, float)
        draws = samples.shape[1]
        worth = self.at(samples)
        error = np.zeros(worth.shape[2:])
        if drawn:
            by_draw = worth.mean(axis=0)
            error = by_draw.std(axis=0, ddof=1) / np.sqrt(draws) if draws > 1 else np.full(worth.shape[2:], np.nan)
        return Answer(self.text, worth.mean(axis=(0, 1)), error, self.at(samples.mean(axis=(0, 1))))


def parse(text: str, findings: Sequence[str]) -> Query:
    """The question of a text.

    Raises:
        UserError: too long, a name that is no finding, an operator or a parenthesis out of place.
    """
    found = [token.strip() for token in re.findall(r"[&|~()]|[^&|~()]+", text)]
    tokens = [token for token in found if token]
    if len(tokens) > MOST_TOKENS:
        raise UserError(f"query: found {len(tokens):,} names and signs, expected at most {MOST_TOKENS}")
    parser = _Parser(text, tokens, tuple(findings))
    tree = parser.either(0)
    if parser.left:
        raise parser.wrong("expected & or |, or the end")
    repeated = sum(times > 1 for times in Counter(_names(tree)).values())
    if repeated > MOST_REPEATED:
        raise UserError(
            f"query {text[:60]!r}: {repeated} findings are named more than once, expected at most {MOST_REPEATED}"
        )
    return Query(text, tree)


def either(trees: Sequence[Tree]) -> Tree:
    """At least one of them."""
    found = trees[0]
    for other in trees[1:]:
        found = Not(And(Not(found), Not(other)))
    return found


class _Parser:
    """By recursive descent: either -> both (| both)*; both -> one (& one)*; one -> ~ one, ( either ), name."""

    def __init__(self, text: str, tokens: list[str], findings: tuple[str, ...]) -> None:
        self.text, self.left, self.findings = text, tokens[::-1], findings

    def either(self, depth: int) -> Tree:
        found = [self.both(depth)]
        while self.left and self.left[-1] == "|":
            self.left.pop()
            found.append(self.both(depth))
        return either(found)

    def both(self, depth: int) -> Tree:
        found = self.one(depth)
        while self.left and self.left[-1] == "&":
            self.left.pop()
            found = And(found, self.one(depth))
        return found

    def one(self, depth: int) -> Tree:
        negated = False
        while self.left and self.left[-1] == "~":
            self.left.pop()
            negated = not negated
        if not self.left or self.left[-1] in "&|)":
            raise self.wrong("expected a finding")
        token = self.left.pop()
        if token == "(":
            if depth == DEEPEST:
                raise UserError(f"query {self.text[:60]!r}: more than {DEEPEST} parentheses in each other")
            found = self.either(depth + 1)
            if not self.left or self.left.pop() != ")":
                raise UserError(f"query {self.text[:60]!r}: a parenthesis is not closed")
        else:
            found = self.named(token)
        return Not(found) if negated else found

    def named(self, token: str) -> Tree:
        by_name = {finding.casefold(): Name(number) for number, finding in enumerate(self.findings)}
        if (name := " ".join(token.split()).casefold()) in by_name:
            return by_name[name]
        if name in (ANY, NONE) and (numbers := abnormalities(self.findings)):
            found = either([Name(number) for number in numbers])
            return found if name == ANY else Not(found)
        near = difflib.get_close_matches(name, by_name, n=1)
        hint = f" (did you mean {self.findings[by_name[near[0]].finding]}?)" if near else ""
        raise UserError(
            f"query {self.text[:60]!r}: no finding {token[:60]!r}{hint}; expected of {', '.join(self.findings)}; "
            f"{ANY}; {NONE}"
        )

    def wrong(self, expected: str) -> UserError:
        found = repr(self.left[-1][:60]) if self.left else "the end"
        return UserError(f"query {self.text[:60]!r}: found {found}, {expected}; such as 'Pleural Effusion & ~Edema'")


def _names(tree: Tree) -> list[int]:
    found, waiting = [], [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Name):
            found.append(one.finding)
        else:
            waiting += [one.of] if isinstance(one, Not) else [one.left, one.right]
    return found


def _by_cases(tree: Tree, p: Floats, repeated: Sequence[int], known: Mapping[int, float]) -> Floats:
    if not repeated:
        return _worth(tree, p, known)
    first, *others = repeated
    yes, no = (_by_cases(tree, p, others, {**known, first: value}) for value in (1.0, 0.0))
    return p[..., first] * yes + (1 - p[..., first]) * no


def _worth(tree: Tree, p: Floats, known: Mapping[int, float]) -> Floats:
    """Where no unknown finding is named twice."""
    if isinstance(tree, Name):
        value = known.get(tree.finding)
        return p[..., tree.finding] if value is None else np.full(p.shape[:-1], value)
    if isinstance(tree, Not):
        return 1 - _worth(tree.of, p, known)
    return _worth(tree.left, p, known) * _worth(tree.right, p, known)
