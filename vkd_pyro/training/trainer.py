"""Lightning's trainer, as the settings ask for it."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.distributed import is_torchelastic_launched

from vkd_pyro.artifacts.checkpoints import CheckedIO
from vkd_pyro.artifacts.run import CHECKPOINTS, METRICS
from vkd_pyro.methods.base import Method
from vkd_pyro.training.callbacks import LastCheckpoint, MetricsTable, Progress, RelativeEarlyStopping
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError, one_line


def check_devices(training: Training) -> None:
    """Raises `UserError` for settings that this machine, or what started the processes, cannot serve."""
    if training.sync_batchnorm and training.device.type != "cuda":
        raise UserError("training.sync_batchnorm: PyTorch has it for GPUs only; set it to false")
    processes = int(os.environ.get("WORLD_SIZE", 0)) if is_torchelastic_launched() else 0
    if processes and processes != training.devices * training.num_nodes:
        raise UserError(
            f"training.devices: found {training.devices} on each of {training.num_nodes} nodes, but torchrun has "
            f"started {processes} processes; set devices to its --nproc_per_node, training.num_nodes to its --nnodes"
        )


def make_trainer(
    training: Training, run: Path, best: ModelCheckpoint, progress: bool, more: Sequence[Callback] = ()
) -> L.Trainer:
    """Lightning's trainer, with what happens between epochs, and more of it; nothing is written before it fits."""
    check_devices(training)
    last = LastCheckpoint(run / CHECKPOINTS, training.checkpoint_steps)
    callbacks: list[Callback] = [MetricsTable(run / METRICS), best, last]
    if training.patience is not None:
        callbacks.append(RelativeEarlyStopping(training.patience, training.tolerance))
    if progress:
        callbacks.append(Progress())
    try:
        return L.Trainer(
            accelerator=training.accelerator,
            devices=training.devices,
            # Each device keeps its own statistics of BatchNorm between the moments at which they are averaged.
            strategy=DDPStrategy(broadcast_buffers=False) if training.devices * training.num_nodes > 1 else "auto",
            num_nodes=training.num_nodes,
            sync_batchnorm=training.sync_batchnorm,
            use_distributed_sampler=False,  # batches know their process
            plugins=[CheckedIO()],
            precision=training.precision,
            max_epochs=training.max_epochs,
            gradient_clip_val=training.gradient_clip,
            accumulate_grad_batches=training.accumulate_batches,
            callbacks=[*callbacks, *more],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=run,
        )
    except MisconfigurationException as error:
        raise UserError(f"training.accelerator: {one_line(error)}") from error


def compile_encoders(method: Method, backend: str = "inductor") -> None:
    """Compiles, in place and when first used, what reads images, and of what reads reports the block that is trained.

    Weights keep their names. Reports differ in length from batch to batch, so their code is made for any.
    """
    method.model.image_encoder.compile(backend=backend)
    block = getattr(method.report_encoder, "block", None)
    if block is not None:
        block.compile(backend=backend, dynamic=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's banners, and warnings that are Lightning's own to mend, off the screen."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", "(?s).*treespec, LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
