"""Loggers of Lightning by config: where the metrics of a training go besides metrics.csv.

What they write is below tracking/ in the run; nothing leaves the machine but by a logger whose settings say so.
"""

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, cast
from urllib.parse import urlsplit

import pandas as pd
from lightning.pytorch.loggers import Logger

from vkd_pyro.artifacts.run import TRACKING
from vkd_pyro.utils.errors import UserError

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""With a server that does not answer: MLflow's own would hold a training up for many minutes, without a word."""


class RunLogger(ABC):
    """Makes a logger of Lightning for a run; a subclass names the package that it needs."""

    package: ClassVar[str]

    def __post_init__(self) -> None:
        if find_spec(self.package) is None:
            raise UserError(
                f"training.loggers: {type(self).__name__} needs {self.package}: pip install 'vkd-pyro[trackers]'"
            )

    @property
    def sends_to(self) -> str | None:
        """Where outside of this machine it sends to; None where nothing leaves it."""
        return None

    @abstractmethod
    def begin(self, run: Path, key: str | None) -> tuple[Logger, str]:
        """The logger of a run, and what it knows the run by; a key of an earlier time goes on with that."""

    @abstractmethod
    def add(self, logger: Any, name: str, figures: Mapping[str, Path], table: pd.DataFrame) -> None:
        """Figures (PNG) and a table, under a name."""

    def close(self, logger: Any) -> None:
        """Ends what `begin` began."""
        logger.finalize("success")


@dataclass(frozen=True)
class TensorBoard(RunLogger):
    """TensorBoard's files, in tracking/tensorboard of the run: `tensorboard --logdir runs` shows all runs."""

    package: ClassVar[str] = "tensorboard"

    def begin(self, run: Path, key: str | None) -> tuple[Logger, str]:
        """As `RunLogger.begin`."""
        from lightning.pytorch.loggers import TensorBoardLogger

        folder = run / TRACKING / "tensorboard"
        return TensorBoardLogger(folder, name="", version="", default_hp_metric=False), folder.name

    def add(self, logger: Any, name: str, figures: Mapping[str, Path], table: pd.DataFrame) -> None:
        """As `RunLogger.add`."""
        import numpy as np
        from PIL import Image

        for title, path in figures.items():
            with Image.open(path) as image:
                logger.experiment.add_image(f"{name}/{title}", np.asarray(image.convert("RGB")), dataformats="HWC")
        rows: list[Any] = [table.columns, ["---"] * len(table.columns), *table.to_numpy().tolist()]
        lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
        logger.experiment.add_text(f"{name}/findings", "\n".join(lines))


@dataclass(frozen=True)
class MLflow(RunLogger):
    """MLflow, in tracking/mlflow.db of the run, or at an address.

    Attributes:
        tracking_uri: of a server, or of a database that runs share, e.g. sqlite:///mlflow.db; None for the run's own.
        experiment: that the run is of.

    Raises:
        UserError: no package, or a password in the address.
    """

    tracking_uri: str | None = None
    experiment: str = "vkd"
    package: ClassVar[str] = "mlflow"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "@" in urlsplit(self.tracking_uri or "").netloc:
            raise UserError(
                "training.loggers: MLflow: tracking_uri names a user or password, and a run's config keeps none; put "
                "them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )

    @property
    def sends_to(self) -> str | None:
        """The server, if there is one."""
        uri = self.tracking_uri
        return uri if uri and urlsplit(uri).scheme not in ("", "file", "sqlite") else None

    def begin(self, run: Path, key: str | None) -> tuple[Logger, str]:
        """As `RunLogger.begin`."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it counts its use, and sends that, unless told
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        from lightning.pytorch.loggers import MLFlowLogger

        folder = (run / TRACKING).resolve()
        options: dict[str, Any] = {"tracking_uri": self.tracking_uri}
        if self.tracking_uri is None:
            options = {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "artifact_location": str(folder / "mlflow")}
        logger = MLFlowLogger(self.experiment, run.resolve().name, run_id=key, **options)
        return logger, cast(str, logger.run_id)

    def add(self, logger: Any, name: str, figures: Mapping[str, Path], table: pd.DataFrame) -> None:
        """As `RunLogger.add`."""
        for path in figures.values():
            logger.experiment.log_artifact(logger.run_id, str(path), name)
        logger.experiment.log_text(logger.run_id, table.to_csv(index=False), f"{name}/findings.csv")


@dataclass(frozen=True)
class WandB(RunLogger):
    """Weights & Biases, offline in tracking/wandb of the run (`wandb sync` sends it later), unless the mode says else.

    Attributes:
        project: that the run is of.
        entity: whose the project is; None for the default of the one who is logged in.
        mode: "online" sends while training goes on.
    """

    project: str = "vkd"
    entity: str | None = None
    mode: Literal["offline", "online"] = "offline"
    package: ClassVar[str] = "wandb"

    @property
    def sends_to(self) -> str | None:
        """Weights & Biases, where the mode says so."""
        return "Weights & Biases" if self.mode == "online" else None

    def begin(self, run: Path, key: str | None) -> tuple[Logger, str]:
        """As `RunLogger.begin`."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its own errors, sent whatever the mode
        import wandb
        from lightning.pytorch.loggers import WandbLogger

        key = key or secrets.token_hex(4)
        folder = run / TRACKING
        settings = wandb.Settings(
            silent=True, console="off", disable_code=True, disable_git=True, x_disable_meta=True, x_disable_stats=True
        )
        began = wandb.init(
            project=self.project,
            entity=self.entity,
            name=run.resolve().name,
            id=key,
            dir=folder,
            mode=self.mode,
            resume="allow" if self.mode == "online" else None,
            settings=settings,
        )
        began.define_metric("trainer/global_step")
        began.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return WandbLogger(experiment=began, project=self.project, save_dir=folder), key

    def add(self, logger: Any, name: str, figures: Mapping[str, Path], table: pd.DataFrame) -> None:
        """As `RunLogger.add`."""
        for title, path in figures.items():
            logger.log_image(f"{name}/{title}", [str(path)])
        logger.log_table(f"{name}/findings", dataframe=table.astype(str))

    def close(self, logger: Any) -> None:
        """As `RunLogger.close`; the next run of this process is another one."""
        super().close(logger)
        logger.experiment.finish()


def check_kinds(loggers: Sequence[RunLogger]) -> None:
    """Raises `UserError` for what is no logger, and two of one kind: a run could not tell them apart later."""
    if strange := [one for one in loggers if not isinstance(one, RunLogger)]:
        raise UserError(f"training.loggers: found {strange[0]!r:.60}, expected loggers, e.g. TensorBoard()")
    kinds = [type(one).__name__ for one in loggers]
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise UserError(f"training.loggers: {twice[0]} is given twice; give each kind once")
