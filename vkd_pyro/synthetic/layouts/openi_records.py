"""What Open-I holds of a study, before it is written one way or the other."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.layouts.openi_mesh import mesh_terms
from vkd_pyro.synthetic.layouts.visits import Pixels, Visit, lateral_view, second_frontal_view, visits

SECTIONS = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")

EMPTIED: tuple[tuple[str, ...], ...] = (
    *((),) * 4,
    ("FINDINGS",),
    *((),) * 3,
    ("IMPRESSION",),
    *((),) * 3,
    ("FINDINGS", "IMPRESSION"),
)
"""The sections that are empty, in the order in which studies with a report take them, over and over."""

VIEWS: tuple[tuple[str, ...], ...] = (
    *(("Frontal", "Lateral"),) * 4,
    ("Frontal",),
    *(("Frontal", "Lateral"),) * 4,
    (),
    ("Frontal", "Frontal", "Lateral"),
    *(("Frontal", "Lateral"),) * 2,
    ("Frontal without file",),
    ("Frontal", "Lateral without file"),
    ("Lateral",),
    ("Frontal", "Lateral"),
)
"""The images that a report lists, in the order in which reports take them, over and over."""

UNINDEXED_EVERY = 29
"""Every so many reports were never coded."""

GAP_EVERY = 20
"""Every so many numbers of reports are left out."""

REMOVED = re.compile(r"\b\d+(?=-year-old)|\b(woman|man)\b|(?<=x-)ray|two days earlier|last year|\bprior\b|\bseen\b")
"""Words that fall to the removal of personal information, most of them by mistake."""


@dataclass(frozen=True)
class ListedImage:
    """An image that a report lists.

    Attributes:
        image_id: such as "CXR2_IM-0652-1001".
        projection: "Frontal" or "Lateral".
        pixels: uint8 [H, W], or None where the file is missing.
    """

    image_id: str
    projection: str
    pixels: Pixels | None


@dataclass(frozen=True)
class Record:
    """One report: its number, its sections (each header, text or ""), its codes, and the images that it lists."""

    uid: int
    sections: dict[str, str]
    mesh: tuple[str, ...]
    caption: str
    images: tuple[ListedImage, ...]

    @property
    def headings(self) -> tuple[str, ...]:
        """The codes without their qualifiers."""
        return tuple(term.split("/")[0] for term in self.mesh)


def records(corpus: SyntheticCorpus, progress: bool) -> Iterator[Record]:
    """One record a study; here each study is a patient of its own."""
    emptied = itertools.cycle(EMPTIED)
    for visit in visits(corpus, progress):
        unindexed = visit.index % UNINDEXED_EVERY == 3
        images = _images(visit)
        yield Record(
            uid=_uid(visit),
            sections=_sections(visit, next(emptied) if visit.report else ()),
            mesh=("No Indexing",) if unindexed else mesh_terms(visit.facts, visit.reading.asides),
            caption="Chest, frontal and lateral views" if len(images) > 1 else "Chest, one view",
            images=images,
        )


def count(record: Record) -> Counter[str]:
    """What is odd about a record, and its images."""
    empty = {name for name in ("FINDINGS", "IMPRESSION") if not record.sections[name]}
    files = [image for image in record.images if image.pixels is not None]
    projections = [image.projection for image in record.images]
    return Counter(
        {
            "studies": 1,
            "images": len(files),
            "lateral images": sum(image.projection == "Lateral" for image in files),
            "listed images without file": len(record.images) - len(files),
            "reports that list no image": int(not record.images),
            "reports that list two frontal images": int(projections.count("Frontal") == 2),
            "reports that list a lateral image alone": int(projections == ["Lateral"]),
            "reports none of whose images has a file": int(bool(record.images) and not files),
            "reports with empty findings alone": int(empty == {"FINDINGS"}),
            "reports with empty impression alone": int(empty == {"IMPRESSION"}),
            "reports with both empty": int(len(empty) == 2),
            "reports with XXXX": int(any("XXXX" in text for text in record.sections.values())),
            "reports coded normal": int(record.mesh == ("normal",)),
            "reports without indexing": int(record.mesh == ("No Indexing",)),
        }
    )


def _uid(visit: Visit) -> int:
    return 1 + visit.index + visit.index // GAP_EVERY


def _sections(visit: Visit, emptied: tuple[str, ...]) -> dict[str, str]:
    texts = {name: "" if name in emptied else visit.sections.get(name, "") for name in SECTIONS}
    return {name: REMOVED.sub("XXXX", text) for name, text in texts.items()}


def _images(visit: Visit) -> tuple[ListedImage, ...]:
    film = int(visit.rng.integers(1, 2500))
    images: list[ListedImage] = []
    for number, view in enumerate(VIEWS[visit.index % len(VIEWS)], start=1):
        projection, _, missing = view.partition(" ")
        pixels = _view(visit, projection, number)
        images.append(ListedImage(_image_id(visit, film, number), projection, None if missing else pixels))
    return tuple(images)


def _view(visit: Visit, projection: str, number: int) -> Pixels:
    if projection == "Lateral":
        return lateral_view(visit.frontal)
    return visit.frontal if number == 1 else second_frontal_view(visit.frontal)


def _image_id(visit: Visit, film: int, number: int) -> str:
    """The id of an image, in one of three styles.

    The first report alone has a number of its own before "IM", as in the original.
    """
    uid = _uid(visit)
    if visit.index == 0:
        return f"CXR{uid}_1_IM-{film:04d}-{number}001"
    return f"CXR{uid}_IM-{film:04d}-" + (f"0001-{number:04d}" if visit.index % 18 == 6 else f"{number}001")
