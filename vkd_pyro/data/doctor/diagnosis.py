"""What was found in a folder, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vkd_pyro.data.doctor.layouts import KINDS, STORE
from vkd_pyro.utils.errors import UserError

Verdict = Literal["ok", "warning", "failure"]

SHOWN = 3
"""So many files are named of those with the same fault."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        verdict: "failure" where training would fail of it.
        found: what there is.
        fix: what to do about it; "" where nothing needs to be done.
    """

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a folder.

    Attributes:
        folder: that was examined, or the file.
        corpus: one of `LAYOUTS`, "manifest", or "store"; None where it is none of them.
        checks: in the order in which they were made.
    """

    folder: Path
    corpus: str | None
    checks: tuple[Check, ...]

    @property
    def can_train(self) -> bool:
        """Whether `vkd train` would work with the reader's usual settings; of a corpus for testing, `vkd evaluate`."""
        return not any(check.verdict == "failure" for check in self.checks)

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks)
        indent = " " * (width + 11)
        lines = [str(self.folder)]
        for check in self.checks:
            lines.append(f"{check.verdict:7}  {check.name:{width}}  {check.found}")
            lines += [f"{indent}-> {check.fix}"] * bool(check.fix)
        failures = sum(check.verdict == "failure" for check in self.checks)
        if failures or self.corpus is None:
            return "\n".join([*lines, f"{self._what} would fail: {failures} to mend."])
        command = "vkd train --config CONFIG --run RUN" if self._what == "Training" else "vkd evaluate RUN"
        return "\n".join([*lines, f"{self._what} would work: {command} {self._arguments()}"])

    @property
    def _what(self) -> str:
        return "Evaluation" if any(kind.name == self.corpus and not kind.trains for kind in KINDS) else "Training"

    def _arguments(self) -> str:
        if self.corpus == STORE:
            return f"--data.loading.store {self.folder}, with the settings it was made from"
        kind = next(kind for kind in KINDS if kind.name == self.corpus)
        path = kind.place(self.folder)
        return f"--data.selection.corpus {kind.class_path} --data.selection.corpus.init_args.{kind.argument} {path}"


def failure(name: str, error: UserError) -> Check:
    """The check that failed by a reader's error: what it found, and after the last semicolon what to do."""
    found, _, fix = str(error).rpartition("; ")
    return Check(name, "failure", found or fix, fix if found else "correct it, or fetch it again")


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
