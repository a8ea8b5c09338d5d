"""Explanations: where a finding is seen, which words of a report count, how studies lie in z.

`images` knows nothing of text, `reports` nothing of images. Their libraries come with the extra `explain`.
"""

import importlib
from typing import Any

from torch import Tensor

from vkd_pyro.utils.errors import UserError

PACKAGES = {"sklearn": "scikit-learn"}


def library(name: str, reason: str) -> Any:
    """A module of another library, imported when it is wanted.

    Args: its name, e.g. "captum.attr"; what it is wanted for, e.g. "Grad-CAM".

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        needed = PACKAGES.get(package, package)
        raise UserError(f"{reason} needs {needed}: pip install 'vkd-pyro[explain]'") from error


def log_odds(probabilities: Tensor) -> Tensor:
    """log p - log(1 - p), float [...]; within 1e-6 of 0 and 1 it is held there, and has no gradient."""
    return probabilities.logit(eps=1e-6)
