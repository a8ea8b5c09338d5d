"""`vkd check`: what a training would be, in words: sites, parts, objective, what does not go together."""

from vkd_pyro.training.check.inspect import inspect_training as inspect_training
from vkd_pyro.training.check.inspection import Inspection as Inspection
