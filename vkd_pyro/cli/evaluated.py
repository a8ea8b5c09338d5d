"""What a command evaluates: a run on its data or on other, or a bundle on data that is named."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vkd_pyro.artifacts.bundle import is_bundle
from vkd_pyro.artifacts.hub import on_hub
from vkd_pyro.utils.errors import UserError

OF_THE_MODEL = ("task.findings", "selection.image_size")
"""Settings of a run's data that its model was made for."""


def names_bundle(path: Path) -> bool:
    """Whether it is a bundle, in a folder or on the hub, rather than a run."""
    return on_hub(path) or is_bundle(path)


def evaluated(path: Path, changes: list[str], allow: Sequence[str], trusted_key: Path | None = None) -> Any:
    """The `Run` to evaluate: a run, or a bundle as one.

    Args:
        path: of a run, or the name of a bundle.
        changes: options that name other data than the run's; a bundle names none.
        allow: modules that it may name.
        trusted_key: of who must have signed a bundle.

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
        return load_run(path, changes, allow)
    if not changes:
        raise UserError(
            f"{path}: a bundle names no data; give --config FILE, or --data.selection.corpus and what it wants"
        )
    bundle = load_bundle(path, allow, trusted_key)
    return Run(path, bundle.method, load_data(changes, bundle), bundle)


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
