"""Where in an X-ray a finding is seen: Grad-CAM, and its overlay."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vkd_pyro.encoders.blocks import is_attention
from vkd_pyro.encoders.image import ImageEncoder
from vkd_pyro.explanations import library, log_odds
from vkd_pyro.model import ImageModel
from vkd_pyro.utils.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPACITY = 0.6
"""Opacity of the colour where the map is 1."""

LEAST = 512
"""Pixels that the longest side of a labelled overlay has at least, for its text to be read."""


def grad_cam(
    model: ImageModel,
    images: Tensor,
    finding: int | Sequence[int],
    num_samples: int = 8,
    seed: int = 0,
    layer: nn.Module | None = None,
) -> Tensor:
    r"""Grad-CAM of the log-odds of a finding (Selvaraju et al. 2017, arXiv 1610.02391), averaged over draws of z.

        map = relu(sum_c alpha_c A_c),   alpha_c = mean over places of d l / d A_c
        l = 1/S sum_s log-odds of p(y_k = 1 | x_I, z^(s)),   z^(s) ~ p(z | x_I)

    where A are the channels of `layer`. The gradient goes through z as well where the prior has `rsample`, which all
    families here have; else z is fixed. Each image has the same noise, so its map does not depend on the others.

    Args:
        model: in eval mode.
        images: float [B, 1, height, width] in [0, 1].
        finding: its number, or several.
        num_samples: S.
        seed: of the draws; the generators are left as they were.
        layer: of the image encoder, with output [B, channels, rows, columns]; None is its `last_convolution`.

    Returns: float [B, height, width] in [0, 1], or [B, K', height, width] for several findings. The largest value of a
        map is 1; one that is 0 everywhere stays 0: nothing speaks for the finding, or p is 0 or 1 and has no gradient.

    Raises:
        UserError: captum is not installed, or there is no such layer.
    """
    captum = library("captum.attr", "Grad-CAM")
    if layer is None:
        layer = last_convolution(model.image_encoder, images[:1])

    def mean_log_odds(images: Tensor) -> Tensor:
        samples = model.posterior_predictive(model.image_encoder(images), num_samples, seed).samples
        return log_odds(samples).mean(0)

    explained = captum.LayerGradCam(mean_log_odds, layer)
    unused = {"allow_unused": True, "materialize_grads": True}  # p may depend on no feature of the image

    def map_of(k: int) -> Tensor:
        cam = explained.attribute(images, target=k, relu_attributions=True, grad_kwargs=unused).detach()
        cam = captum.LayerAttribution.interpolate(cam, images.shape[-2:], "bilinear")[:, 0]
        largest = cam.amax((1, 2), keepdim=True)
        return torch.where(largest > 0, cam / largest, 0.0)

    return map_of(finding) if isinstance(finding, int) else torch.stack([map_of(k) for k in finding], dim=1)


@torch.no_grad()
def last_convolution(encoder: ImageEncoder, images: Tensor | None = None) -> nn.Module:
    """The last layer, in the order of computation, whose output still has places: what is pooled to the features.

    A block as a whole, its shortcut and its activation in it, rather than the convolution within: DenseNet's
    `features`, ResNet's `layer4`.

    Args:
        encoder: in eval mode.
        images: float [B, 1, height, width], of the size to be explained; None is one of 224 pixels.

    Raises:
        UserError: there is none, as in a vision transformer, whose tokens mix all places.
    """
    found: list[nn.Module] = []

    def keep(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output[0, 0].numel() > 1:
            found.append(module)

    if not any(is_attention(module) for module in encoder.modules()):
        hooks = [module.register_forward_hook(keep) for module in encoder.modules()]
        try:
            encoder(torch.zeros(1, 1, 224, 224) if images is None else images)
        finally:
            for hook in hooks:
                hook.remove()
    if not found:
        raise UserError(
            f"image_encoder: {getattr(encoder, 'name', type(encoder).__name__)} has no convolutional layer before its "
            "features, and Grad-CAM expects one; take e.g. densenet121"
        )
    return found[-1]


@torch.no_grad()
def cells(encoder: ImageEncoder, images: Tensor) -> tuple[int, int]:
    """Rows and columns of a map before it is enlarged to the image, (7, 7) of DenseNet at 224 pixels.

    Args: as of `last_convolution`, of which the map is; images float [B, 1, height, width].
    """
    sizes: list[tuple[int, int]] = []
    hook = last_convolution(encoder, images[:1]).register_forward_hook(
        lambda module, inputs, output: sizes.append((output.shape[2], output.shape[3]))
    )
    try:
        encoder(images[:1])
    finally:
        hook.remove()
    return sizes[-1]


def overlay(image: NDArray[Any], cam: NDArray[Any]) -> NDArray[np.uint8]:
    """A map in colour over its X-ray: the more it says, the more colour; where it is 0 the image is untouched.

    The colours are matplotlib's "inferno", whose lightness rises evenly, so they can be told apart in gray as well.

    Args:
        image: uint8, or float in [0, 1]; [height, width].
        cam: float in [0, 1], [height, width].

    Returns: uint8 [height, width, 3].
    """
    import matplotlib

    image, cam = np.asarray(image), np.asarray(cam, float)
    if image.shape != cam.shape or image.ndim != 2:
        raise UserError(f"overlay: found an image {image.shape} and a map {cam.shape}, expected one height and width")
    gray = (image / 255 if image.dtype == np.uint8 else image)[..., None]
    opacity = OPACITY * cam[..., None]
    colour = matplotlib.colormaps["inferno"](cam)[..., :3]
    return np.rint(255 * ((1 - opacity) * gray + opacity * colour)).astype(np.uint8)


def labelled_overlay(image: NDArray[Any], cam: NDArray[Any], title: str, said: str, resolution: str) -> "Figure":
    """An overlay that says what it shows: finding and number above, a colour bar beside, how fine the map is below.

    Args:
        image, cam: as of `overlay`; a map that is 0 everywhere is said to be empty.
        title: the finding.
        said: what the model says of it, e.g. its probability.
        resolution: of the map, e.g. "7 x 7 cells".

    Returns: a figure whose axes, the overlay and the bar, have a dot a pixel; small images are enlarged to `LEAST`.
    """
    from matplotlib.figure import Figure

    shown = overlay(image, cam)
    rows, columns = (side * max(1, -(-LEAST // max(shown.shape[:2]))) for side in shown.shape[:2])
    unit = round(max(rows, columns) / 30)  # pixels of a line of text and a half
    size = {"fontsize": 0.6 * unit * 72 / 100, "parse_math": False}  # a finding may be called $x$
    width = max(columns, 20 * unit) + 6 * unit
    heading = textwrap.wrap(title, round(width / (0.5 * unit)))
    above, below = (len(heading) + 2) * unit, 2 * unit
    height = rows + above + below
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    picture = figure.add_axes((0, below / height, columns / width, rows / height))
    picture.imshow(shown, interpolation="nearest", aspect="auto")
    picture.set_axis_off()
    figure.text(unit / width / 2, 1 - unit / height / 2, "\n".join(heading), va="top", weight="bold", **size)
    figure.text(unit / width / 2, (below + rows + unit / 2) / height, said, **size)
    nothing = ": nothing speaks for it" if not np.any(cam) else ""
    figure.text(unit / width / 2, unit / height / 2, f"Grad-CAM of {resolution}{nothing}", **size)
    _bar(figure, ((columns + unit) / width, below / height, unit / width, rows / height), size)
    return figure


def _bar(figure: "Figure", place: tuple[float, float, float, float], size: dict[str, Any]) -> None:
    """The colours of a map over a mid gray, from 0 to its largest value."""
    axes = figure.add_axes(place)
    scale = np.linspace(0, 1, 256)[:, None]
    axes.imshow(overlay(np.full_like(scale, 0.5), scale), origin="lower", aspect="auto", extent=(0, 1, 0, 1))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=size["fontsize"])
    axes.yaxis.set_label_position("right")
    axes.set_ylabel("speaks for it, relative to the strongest place", fontsize=size["fontsize"])
