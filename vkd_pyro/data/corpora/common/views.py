"""The view of an X-ray, from the position that a corpus or a DICOM header names."""

from vkd_pyro.data.study import View

FRONTAL = {"AP", "PA", "FRONTAL"}
LATERAL = {"LATERAL", "LL", "RL", "LAT"}


def view_of(position: str) -> View:
    """ "AP" or "PA" is frontal, "LATERAL", "LL" or "RL" lateral; blank, and what is rarer, is unknown."""
    position = position.strip().upper()
    if position in FRONTAL:
        return "frontal"
    return "lateral" if position in LATERAL else "unknown"
