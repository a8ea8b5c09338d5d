"""What happens between epochs: checkpoints, early stopping by a relative tolerance, the table of metrics, a line."""

import math
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import lightning as L
import pandas as pd
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from tqdm import tqdm

from vkd_pyro.artifacts.checkpoints import LAST, PREVIOUS
from vkd_pyro.utils.epochs import MONITORED, Monitor
from vkd_pyro.utils.errors import UserError, one_line
from vkd_pyro.utils.files import written


class BestCheckpoint(ModelCheckpoint):
    """best.ckpt: of the epoch with the least val/nll, or the greatest val/macro_auc; also after the run was moved."""

    def __init__(self, folder: Path, monitor: Monitor = "val/nll") -> None:
        mode = "min" if monitor == "val/nll" else "max"
        super().__init__(folder, "best", monitor=monitor, mode=mode, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Lightning's, which would forget the best score if the folder's name had changed."""
        here = Path(str(self.dirpath))

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        state = state_dict | {"dirpath": self.dirpath}
        state |= {key: moved(state[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state)


class LastCheckpoint(Checkpoint):
    """last.ckpt: after each epoch, and every so many optimiser steps within it; previous.ckpt: the one before.

    The last step of an epoch is left to the checkpoint after its validation.

    Args:
        folder: of both.
        every_n_steps: None for the ends of epochs alone.
    """

    def __init__(self, folder: Path, every_n_steps: int | None = None) -> None:
        self.folder, self.every_n_steps = folder, every_n_steps

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        batches = batch_idx + 1
        if self.every_n_steps is None or batches == trainer.num_training_batches:
            return
        if batches % (self.every_n_steps * trainer.accumulate_grad_batches) == 0:
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer, pl_module)

    def _save(self, trainer: L.Trainer, module: Any) -> None:
        module.check_loss()
        module.check_weights()
        module.average_statistics()  # what is saved is one process's
        last = self.folder / LAST
        if trainer.is_global_zero and last.is_file():
            last.replace(self.folder / PREVIOUS)
        trainer.save_checkpoint(last)


class RelativeEarlyStopping(Callback):
    """Stops when what is monitored has not fallen by a relative `tolerance` for `patience` epochs (the paper's 1 %)."""

    def __init__(self, patience: int, tolerance: float) -> None:
        self.patience, self.tolerance = patience, tolerance
        self.best, self.waited = math.inf, 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = self.waited >= self.patience  # a training that had stopped is not resumed for an epoch

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        value = float(trainer.callback_metrics[MONITORED])
        if value < self.best * (1 - self.tolerance):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        trainer.should_stop = trainer.should_stop or self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.waited = state_dict["best"], state_dict["waited"]


class MetricsTable(Callback):
    """metrics.csv: one row an epoch; rows from a resumed epoch on are replaced, never doubled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row: dict[str, float] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        table = pd.DataFrame([row])
        if self.path.exists():
            table = pd.concat([rows_before(self.path, trainer.current_epoch), table])
        with written(self.path) as unfinished:
            table.to_csv(unfinished, index=False)


def rows_before(path: Path, epoch: int) -> pd.DataFrame:
    """The rows of metrics.csv before an epoch, as text, so that not a digit of them changes.

    Raises:
        UserError: it is damaged, or an epoch is missing.
    """
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = rows[rows["epoch"].astype(int) < epoch]
        whole = rows["epoch"].astype(int).tolist() == list(range(epoch))
    except (KeyError, ValueError) as error:  # of pandas, for what is no such table
        raise UserError(f"{path}: damaged ({one_line(error)}); put back a copy of it, or start a new run") from error
    if not whole:
        raise UserError(f"{path}: expected a row for each epoch before {epoch}; put back a copy, or start a new run")
    return rows


class Progress(Callback):
    """A line for each epoch on standard output; within it a bar in a terminal or a notebook, lines elsewhere.

    Args:
        every: seconds between two lines of an epoch where there is no bar.
    """

    def __init__(self, every: float = 30.0) -> None:
        self.every = every
        self.bar: tqdm[Any] | None = None
        self.seconds = self.said = 0.0
        self.steps = self.epochs = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(trainer)  # an epoch that is gone on with has no start of its own

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin(trainer)

    def _begin(self, trainer: L.Trainer) -> None:
        self._close()
        self.began = self.said = time.monotonic()
        self.steps = 0
        if trainer.is_global_zero and (in_notebook() or sys.stderr.isatty()):
            self.bar = bar_class()(
                desc=name_of(trainer),
                total=int(trainer.num_training_batches),
                initial=int(trainer.fit_loop.epoch_loop.batch_progress.current.ready),  # more than 0 when gone on with
                unit="step",
                leave=False,
                file=sys.stderr,
                ncols=None if in_notebook() else shutil.get_terminal_size().columns,  # 80 where it does not say
            )

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps += 1
        if self.bar is not None:
            self.bar.update()
        elif trainer.is_global_zero and time.monotonic() - self.said >= self.every:
            self.said = time.monotonic()
            rate = self.steps / (self.said - self.began)
            left = (trainer.num_training_batches - batch_idx - 1) / rate
            self._say(
                f"{name_of(trainer)}: step {batch_idx + 1} of {trainer.num_training_batches}; loss "
                f"{pl_module.epoch_so_far.mean_loss:.4g}, {rate:.2g} steps/s, {tqdm.format_interval(left)} left of it"
            )

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.trained = time.monotonic() - self.began
        if self.bar is not None:
            self.bar.set_description(f"{name_of(trainer)}, validation")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()
        if not trainer.is_global_zero:
            return
        took = time.monotonic() - self.began
        self.seconds, self.epochs = self.seconds + took, self.epochs + 1
        left = (int(trainer.max_epochs or 0) - trainer.current_epoch - 1) * self.seconds / self.epochs
        rate = f"{self.steps / self.trained:.3g} steps/s" if self.steps else "no step"
        rest = "last one" if trainer.should_stop or not left else f"at most {tqdm.format_interval(left)} left"
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._say(f"{name_of(trainer)}: {said_of(metrics)}; {tqdm.format_interval(took)}, {rate}, {rest}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._say("calibrating on the validation split")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    @staticmethod
    def _say(line: str) -> None:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def bar_class() -> "type[tqdm[Any]]":
    """tqdm's widget in a notebook that has ipywidgets, else its line of text."""
    if in_notebook() and find_spec("ipywidgets"):
        from tqdm.notebook import tqdm_notebook

        return cast("type[tqdm[Any]]", tqdm_notebook)
    return tqdm


def name_of(trainer: L.Trainer) -> str:
    """The epoch under way, counted from 1 where metrics.csv counts from 0."""
    return f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"


def said_of(metrics: dict[str, float]) -> str:
    """Of an epoch's metrics, what a person looks at; the KL where reports are read."""
    auc = metrics["val/macro_auc"]
    parts = [f"val/nll {metrics['val/nll']:.4f}", f"macro AUC {'undefined' if math.isnan(auc) else f'{auc:.3f}'}"]
    if not math.isnan(kl := metrics.get("val/kl", math.nan)):
        parts.append(f"KL {kl:.3g} nats")
    return ", ".join([*parts, f"loss {metrics['train/loss']:.4g}"])
