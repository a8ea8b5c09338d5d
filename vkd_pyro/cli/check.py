"""`vkd check`: what a training would be, in words."""

from vkd_pyro.artifacts.config import parse
from vkd_pyro.artifacts.names import check_names
from vkd_pyro.cli.terminal import say, say_stage
from vkd_pyro.cli.train import OTHERS, PARTS, build, train_parser, with_config_of_a_run
from vkd_pyro.utils.errors import UserError


def main(arguments: list[str]) -> None:
    """Prints what `vkd train` would do with the same options; the exit code is 2 where it would not train."""
    check_names(arguments, PARTS, OTHERS)
    say_stage("loading the libraries", arguments)
    from vkd_pyro.training.check import inspect_training

    parser = train_parser()
    parser.prog, parser.usage = "vkd check", "%(prog)s --config CONFIG [--method NAME] [options]"
    parser.description = (
        "Says what vkd train would do with the same options, from one batch: random variables, parameters, what "
        "trains and what does not, and what does not go together. Writes nothing."
    )
    settings = parse(parser, with_config_of_a_run(arguments))
    say("reading the corpus", flush=True)
    parts = build(settings, trained=settings.start_from is not None)
    inspection = inspect_training(
        method=parts.method,
        data=parts.data,
        beta_schedule=parts.beta_schedule,
        training=parts.training,
        seed=settings.seed,
        start_from=settings.start_from,
    )
    say(inspection)
    if inspection.problems:
        raise UserError(f"would not train: {'; '.join(inspection.problems)}")
