"""Pyro's global store of parameters, which `SVI` trains."""

from typing import Any

import pyro
from torch import nn

from vkd_pyro.utils.errors import UserError


def check_param_store(*parts: Any) -> None:
    """Called after a backward pass: every parameter that has a gradient is the one that `SVI` will step.

    Raises:
        UserError: the store has others of the same names, as after another model in the same process; then nothing
            would be trained, and the losses would look plausible.
    """
    stored = {id(value) for value in pyro.get_param_store()._params.values()}
    modules = [part for part in parts if isinstance(part, nn.Module)]
    learning = [p for module in modules for p in module.parameters() if p.grad is not None]
    if missing := sum(id(parameter) not in stored for parameter in learning):
        raise UserError(
            f"SVI: {missing} of {len(learning)} parameters are not those in Pyro's store, which holds another model's "
            "of the same names; call pyro.clear_param_store() before this model's first step"
        )
