"""Where the noise of z comes from.

In training the noise of a row is that of its place in the step, whichever device it is on. In prediction it is the same
for every row: what is drawn for an image depends on that image and the seed alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy

import torch
from pyro.distributions import ExpandedDistribution
from torch import Tensor
from torch.distributions import Independent, Normal

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.utils.errors import UserError


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws inside are a function of the seed; the generators outside are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


class _NoiseOfPlaces:
    """Standard normal noise of the places in a step's rows that one of several processes has."""

    def __init__(self, seed: int, rank: int, world: int) -> None:
        self.seed, self.rank, self.world = seed, rank, world
        self.generator: torch.Generator | None = None

    def __call__(self, num_samples: int, like: Tensor) -> Tensor:
        """Args: S; float [B, D]. Returns: float [S, B, D]."""
        if self.generator is None:
            self.generator = torch.Generator(like.device).manual_seed(self.seed)
        rows, *event = like.shape
        shape = (num_samples, rows * self.world, *event)
        noise = torch.randn(shape, generator=self.generator, dtype=like.dtype, device=like.device)
        return noise[:, self.rank :: self.world]


_noise: ContextVar[_NoiseOfPlaces | None] = ContextVar("noise", default=None)


@contextmanager
def noise_of_places(seed: int, rank: int = 0, world: int = 1) -> Iterator[None]:
    """Inside, `draw` takes the noise of independent normals from the seed and from the place of each row among those of
    all processes, of which this has every `world`-th from number `rank` on."""
    token = _noise.set(_NoiseOfPlaces(seed, rank, world))
    try:
        yield
    finally:
        _noise.reset(token)


def draw(z: Distribution, num_samples: int) -> Tensor:
    """Reparametrised draws of z, batch shape [B], event shape [D]; float [num_samples, B, D].

    Within `noise_of_places` those of independent normals do not depend on how rows are spread over processes; other
    families draw from torch's own generator, alike in distribution.

    Raises:
        UserError: a distribution without `rsample`.
    """
    if not z.has_rsample:
        raise UserError(
            f"{type(z).__name__}: has no rsample, so nothing could be learned through its draws; as a family of z take "
            "NormalMixture or DiagonalNormalMixture in place of MixtureSameFamily"
        )
    noise = _noise.get()
    if noise is None or not _independent_normals(z):
        return repeated(z, num_samples).rsample()
    return z.base_dist.loc + z.base_dist.scale * noise(num_samples, z.base_dist.loc)


def repeated(z: Distribution, number: int) -> Distribution:
    """So many of it in a new leftmost axis of its batch."""
    one = copy(z) if isinstance(z, ExpandedDistribution) else z  # which expands itself in place, and is a program's
    return one.expand((number, *z.batch_shape))


def _independent_normals(z: Distribution) -> bool:
    return isinstance(z, Independent) and isinstance(z.base_dist, Normal)


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
    Returns: float [S, B, D]; with gradients where the distribution has `rsample`.
    """
    if _independent_normals(z):
        normal = z.base_dist
        with seeded(seed, device):
            noise = torch.randn(num_samples, 1, *z.event_shape, dtype=normal.loc.dtype, device=device)
        return normal.loc + normal.scale * noise
    drawn = []
    for row in range(z.batch_shape[-1]):
        one = rows(slice(row, row + 1))
        with seeded(seed, device):
            several = repeated(one, num_samples)
            drawn.append(several.rsample() if several.has_rsample else several.sample())
    return torch.cat(drawn, dim=1)
