"""What is computed, as JSON."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vkd_pyro.artifacts.export import Export
from vkd_pyro.prediction.files import Predicted
from vkd_pyro.prediction.queries import ANY, Answer, parse
from vkd_pyro.prediction.tables import Row, nested
from vkd_pyro.serving.http.uploads import Uploads
from vkd_pyro.serving.http.work import Engine, Said
from vkd_pyro.utils.errors import UserError


def predictions(said: Said, uploads: Uploads, made_by: Row) -> dict[str, Any]:
    """An answer of `/v1/predictions`: objects of `vkd predict`, the client's names in them."""

    def named(one: Predicted) -> Predicted:
        return replace(one, image=Path(uploads.name_of(one.image)))

    return {
        "predictions": [nested(named(one), made_by) for one in said.predictions],
        "images": [[uploads.name_of(path) for path in one.images] for one in said.predictions],
        "questions": [[_question(answer) for answer in one.queries] for one in said.predictions],
        "problems": [
            {"image": uploads.name_of(one.image), "problem": uploads.cleaned(one.problem)} for one in said.problems
        ],
        "notes": [{"image": uploads.name_of(one.image), "problem": uploads.cleaned(one.problem)} for one in said.notes],
    }


def _question(answer: Answer) -> dict[str, Any]:
    return {
        "query": answer.query,
        "probability": _number(answer.probability[0]),
        "standard_error": _number(answer.standard_error[0]),
        "product_of_marginals": _number(answer.product[0]),
    }


def model_info(engine: Engine, version: str) -> dict[str, Any]:
    """An answer of `/v1/model`."""
    bundle, limits = engine.bundle, engine.limits
    return {
        "bundle_sha256": bundle.bundle_hash,
        "weights_sha256": bundle.weights_hash,
        "version": version,
        "engine": "openvino" if isinstance(bundle, Export) else "torch",
        "findings": list(bundle.findings),
        "views": list(bundle.views),
        "image_size": bundle.transform.size,
        "num_samples": engine.uncertainty.num_samples,
        "seed": engine.uncertainty.seed,
        "level": engine.level,
        "calibrated": bundle.calibration is not None,
        "thresholds": _thresholds(engine),
        "questions": _questions(bundle.findings),
        "heat_maps": not engine.no_heat_maps,
        "no_heat_maps": engine.no_heat_maps,
        "max_bytes": limits.max_bytes,
        "max_pixels": limits.max_pixels,
        "max_images": limits.max_images,
        "card": bundle.card,
    }


def _thresholds(engine: Engine) -> dict[str, Any]:
    calibration, findings = engine.bundle.calibration, engine.bundle.findings
    if calibration is None:
        return {name: {"image": None, "study": None, "undefined": "no calibration"} for name in findings}
    of_image, of_study = calibration.of("image"), calibration.of("study")
    columns = of_image.operating_points.thresholds, of_study.operating_points.thresholds, of_image.undefined
    rows = zip(findings, *columns, strict=True)
    return {
        name: {"image": _number(image), "study": _number(study), "undefined": why or None}
        for name, image, study, why in rows
    }


def _questions(findings: tuple[str, ...]) -> list[str]:
    """Those that the page asks: nothing where the findings are no abnormalities."""
    try:
        parse(ANY, findings)
    except UserError:
        return []
    return [ANY]


def _number(value: float | np.floating) -> float | None:
    return None if np.isnan(value) else float(f"{value:.6g}")
