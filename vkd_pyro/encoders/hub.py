"""What is not on this machine: a hub is asked only where the user wants it, and not waited for."""

import os
from typing import Any

TIMEOUT = 10.0
"""Seconds that the hub may be silent."""

ASK = "HF_HUB_OFFLINE=0"
"""What allows downloads, set in the environment: the hub's own variable, which says to be offline here if unset."""


def may_be_asked() -> bool:
    """Whether the user wants what is not here to be downloaded."""
    name, value = ASK.split("=")
    return os.environ.get(name) == value


def is_cached(name: str) -> bool:
    """Whether the hub's cache has a model of that name; nothing is asked.

    Raises:
        ValueError: it is no name of a model.
    """
    import huggingface_hub as hub  # with `transformers`, which not every encoder needs

    return isinstance(hub.try_to_load_from_cache(name, "config.json"), str)


def has_model(name: str) -> bool:
    """Whether the hub answers in time that it has a model of that name; one request or two."""
    import huggingface_hub as hub

    try:
        found: Any = hub.get_hf_file_metadata(hub.hf_hub_url(name, "config.json"), timeout=TIMEOUT)
    except Exception:  # its own, and by its version httpx' or requests': no such model, no name of one, no network
        return False
    return bool(found.etag)
