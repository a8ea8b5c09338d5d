"""Networks in eval mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval_mode(*networks: object) -> Iterator[None]:
    """Inside, without what training alone does: dropout, statistics of the batch; then each part as it was.

    Args: networks; what is none, such as an export, has no modes.
    """
    parts = [part for network in networks if isinstance(network, nn.Module) for part in network.modules()]
    training = [part for part in parts if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
