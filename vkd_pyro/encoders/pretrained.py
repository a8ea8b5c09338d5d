"""Models of transformers from files: what is asked of those for reports and of those for images alike."""

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError

from vkd_pyro.utils.errors import UserError

NOT_WHOLE = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError, pickle.UnpicklingError)
"""What `transformers` raises where something is missing or broken, or a pickled file holds more than tensors."""


@contextmanager
def quiet() -> Iterator[None]:
    """While it lasts, `transformers` says nothing of weights that do not fit: `check_weights` does."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_weights(option: str, name: str, model: Any, loaded: dict[str, Any]) -> None:
    """All weights but the pooler's, which is not used, come from the file, and the file has no more layers.

    Args: the option that gave the model, and its value; what `from_pretrained` returned with `output_loading_info`.

    Raises:
        UserError: they do not, or are not finite.
    """
    missing = sorted(key for key in loaded["missing_keys"] if "pooler" not in key)
    reshaped = sorted(str(key[0] if isinstance(key, tuple) else key) for key in loaded["mismatched_keys"])
    own = {key.split(".")[0] for key in model.state_dict()}
    prefixes = (*own, getattr(model, "base_model_prefix", "") or "-")
    surplus = sorted(k for k in loaded["unexpected_keys"] if k.split(".")[0] in prefixes and "position_ids" not in k)
    surplus = [key for key in surplus if "pooler" not in key]
    if missing or reshaped or surplus:
        total = len(model.state_dict())
        raise UserError(
            f"{option}: the weights of {name} are not those of its config.json: {len(missing)} of "
            f"{total} missing, {len(reshaped)} of another shape, {len(surplus)} too many "
            f"(e.g. {(missing + reshaped + surplus)[0]}); fetch both from the same place"
        )
    if bad := [key for key, value in model.state_dict().items() if not torch.isfinite(value).all()]:
        raise UserError(f"{option}: {name} has weights that are not finite ({bad[0]}); fetch them again")
