"""A training step: what the probabilistic program costs, and what each option of the image network gains."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyro
import torch
from pyro.distributions import validation_enabled
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch.optim import Adam

from benchmark.networks import NoNetwork, made_up_batch, xray_vkd
from benchmark.timing import Action, Row, clock_of, compare, in_turn, on, single
from vkd_pyro import VKD
from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import DiagonalNormal
from vkd_pyro.encoders.image import TorchvisionEncoder

Precision = Literal["fp32", "bf16"]
Loss = Callable[[VKD, Batch], Tensor]
"""Of a network on a batch; a scalar."""


def step_rows(chosen: Namespace, folder: Path) -> Iterator[Row]:
    """What the probabilistic program costs beside the same by hand; last without an image network, which hides it."""
    size, repeats = (64, 50) if chosen.device == "cuda" else (8, 30)
    batch, network = made_up_batch(size, 224).to(chosen.device), TorchvisionEncoder("densenet121")
    for shown, precision in BY_DEVICE[chosen.device].items():
        vkd = xray_vkd(network, chosen.device)
        yield stepping_both_ways(f"step, {shown}", vkd, batch, repeats, precision, "<= 1.05")
    idle = xray_vkd(NoNetwork(network), chosen.device)
    yield stepping_both_ways(f"step, no image network{on(chosen.device)}", idle, batch, 10 * repeats)


BY_DEVICE: dict[str, dict[str, Precision]] = {
    "cpu": {"DenseNet-121, 224 px": "fp32"},
    "cuda": {"DenseNet-121, 224 px, fp32, CUDA": "fp32", "DenseNet-121, 224 px, bf16, CUDA": "bf16"},
}
"""Names of steps, and their precision."""


def stepping_both_ways(
    name: str, vkd: VKD, batch: Batch, repeats: int, precision: Precision = "fp32", aim: str = ""
) -> Row:
    """The step of the program against that by hand, of one network on one device."""
    ways = [("under the ELBO", program_loss), ("plain PyTorch", plain_loss)]
    actions = [(way, training_step(vkd, batch, loss, precision)) for way, loss in ways]
    return compare(name, *actions, repeats, aim, clock_of(batch.images.device.type), len(batch))


# ------------------------------------------------------------------------------------- a step


def program_loss(vkd: VKD, batch: Batch, beta: float = 0.5) -> Tensor:
    """The objective as training computes it, from its second step on."""
    with validation_enabled(False), pyro.get_param_store().scope():
        return vkd.terms(batch, beta).loss


def plain_loss(vkd: VKD, batch: Batch, beta: float = 0.5) -> Tensor:
    """The same objective (paper Eq. 8) of the same networks, by hand: no Pyro, and no distribution."""
    model, guide = vkd.model, vkd.guide
    report = guide.report_encoder(batch.report, batch.report_mask)
    q_loc, q_scale = normal_of(guide.posterior, report)
    auxiliary = guide.auxiliary.network(q_loc + q_scale * torch.randn_like(q_loc))
    image = model.image_encoder(batch.images)
    p_loc, p_scale = normal_of(model.prior, image)
    likelihood = model.likelihood.network(torch.cat([image, p_loc + p_scale * torch.randn_like(p_loc)], dim=-1))

    variances = (q_scale / p_scale).square()
    kl = (0.5 * (variances + ((q_loc - p_loc) / p_scale).square() - 1 - variances.log())).sum(-1)
    with_report = cross_entropy(auxiliary, batch) + beta * kl
    return (cross_entropy(likelihood, batch) + batch.has_report * with_report).mean()


def normal_of(family: DiagonalNormal, features: Tensor) -> tuple[Tensor, Tensor]:
    """Location and scale, float [B, D] each."""
    loc, scale = family.loc_and_scale(family.network(features)).float().chunk(2, dim=-1)
    return loc, softplus(scale) + 1e-4


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Summed over the known findings of each study, float [B]."""
    each = binary_cross_entropy_with_logits(logits.float(), batch.labels, reduction="none")
    return (each * batch.known).sum(-1)


def training_step(vkd: VKD, batch: Batch, loss: Loss = program_loss, precision: Precision = "fp32") -> Action:
    """Forward, backward, clipping, Adam."""
    step = stepping(vkd, loss, precision)
    return lambda: step(batch)


def stepping(vkd: VKD, loss: Loss = program_loss, precision: Precision = "fp32") -> Callable[[Batch], None]:
    """As `training_step`, of any batch."""
    parameters = [parameter for parameter in vkd.train().parameters() if parameter.requires_grad]
    optimizer, device = Adam(parameters), parameters[0].device.type

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            value = loss(vkd, batch)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


# ------------------------------------------------------------------------------- the image network


def network_rows(chosen: Namespace, folder: Path) -> list[Row]:
    """What each option of DenseNet-121 gains."""
    size, repeats = (64, 20) if chosen.device == "cuda" else (8, 3)
    return options_of_network("densenet121", made_up_batch(size, 224).to(chosen.device), repeats)


VARIANTS: dict[str, dict[str, Any]] = {
    "as it is by default": {},
    "contiguous": {"channels_last": False},
    "bf16 mixed": {"precision": "bf16"},
    "torch.compile": {"compiled": True},
    "checkpointing": {"checkpointing": True},
}
"""Ways to compute the image network: arguments of `variant_step`."""
OPTIONS = {
    "channels-last": ("contiguous", "as it is by default"),
    "bf16 mixed precision": ("as it is by default", "bf16 mixed"),
    "torch.compile": ("as it is by default", "torch.compile"),
    "no checkpointing": ("checkpointing", "as it is by default"),
}
"""Each option and the two variants that differ by it, the one expected to be slower first."""


def variant_step(
    network: str, batch: Batch, precision: Precision = "fp32", compiled: bool = False, **arguments: bool
) -> Action:
    """A training step on the device of the batch, with these arguments of the encoder."""
    encoder = TorchvisionEncoder(network, **arguments)
    vkd = xray_vkd(encoder, batch.images.device.type)
    if compiled:
        encoder.compile()
    return training_step(vkd, batch, precision=precision)


def options_of_network(network: str, batch: Batch, repeats: int) -> list[Row]:
    """Time of a training step, and on a GPU its peak memory, with each option and without."""
    device = batch.images.device.type
    actions = [(name, variant_step(network, batch, **how)) for name, how in VARIANTS.items()]
    timed = {one.name: one for one in in_turn(actions, repeats, clock_of(device))}
    rows = [
        timed[slower].over(timed[faster], f"step, {option}{on(device)}", images=len(batch))
        for option, (slower, faster) in OPTIONS.items()
    ]
    if device == "cuda":
        peaks = {name: peak_memory(action) for name, action in actions}
        rows += [
            single(f"memory, {option}, CUDA", (slower, peaks[slower]), (faster, peaks[faster]), "MiB")
            for option, (slower, faster) in OPTIONS.items()
        ]
    return rows


def peak_memory(action: Action) -> float:
    """MiB on the GPU that a run needs beside what is there: weights and optimisers, of all that is compared."""
    action()
    torch.cuda.reset_peak_memory_stats()
    there = torch.cuda.memory_allocated()
    action()
    return (torch.cuda.max_memory_allocated() - there) / 2**20
