"""What was trained, found again: a run or a bundle, beside data to evaluate it on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vkd_pyro.cli.settings import add_data, new_parser, parse
from vkd_pyro.cli.train import build, read_run
from vkd_pyro.utils.errors import UserError

OF_THE_RUN = ("store", "labels", "max_train_studies")
"""Settings of a run's data that make no sense with any other."""


def check_not_bundle(path: Path, option: str = "--output") -> None:
    """Raises `UserError` where what shall be written is a bundle, or in one."""
    for folder in (path.resolve(), *path.resolve().parents):
        if is_bundle(folder):
            is_it = "is" if folder == path.resolve() else "is in"
            raise UserError(f"{option}: {path} {is_it} a bundle, which never changes; choose another folder")


def is_bundle(path: Path) -> bool:
    """Whether a folder is one, rather than a run."""
    from vkd_pyro.artifacts.bundle import CONFIG, WEIGHTS

    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


@dataclass(frozen=True)
class Trained:
    """What was trained, and data to evaluate it on.

    Attributes:
        network: with its guide, or without where it is a bundle's.
        data: to evaluate on.
        use_reports: whether its guide was trained.
        bundle: of the run, or the bundle itself.
        path: of the run, or of the bundle.
    """

    network: Any
    data: Any
    use_reports: bool
    bundle: Any
    path: Path

    def evaluate(
        self,
        split: str,
        num_samples: int = 100,
        level: Literal["study", "image"] = "study",
        fusion: Literal["mean", "product"] = "mean",
        seed: int = 0,
    ) -> tuple[Any, Any]:
        """The `Evaluation`, and the `StudyOutputs` it was made of."""
        from vkd_pyro.evaluation.evaluation import evaluation_of, outputs_of_split

        images = outputs_of_split(self.network, self.data, split, num_samples, self.use_reports, level, fusion, seed)
        how = {"split": split, "level": level, "fusion": fusion, "num_samples": num_samples, "seed": seed}
        how["bundle"] = self.bundle.bundle_hash
        rows = images if level == "image" else images.mean_over_images()
        return evaluation_of(images, self.data, how, self.network.findings, self.bundle.calibration), rows


def load_trained(path: Path, changes: list[str] | None = None) -> Trained:
    """A run's best epoch with its data, or a bundle; `changes` are options of `vkd train` that name other data.

    On other data, what belongs to the model (its findings, its image size) and the rest of the run's data settings
    stay; what belongs to the data of the run (its store, its labels, its number of studies; on another corpus its
    folds) does not.
    """
    from vkd_pyro.artifacts.bundle import load_bundle
    from vkd_pyro.artifacts.run import BUNDLE, load_checkpoint
    from vkd_pyro.methods.arms import for_arm

    changes = changes or []
    if is_bundle(path):
        return _load_bundle(path, changes)
    another_corpus = any(change == "--config" or change.startswith("--data.selection.corpus") for change in changes)
    dropped = (*OF_THE_RUN, "folds") if another_corpus else OF_THE_RUN if changes else ()
    settings = read_run(path, [*(f"--data.{name}=null" for name in dropped), *changes])
    if changes:
        bundle = load_bundle(path / BUNDLE)
        settings.data.findings, settings.data.image_size = list(bundle.findings), bundle.transform.size
    parts = build(settings, trained=True)
    network, _, use_reports = for_arm(settings.arm, parts.model, parts.objective, parts.get("rival"))
    load_checkpoint(network, path)
    network.to(parts.training.device)
    if not (path / BUNDLE).is_dir():
        raise UserError(f"{path}: its training has not ended; go on with vkd train --resume {path}")
    return Trained(network, parts.data, use_reports, load_bundle(path / BUNDLE), path)


def _load_bundle(path: Path, changes: list[str]) -> Trained:
    from vkd_pyro.artifacts.bundle import load_bundle
    from vkd_pyro.model import ImageBranch

    if not changes:
        raise UserError(
            f"{path}: a bundle names no data; give --config FILE, or --data.selection.corpus and what it wants"
        )
    bundle = load_bundle(path)
    parser = new_parser("evaluate", "")
    parser.add_argument("--config", action="config")
    add_data(parser)
    settings = parse(parser, changes)
    settings.data.findings, settings.data.image_size = list(bundle.findings), bundle.transform.size
    data = parser.instantiate(settings).data
    return Trained(ImageBranch(bundle.findings, bundle.model).eval(), data, False, bundle, path)
