"""What a page shows beyond the evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from vkd_pyro.data.cohort import Cohort
from vkd_pyro.evaluation.tables import Localization
from vkd_pyro.explanations.mismatch import Mismatch
from vkd_pyro.reporting.maps import LatentMaps
from vkd_pyro.reporting.method import MethodFacts


@dataclass(frozen=True)
class Extras:
    """What a page shows beyond the evaluation, as far as there is any.

    Attributes:
        name: of the model.
        training: a run's metrics.csv.
        maps: of z in the plane.
        mismatch: how far reports are from their own images, and from others'.
        cases: images [n, H, W], overlays [n, H, W, 3] and captions.
        card: text of the model card.
        command: that made the evaluation.
        cohort: who the data are of.
        method: what the model is and how it was trained.
        localization: how heat maps did against boxes or masks.
    """

    name: str = "model"
    training: pd.DataFrame | None = None
    maps: Sequence[LatentMaps] = ()
    mismatch: Mismatch | None = None
    cases: tuple[NDArray[Any], NDArray[Any], list[str]] | None = None
    card: str = ""
    command: str = ""
    cohort: Cohort | None = None
    method: MethodFacts | None = None
    localization: Localization | None = None
