"""What the configs of bundles and exports must look like: types, ranges, and that they say the same findings."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from vkd_pyro.data.images.image_transform import MAX_SIZE
from vkd_pyro.utils.errors import UserError

MAX_FINDINGS = 1000


def _shown(name: str) -> str:
    """A name that a terminal shows as it is; one with control characters could forge lines."""
    if not name.isprintable():
        raise ValueError("has characters that are not printable")
    return name


Finding = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_shown)]
Findings = Annotated[list[Finding], Field(min_length=1, max_length=MAX_FINDINGS)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Probability = Annotated[float, Field(ge=0, le=1)]
Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Reason = Annotated[str, StringConstraints(max_length=300), AfterValidator(_shown)]
GraphFile = Annotated[str, StringConstraints(pattern=r"^(encoder|head)\.(xml|bin|onnx|pt2)$")]


class Strict(BaseModel):
    """Neither another field nor another type, and no infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class PartSchema(Strict):
    """A part by its class and arguments; its constructor judges those."""

    class_path: Annotated[str, StringConstraints(max_length=300)]
    init_args: dict[str, Any]


class BoundSchema(Strict):
    known: Count
    bound: Probability | None
    always: Reason | None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.bound is None) != (self.always is not None):
            raise ValueError("expected a bound, or why there is none")
        return self


class ConformalSchema(Strict):
    alpha: Annotated[float, Field(gt=0, lt=1)]
    findings: Findings
    absent: list[BoundSchema]
    present: list[BoundSchema]


class PointSchema(Strict):
    finding: Finding
    threshold: Annotated[float, Field(ge=0, le=math.nextafter(1, 2))] | None
    positives: Count
    negatives: Count
    true_positives: Count | None
    true_negatives: Count | None
    undefined: Reason | None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.threshold is None) != (self.undefined is not None):
            raise ValueError("expected a threshold, or why there is none")
        if (self.true_positives or 0) > self.positives or (self.true_negatives or 0) > self.negatives:
            raise ValueError("more answers are right than labels are known")
        return self


class PointsSchema(Strict):
    rule: PartSchema
    points: list[PointSchema]


class QuantilesSchema(Strict):
    values: Annotated[list[float], Field(max_length=100)]
    at_least: Annotated[list[float], Field(max_length=100)]


class UsualSchema(Strict):
    findings: Findings
    quantiles: list[QuantilesSchema]


class FitSchema(Strict):
    recalibration: PartSchema
    operating_points: PointsSchema
    conformal: ConformalSchema
    usual: UsualSchema


class CalibrationSchema(Strict):
    study: FitSchema
    image: FitSchema
    fitted_on: Reason


class TransformSchema(Strict):
    size: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    scaled_jpeg: bool = False


class ConfigSchema(Strict):
    """What configs of bundles and exports have in common."""

    findings: Findings
    image_transform: TransformSchema
    data: dict[str, Any]
    weights_sha256: Hash
    card_sha256: Hash
    ood_sha256: Hash | None = None
    calibration: CalibrationSchema | None = None
    config_sha256: Hash

    @model_validator(mode="after")
    def _same_findings(self) -> Self:
        if len(set(self.findings)) < len(self.findings):
            raise ValueError("findings: one is named twice")
        if (self.calibration is None) != (self.ood_sha256 is None):
            raise ValueError("calibration and ood_sha256 go together")
        for name, fit in self._fits():
            conformal, points, usual = fit.conformal, fit.operating_points.points, fit.usual
            if not (conformal.findings == [point.finding for point in points] == usual.findings == self.findings):
                raise ValueError(f"calibration.{name}: not of the same findings in the same order")
            if len(usual.quantiles) != len(self.findings):
                raise ValueError(f"calibration.{name}.usual: not quantiles for each finding")
            if {len(conformal.absent), len(conformal.present)} != {len(self.findings)}:
                raise ValueError(f"calibration.{name}.conformal: not a bound for each finding")
        return self

    def _fits(self) -> list[tuple[str, FitSchema]]:
        c = self.calibration
        return [] if c is None else [("study", c.study), ("image", c.image)]


class BundleSchema(ConfigSchema):
    format_version: int
    model: PartSchema


class NoiseSchema(Strict):
    kind: Literal["normal", "uniform"]
    width: Annotated[int, Field(ge=1, le=100_000)]


class ExportSchema(ConfigSchema):
    export_version: int
    vkd_pyro: str
    format: Literal["openvino", "onnx", "torch"]
    precision: Literal["fp32", "bf16"]
    max_difference: float
    noise: Annotated[list[NoiseSchema], Field(max_length=2)]
    views: list[Literal["frontal", "lateral", "unknown"]]
    bundle_sha256: Hash
    files: dict[GraphFile, Hash]


Kind = TypeVar("Kind", bound=ConfigSchema)


def checked(content: dict[str, Any], schema: type[Kind], path: Path, fix: str) -> Kind:
    """The config of a file, if it is one.

    Raises:
        UserError: a field is missing, or not what it should be; the first such field is named.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))[:200]
        raise UserError(
            f"{path}: {field and field + ': '}{first['msg'].removeprefix('Value error, ')}; {fix}"
        ) from error
