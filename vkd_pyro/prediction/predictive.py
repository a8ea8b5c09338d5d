"""Posterior predictive sampling by networks: one, an ensemble, masks of dropout; of augmented images too."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vkd_pyro.artifacts.bundle import sampled
from vkd_pyro.artifacts.predictor import Sampled
from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.model import ImageModel
from vkd_pyro.prediction.prediction import Prediction, UncertaintySources, joined
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.modes import in_eval_mode


def predict(
    model: ImageModel | Sequence[ImageModel],
    images: Tensor,
    findings: tuple[str, ...],
    num_samples: int = 100,
    seed: int = 0,
    num_masks: int = 0,
    num_augmentations: int = 0,
) -> Prediction:
    """Findings of a batch of X-rays; a network encodes each image once, whatever the number of samples.

    What is said of an image depends on the image, the model and the seed; not on the other images of the batch.

    Args:
        model: asked in eval mode, and left in the mode it has; several are an ensemble.
        images: float [N, 1, height, width] in [0, 1].
        findings: names of the K labels.
        num_samples, seed, num_masks, num_augmentations: see `UncertaintySources`.

    Raises:
        UserError: no such model, images or names.
    """
    return predict_with(UncertaintySources(num_samples, num_masks, num_augmentations, seed), model, images, findings)


@torch.no_grad()
def predict_with(
    uncertainty: UncertaintySources,
    model: ImageModel | Sequence[ImageModel],
    images: Tensor,
    findings: tuple[str, ...],
) -> Prediction:
    """As `predict`."""
    models = list(model) if isinstance(model, Sequence) else [model]
    _check(models, images)
    versions = list(_versions(images.float(), uncertainty))
    with in_eval_mode(*models):
        said = [one for network in models for version in versions for one in _by_mask(network, version, uncertainty)]
    if said[0].samples.shape[-1] != len(findings):
        raise UserError(f"findings: found {len(findings)} names, and the model says {said[0].samples.shape[-1]}")
    return joined(
        said,
        findings,
        ensemble=len(models) > 1,
        dropout=uncertainty.num_masks > 1,
        augmentation=uncertainty.num_augmentations > 1,
    )


def _check(models: Sequence[Any], images: Any) -> None:
    """Raises `UserError` for what is no model, or no X-rays as a model reads them."""
    if not models:
        raise UserError("model: found none, expected an ImageModel or several")
    for model in models:
        if not hasattr(model, "encode"):
            inner = ", e.g. its .model" if hasattr(model, "model") else ""
            raise UserError(f"model: found {type(model).__name__}, expected an ImageModel{inner}")
    shape = list(getattr(images, "shape", ()))
    if not isinstance(images, Tensor) or not images.is_floating_point() or len(shape) != 4 or shape[1] != 1:
        kind = str(images.dtype).removeprefix("torch.") if isinstance(images, Tensor) else type(images).__name__
        raise UserError(f"images: found {kind} {shape}, expected a float tensor [N, 1, height, width] in [0, 1]")
    if not images.numel():
        raise UserError(f"images: found none, {shape}; expected at least one")
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise UserError(
            f"images: found values from {low:g} to {high:g}, expected 0 to 1; divide pixels of 8 bit by 255"
        )


def _by_mask(model: ImageModel, images: Tensor, uncertainty: UncertaintySources) -> Iterator[Sampled]:
    """What the network, or each of its masks, says; encoded once, unless the encoder has dropout."""
    features = None
    for mask in range(uncertainty.num_masks or 1):
        with dropout_mask(model, uncertainty.seed + mask) if uncertainty.num_masks else ExitStack():
            if features is None or _dropouts(model.image_encoder):
                features = model.image_encoder(images) if uncertainty.num_masks else model.encode(images)
            yield sampled(model.posterior_predictive(features, uncertainty.num_samples, uncertainty.seed), features)


def _versions(images: Tensor, uncertainty: UncertaintySources) -> Iterator[Tensor]:
    """The images; or augmented versions, one after the other, all images of one turned and shifted alike."""
    if not uncertainty.num_augmentations:
        yield images
    for number in range(uncertainty.num_augmentations):
        augmented = Augmentation()(images.cpu(), uncertainty.seed + number)
        yield augmented.to(images.device)


@contextmanager
def dropout_mask(model: nn.Module, seed: int) -> Iterator[None]:
    """The model, in eval mode, as one of the networks that dropout trained: the same units are dropped for all images.

    Raises:
        UserError: the model has no dropout.
    """
    layers = _dropouts(model)
    if not layers:
        raise UserError("num_masks: the model has no dropout; set it to 0, or train one with dropout")
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (len(layers),), generator=generator).tolist()
    with ExitStack() as hooks:
        for layer, own_seed in zip(layers, seeds, strict=True):
            hooks.enter_context(layer.register_forward_hook(partial(_drop, seed=own_seed)))
        yield


def _dropouts(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.Dropout | nn.Dropout2d) and m.p > 0]


def _drop(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor, seed: int) -> Tensor:
    """The output with units set to 0, the same in every row; units are the last axis, or the channels of an image."""
    axis, p = (1 if output.dim() == 4 else -1), float(layer.p)  # type: ignore[arg-type]
    kept = torch.rand(output.shape[axis], generator=torch.Generator().manual_seed(seed)) >= p
    shape = [1] * output.dim()
    shape[axis] = -1
    return output * kept.to(output).view(shape) / (1 - p)
