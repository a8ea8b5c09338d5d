"""`vkd monitor`: months of predictions beside what was usual."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import add_allowed, add_trusted, new_parser, parse
from vkd_pyro.artifacts.folders import check_not_bundle
from vkd_pyro.cli.terminal import say
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.text import printable

if TYPE_CHECKING:
    from vkd_pyro.prediction.monitoring import Month


def monitor_parser() -> ArgumentParser:
    """Arguments of `vkd monitor`."""
    parser = new_parser(
        "monitor",
        "Months of predictions beside what was usual when the bundle was calibrated: how many images are unlike those "
        "it learned from, how probabilities of each finding lie, how many answers are yes. Needs no labels; whether "
        "the model has become worse only labels tell (vkd evaluate), and vkd recalibrate may mend it.",
    )
    parser.add_argument("bundle", type=Path, help="the bundle, or export, that predicted")
    parser.add_argument(
        "predictions", type=Path, nargs="+", help="files of vkd predict --output, one a month, in their order"
    )
    parser.add_argument("--output", type=Path | None, help="a folder for monitor.json, monitor.csv and the picture")
    add_allowed(parser)
    add_trusted(parser)
    return parser


def main(arguments: list[str]) -> None:
    """Prints what has changed, and writes it where asked."""
    settings = parse(monitor_parser(), arguments)
    if settings.output is not None:
        check_not_bundle(settings.output)
        if settings.output.exists() and not settings.output.is_dir():
            raise UserError(f"--output: {settings.output} is a file; choose a folder")
    from vkd_pyro.artifacts.export import load_predictor
    from vkd_pyro.prediction.monitoring import monitor

    bundle = load_predictor(settings.bundle, "auto", settings.allow_module, settings.trusted_key)
    if bundle.calibration is None:
        raise UserError(f"{settings.bundle}: no calibration, so nothing is known of what is usual; use another bundle")
    months = monitor(bundle.calibration, bundle.bundle_hash, settings.predictions)
    say(f"usual is what {bundle.calibration.fitted_on} looked like")
    say("\n".join(_told(month) for month in months))
    if settings.output is not None:
        write(settings.output, months)
        say(f"written: {settings.output}/monitor.json, monitor.csv, drift.png, drift.svg")


def _told(month: "Month") -> str:
    """A line, and one for each finding that drifts."""
    from vkd_pyro.prediction.monitoring import FEWEST, LARGE

    name, unit = printable(month.name), {"study": "studies", "image": "images"}[month.unit]
    head = f"{name}: {month.number:,} {unit}; unlike those learned from: {month.flagged:.3f} (usual 0.05)"
    if month.number < FEWEST:
        return f"{head}: too few to say more; at least {FEWEST}"
    lines = [f"{head}{': drift' if month.verdict == 'drift' else ''}"]
    for one in month.findings:
        if one.verdict == "drift":
            defined = one.usual_yes == one.usual_yes  # not NaN
            yes = f"yes {one.yes:.3f}, usual {one.usual_yes:.3f}" if defined else "no threshold"
            lines.append(
                f"  drift: {printable(one.finding)}: mean probability {one.mean:.3f}; {yes}; stability index "
                f"{one.psi:.2f} (by chance {one.by_chance:.2f}), p = {one.p:.1g}"
            )
    if not month.drifted:
        lines.append(f"  as usual: no finding's probabilities moved by more than {LARGE:g} above chance")
    return "\n".join(lines)


def write(folder: Path, months: "Sequence[Month]") -> None:
    """The same as JSON, as a table, and as a picture; each file whole or not at all."""
    import numpy as np
    import pandas as pd

    from vkd_pyro.posthoc.ood import FLAGGED_SHARE
    from vkd_pyro.reporting.figures import drift, save
    from vkd_pyro.reporting.sections import plain
    from vkd_pyro.utils.files import private_folder, write_json, written

    private_folder(folder)
    write_json(folder / "monitor.json", {"months": plain([asdict(month) for month in months])})
    rows = [
        {"month": month.name, "unit": month.unit, "studies": month.number, "flagged": month.flagged.estimate}
        | {name: value for name, value in vars(one).items() if name != "yes"}
        | {"yes": one.yes.estimate, "yes_low": one.yes.low, "yes_high": one.yes.high}
        for month in months
        for one in month.findings
    ]
    with written(folder / "monitor.csv") as unfinished:
        pd.DataFrame(rows).to_csv(unfinished, index=False)
    index = np.array([[one.psi - one.by_chance for one in month.findings] for month in months]).T
    drifted = np.array([[one.verdict == "drift" for one in month.findings] for month in months]).T
    names, findings = [month.name for month in months], [one.finding for one in months[0].findings]
    figure = drift(names, [month.flagged for month in months], FLAGGED_SHARE, findings, index, drifted)
    save(figure, folder, "drift")
