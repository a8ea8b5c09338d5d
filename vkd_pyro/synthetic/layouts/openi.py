"""Open-I (Demner-Fushman et al. 2016), as the National Library of Medicine ships it and as Kaggle does."""

from collections import Counter
from pathlib import Path

from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.layouts.files import write_csv, write_image
from vkd_pyro.synthetic.layouts.openi_records import ListedImage, Record, count, records
from vkd_pyro.synthetic.layouts.openi_xml import openi_xml

PROJECTIONS = "uid,filename,projection"
REPORTS = "uid,MeSH,Problems,image,indication,comparison,findings,impression"


def write_openi(corpus: SyntheticCorpus, root: Path, progress: bool) -> Counter[str]:
    """An XML file a report, a flat folder of images, and Kaggle's table of views; returns what was written."""
    counts: Counter[str] = Counter()
    projections: list[tuple[object, ...]] = []
    (root / "ecgen-radiology").mkdir()
    for record in records(corpus, progress):
        (root / "ecgen-radiology" / f"{record.uid}.xml").write_text(openi_xml(record), encoding="utf-8")
        for image in record.images:
            if image.pixels is not None:
                write_image(root / f"{image.image_id}.png", image.pixels)
        projections += _projection_rows(record)
        counts += count(record)
    write_csv(root / "indiana_projections.csv", PROJECTIONS, projections)
    return counts


def write_openi_kaggle(corpus: SyntheticCorpus, root: Path, progress: bool) -> Counter[str]:
    """The two tables and `images/images_normalized/`; reports that list no image are not among them."""
    counts: Counter[str] = Counter()
    projections: list[tuple[object, ...]] = []
    reports: list[tuple[object, ...]] = []
    for record in records(corpus, progress):
        if record.images:
            for image in record.images:
                if image.pixels is not None:
                    write_image(root / "images" / "images_normalized" / _kaggle_name(image), image.pixels)
            projections += _projection_rows(record)
            reports.append(_report_row(record))
            counts += count(record)
        else:
            counts["reports left out for want of an image"] += 1
    write_csv(root / "indiana_projections.csv", PROJECTIONS, projections)
    write_csv(root / "indiana_reports.csv", REPORTS, reports)
    return counts


def _kaggle_name(image: ListedImage) -> str:
    return image.image_id.removeprefix("CXR") + ".dcm.png"


def _projection_rows(record: Record) -> list[tuple[object, ...]]:
    return [(record.uid, _kaggle_name(image), image.projection) for image in record.images]


def _report_row(record: Record) -> tuple[object, ...]:
    texts = (record.sections[name] for name in ("INDICATION", "COMPARISON", "FINDINGS", "IMPRESSION"))
    return (record.uid, ";".join(record.mesh), ";".join(record.headings), record.caption, *texts)
