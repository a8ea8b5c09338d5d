"""Draws with the same noise for every row: what is drawn for an image depends on that image and the seed alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vkd_pyro.distributions.base import Distribution


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws inside are a function of the seed; the generators outside are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def common_draws(
    z: Distribution, rows: Callable[[slice], Distribution], num_samples: int, seed: int, device: torch.device
) -> Tensor:
    """Draws of z that are, in each row, those of a batch of this row alone.

    The batch that an image is in thus changes nothing. Between images the draws go together, which is of no matter to
    what is said of each, and takes noise out of their order.

    Args:
        z: batch shape [B], event shape [D].
        rows: the same for some of the rows; asked for one at a time, unless z is independent normals, whose rows can
            share one tensor of noise.
        num_samples: S.
        seed: of the draws.
        device: of z.
    Returns: float [S, B, D].
    """
    if isinstance(z, Independent) and isinstance(z.base_dist, Normal):
        normal = z.base_dist
        with seeded(seed, device):
            noise = torch.randn(num_samples, 1, *z.event_shape, dtype=normal.loc.dtype, device=device)
        return normal.loc + normal.scale * noise
    drawn = []
    for row in range(z.batch_shape[-1]):
        one = rows(slice(row, row + 1))
        with seeded(seed, device):
            drawn.append(one.expand((num_samples, 1)).sample())
    return torch.cat(drawn, dim=1)
