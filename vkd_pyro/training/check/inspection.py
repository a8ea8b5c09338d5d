"""The record of what a training would be, and its words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """A random variable of a program.

    Attributes:
        name: of the site.
        observed: or latent.
        distribution: e.g. "Normal, 128 dimensions".
        batch_shape, event_shape: of the distribution.
        plates: the names of those it is in.
        masked: what takes no part, e.g. "3 of 32 studies"; empty for nothing.
    """

    name: str
    observed: bool
    distribution: str
    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    plates: tuple[str, ...]
    masked: str

    def __str__(self) -> str:
        kind = "observed" if self.observed else "latent"
        shapes = f"batch {list(self.batch_shape)}, event {list(self.event_shape)}"
        plates = f", plate {', '.join(self.plates)}" if self.plates else ", in no plate"
        masked = f", masked: {self.masked}" if self.masked else ""
        return f"{self.name:<12}{kind:<10}{self.distribution:<35} {shapes}{plates}{masked}"


@dataclass(frozen=True)
class Part:
    """A network within model or guide.

    Attributes:
        name: e.g. "image encoder".
        kind: its class.
        trainable, frozen: numbers of parameters.
        untrained: names of the trainable ones that get no gradient.
        trains: whether any of it does.
        reason: why some do not; empty where all do.
        note: e.g. which language model is frozen; or empty.
    """

    name: str
    kind: str
    trainable: int
    frozen: int
    untrained: tuple[str, ...] = ()
    trains: bool = True
    reason: str = ""
    note: str = ""

    def __str__(self) -> str:
        note = f"  {self.note}" if self.note else ""
        return f"{self.name:<18}{self.kind:<27} {self.trainable:>12,}{self.frozen:>14,}{note}"


@dataclass(frozen=True)
class Inspection:
    """What a training would be. `str` of it is what `vkd check` prints.

    Attributes:
        title: the method and the corpus.
        data: lines about the studies and the batch.
        model, guide: their sites.
        objective: lines about its terms, the schedule and the optimiser.
        parts: of model and guide.
        terms: their means over the studies of the batch, by name, at the schedule's largest beta; empty where there
            are problems.
        warnings: what training would warn of.
        problems: why it would not train; none where it would.
    """

    title: str
    data: tuple[str, ...]
    model: tuple[Site, ...]
    guide: tuple[Site, ...]
    objective: tuple[str, ...]
    parts: tuple[Part, ...]
    terms: dict[str, float]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{'':<46}{'trainable':>12}{'frozen':>14}"
        total = Part("all", "", sum(p.trainable for p in self.parts), sum(p.frozen for p in self.parts))
        terms = ", ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
        sections = {
            "data": self.data,
            "model": self.model or ("no site",),
            "guide": self.guide or ("no site",),
            "objective": self.objective,
            "parameters": (head, *self.parts, total),
            "on this batch, the mean over its studies": (terms,) if terms else (),
            "trained": self._trained(),
            "warnings": self.warnings,
            "would not train": self.problems,
        }
        texts = [
            "\n".join([name, *(f"  {line}".rstrip() for line in lines)]) for name, lines in sections.items() if lines
        ]
        return "\n\n".join([self.title, *texts])

    def _trained(self) -> tuple[str, ...]:
        if self.problems:
            return ()
        idle = [part for part in self.parts if part.untrained]
        lines = []
        for part in idle:
            first, more = ", ".join(part.untrained[:3]), len(part.untrained) - 3
            names = f", of which {first}{f' and {more} more' if more > 0 else ''}" if part.trains else ""
            lines.append(f"not the {part.name}{names}: {part.reason}")
        others = "every other" if idle else "every"
        return (*lines, f"{others} trainable parameter gets a gradient from the objective")
