"""What a command evaluates: a run on its data or on other, or a bundle on data that is named."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vkd_pyro.artifacts.folders import is_bundle
from vkd_pyro.artifacts.hub import on_hub
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import describe

OF_THE_MODEL = ("task.findings", "selection.image_size")
"""Settings of a run's data that its model was made for."""


def names_bundle(path: Path) -> bool:
    """Whether it is a bundle, in a folder or on the hub, rather than a run."""
    return on_hub(path) or is_bundle(path)


def evaluated(
    path: Path, changes: list[str], allow: Sequence[str], trusted_key: Path | None = None, split: str = "test"
) -> Any:
    """The `Run` to evaluate: a run, or a bundle as one.

    Args:
        path: of a run, or the name of a bundle.
        changes: options that name other data than the run's; a bundle names none.
        allow: modules that it may name.
        trusted_key: of who must have signed a bundle.
        split: of which patients that a run was trained on are warned of.

    Raises:
        UserError: a bundle without data; a key for a run, which has no signature; as `load_run` and `load_bundle`.
    """
    from vkd_pyro.artifacts.bundle import load_bundle
    from vkd_pyro.artifacts.run import Run, load_data, load_run

    if not names_bundle(path):
        if trusted_key is not None:
            raise UserError(
                f"--trusted_key: {path} is a run, which has no signature; give its bundle, with --config FILE"
            )
        run = load_run(path, changes, allow)
        if changes:
            _warn_of_trained_patients(run, split, allow)
        return run
    if not changes:
        raise UserError(
            f"{path}: a bundle names no data; give --config FILE, or --data.selection.corpus and what it wants"
        )
    bundle = load_bundle(path, allow, trusted_key)
    return Run(path, bundle.method, load_data(changes, bundle), bundle)


def _warn_of_trained_patients(run: Any, split: str, allow: Sequence[str]) -> None:
    """Warns where other data of the same corpus, such as another fold, has patients of the run's training."""
    from vkd_pyro.artifacts.config import read_yaml
    from vkd_pyro.artifacts.run import config_of, data_of

    trained_on = read_yaml(config_of(run.path))["data"]["selection"]["corpus"]["class_path"]
    if trained_on.split(".")[-1] != type(run.data.corpus).__name__:
        return  # without reading it
    try:
        own = data_of(run.path, allow)
    except (UserError, OSError):
        return  # its corpus is not here, so this is another
    if describe(own.corpus) != describe(run.data.corpus):
        return
    known = {study.patient_id for name in ("train", "validation") for study in own.studies(name)}
    asked = {study.patient_id for study in run.data.studies(split)}
    if both := len(known & asked):
        warnings.warn(
            f"{run.path}: {both:,} of the {len(asked):,} patients evaluated were in its training or validation split, "
            "so what is found says little of new patients; evaluate patients that it never saw",
            stacklevel=2,
        )


def data_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments, those of --data.* apart."""
    own, data, rest = [], [], list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--data."):
            own.append(option)
            continue
        if option.split("=")[0].removeprefix("--data.") in OF_THE_MODEL:
            raise UserError(f"{option.split('=')[0]}: belongs to the model of the run; leave it out")
        data.append(option)
        if "=" not in option:
            if not rest:
                raise UserError(f"{option}: no value given")
            data.append(rest.pop(0))
    return own, data
