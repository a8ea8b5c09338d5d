"""Whether heat maps show what radiologists drew."""

import numpy as np

from vkd_pyro.evaluation.tables.localization import Localization
from vkd_pyro.reporting import figures
from vkd_pyro.reporting.page import CaptionedFigure, Cell, Section, Table

SHOWN = ("images", "patients", "hit rate", "hit rate of the centre", "hit rate at random")
OVERLAP = ("mIoU", "mIoU of the centre", "threshold", "threshold from", "empty")


def heatmaps(found: Localization | None) -> Section | None:
    if found is None:
        return None
    order = np.argsort([-rate.estimate for rate in found.table["hit rate"]], kind="stable")
    table = found.table.iloc[order]
    rows, columns = found.cells
    pointing: list[list[Cell]] = [[str(name), *(row[each] for each in SHOWN)] for name, row in table.iterrows()]
    overlap: list[list[Cell]] = [[str(name), *(row[each] for each in OVERLAP)] for name, row in table.iterrows()]
    note = (
        f"Grad-CAM of {rows} x {columns} cells, averaged over draws of z, enlarged to the model's images of "
        f"{found.size} pixels, to which the regions are resized. Of every image in which a radiologist drew the "
        "finding, whatever the model said of it. Intervals of 95 %: Wilson's, of as many independent images as those "
        "of these patients are worth."
    )
    return Section(
        "heatmaps",
        lead="Whether the map's strongest place is in what radiologists drew (hit rate of the pointing game), and how "
        "much of one is in the other (intersection over union). A map that beats neither the centre of the image nor a "
        "random place explains nothing.",
        tables=[
            Table(
                "Pointing game",
                ["finding", *SHOWN],
                pointing,
                note,
            ),
            Table(
                "Intersection over union",
                ["finding", *OVERLAP[:-1], "maps without any place"],
                overlap,
                "A map is cut at a share of its largest value: the best one on the validation split, where 5 of its "
                "patients have a region, else half. The centre's map falls evenly from the centre to the corners, and "
                "is cut where it does best here. Intervals of 95 %: patients resampled. An empty map hits nothing.",
            ),
        ],
        figures=[
            CaptionedFigure(
                "Hit rates and chance",
                figures.pointing(
                    [str(name) for name in table.index],
                    table["hit rate"].tolist(),
                    table["hit rate of the centre"].tolist(),
                    table["hit rate at random"].tolist(),
                ),
                "A square to the right of both the circle and the cross, with its line, is a finding whose map points "
                "at more than chance does.",
            )
        ],
    )
