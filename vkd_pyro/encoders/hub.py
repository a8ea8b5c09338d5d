"""The hub of `transformers`: whether it is in reach, found out before a library waits for it for minutes."""

from typing import Any

TIMEOUT = 10.0
"""Seconds that the hub may be silent."""


def has_model(name: str) -> bool:
    """Whether the hub answers in time that it has a model of that name; one request or two."""
    import huggingface_hub as hub  # with `transformers`, which not every encoder needs

    try:
        found: Any = hub.get_hf_file_metadata(hub.hf_hub_url(name, "config.json"), timeout=TIMEOUT)
    except Exception:  # its own, and by its version httpx' or requests': no such model, no name of one, no network
        return False
    return bool(found.etag)
