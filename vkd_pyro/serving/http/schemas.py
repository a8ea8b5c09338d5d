"""What the service answers, for OpenAPI; the fields of a prediction are the columns of `vkd predict`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from vkd_pyro.prediction.tables import OF_FINDING, OF_IMAGE, OF_NOVELTY, PROVENANCE


class Answered(BaseModel):
    """A part of an answer: no field is missing, none is more."""

    model_config = ConfigDict(extra="forbid")


def _fields(columns: dict[str, type], *unknown: str) -> dict[str, Any]:
    """Of columns; those that are numbers may be null, and so may those that are named."""
    may = {name for name, kind in columns.items() if kind is float} | set(unknown)
    return {name: ((kind | None) if name in may else kind, ...) for name, kind in columns.items()}


Finding = create_model(
    "Finding",
    __base__=Answered,
    __doc__="What is said of a finding; see the columns of `vkd predict`. `answer` is yes, no, refer or unknown.",
    **_fields({name: kind for name, kind in OF_FINDING.items() if name != "finding"}, "undefined"),
)
Prediction = create_model(
    "Prediction",
    __base__=Answered,
    __doc__="What is said of a study, or of an image: an object of `vkd predict --format json`.",
    **_fields(OF_IMAGE | OF_NOVELTY | PROVENANCE, "flagged"),
    findings=(dict[str, Finding], ...),  # type: ignore[valid-type]
)


class Problem(Answered):
    """An image of which nothing can be said, or a note on one."""

    image: str
    problem: str


class Question(Answered):
    """The answer to a question about several findings, from draws of z; not recalibrated."""

    query: str
    probability: float
    standard_error: float | None
    product_of_marginals: float


class Predictions(Answered):
    """What is said of the images of a request; `images`, names, and `questions` have a list for each prediction."""

    predictions: list[Prediction]  # type: ignore[valid-type]
    images: list[list[str]]
    questions: list[list[Question]]
    problems: list[Problem]
    notes: list[Problem]


class Error(Answered):
    """What was wrong, in words."""

    error: str


class HeatMap(Answered):
    """Grad-CAM of a finding: a gray PNG in base64, from 0 (black) to the strongest place."""

    finding: str
    png: str


class HeatMaps(Answered):
    """Maps over the whole image, however it is shaped; `cells` are their own rows and columns before enlarging."""

    image: str
    cells: tuple[int, int]
    maps: list[HeatMap]


class Threshold(Answered):
    """Of a recalibrated probability, from which on the answer is yes: of single images, and of whole studies."""

    image: float | None
    study: float | None
    undefined: str | None = Field(description="why there is none")


class ModelInfo(Answered):
    """The model that is served."""

    bundle_sha256: str
    weights_sha256: str
    version: str
    engine: Literal["torch", "openvino"]
    findings: list[str]
    views: list[str]
    image_size: int
    num_samples: int
    seed: int
    level: float
    calibrated: bool
    thresholds: dict[str, Threshold]
    questions: list[str] = Field(description="about several findings, that the page asks; none without draws of z")
    heat_maps: bool
    no_heat_maps: str = Field(description="why there are none")
    max_bytes: int
    max_pixels: int
    max_images: int
    card: str = Field(description="Markdown")


_FINDING = {
    "probability": 0.71,
    "low": 0.55,
    "high": 0.86,
    "calibrated": 0.42,
    "calibrated_low": 0.3,
    "calibrated_high": 0.61,
    "threshold": 0.35,
    "uncertainty_total": 0.6,
    "uncertainty_aleatoric": 0.56,
    "uncertainty_latent": 0.04,
    "uncertainty_epistemic": None,
    "answer": "refer",
    "conformal": "yes",
    "undefined": None,
}
EXAMPLE = {
    "predictions": [
        {
            "image": "xray.png",
            "image_sha256": "5b1f...",
            "images": 1,
            "unit": "image",
            "ood": 0.31,
            "ood_p": 0.69,
            "flagged": False,
            "bundle_sha256": "c0ff...",
            "version": "0.2.0",
            "num_samples": 100,
            "num_masks": 0,
            "num_augmentations": 0,
            "level": 0.95,
            "seed": 0,
            "findings": {"Pleural Effusion": _FINDING},
        }
    ],
    "images": [["xray.png"]],
    "questions": [
        [{"query": "any abnormality", "probability": 0.83, "standard_error": 0.01, "product_of_marginals": 0.9}]
    ],
    "problems": [],
    "notes": [],
}
"""Of an answer of `/v1/predictions`."""
