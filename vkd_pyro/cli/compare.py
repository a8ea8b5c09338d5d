"""`vkd compare`: paired differences of runs on the same studies."""

from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from vkd_pyro.artifacts.config import new_parser, parse
from vkd_pyro.artifacts.folders import check_not_bundle, is_bundle
from vkd_pyro.cli.terminal import say
from vkd_pyro.utils.errors import UserError

METRICS: dict[Literal["macro", "micro"], str] = {"macro": "macro30 AUC", "micro": "micro AUC"}


def compare_parser() -> ArgumentParser:
    """Arguments of `vkd compare`."""
    parser = new_parser(
        "compare",
        "Paired differences of methods on the same studies, with 95 % intervals over patients. The first is what the "
        "others are compared with. Runs that differ in their seed alone are one method: RUN,RUN.",
    )
    parser.add_argument("methods", nargs="+", help="runs that vkd evaluate has evaluated, or folders it has written")
    parser.add_argument("--split", type=Literal["train", "validation", "test"], default="test", help="which evaluation")
    parser.add_argument("--resamples", type=PositiveInt, default=2000, help="of the patients")
    parser.add_argument("--output", type=Path | None, help="a folder for comparison.json and the forest plots")
    return parser


def main(arguments: list[str]) -> None:
    """Prints the differences, and writes them where asked."""
    from vkd_pyro.evaluation.comparison import by_finding, paired_difference

    settings = parse(compare_parser(), arguments)
    if len(settings.methods) < 2:
        raise UserError("compare: found one method, expected at least two, e.g. vkd compare runs/no_report runs/vkd")
    places = [Path(path).resolve() for name in settings.methods for path in name.split(",")]
    if twice := [place for place in places if places.count(place) > 1]:
        raise UserError(f"compare: {twice[0].name} is given twice; runs that differ in their seed alone are RUN,RUN")
    if settings.output is not None:
        check_not_bundle(settings.output)
    loaded = [[load(Path(path), settings.split) for path in name.split(",")] for name in settings.methods]
    methods = dict(zip(short_names(settings.methods), loaded, strict=True))
    first, *others = methods
    to = methods[first][0]
    number, split = len(set(to.patient_ids)), to.how.get("split", settings.split)
    say(f"differences to {first}; {split} split, {number} patients; 95 % over patients")
    found: dict[str, Any] = {}
    for name in others:
        pair = methods[name], methods[first]
        found[name] = {text: paired_difference(*pair, metric, settings.resamples) for metric, text in METRICS.items()}
        say(f"{name}: " + "; ".join(f"{text} {interval}" for text, interval in found[name].items()))
    if settings.output is not None:
        findings = {name: by_finding(methods[name], methods[first], settings.resamples) for name in others}
        write(settings.output, first, found, findings)
        say(f"written: {settings.output}/comparison.json, forest plots")


def short_names(methods: list[str]) -> list[str]:
    """Of each method its runs' folders, with as many of those above as tell the methods apart."""
    parts = [[Path(path).resolve().parts for path in name.split(",")] for name in methods]
    for depth in range(1, max(len(path) for paths in parts for path in paths) + 1):
        names = [",".join("/".join(path[-depth:]) for path in paths) for paths in parts]
        if len(set(names)) == len(names):
            break
    return names


def load(path: Path, split: str) -> Any:
    """The evaluation in a folder that `vkd evaluate` has written, or of a run's split."""
    from vkd_pyro.evaluation.saved import load_evaluation

    folder = path if (path / "evaluation.json").is_file() else path / "evaluation" / split
    if is_bundle(path):
        raise UserError(f"{path}: a bundle; name its run, or the folder of its evaluation")
    if not (folder / "evaluation.json").is_file():
        raise UserError(f"{path}: not evaluated on its {split} split; run vkd evaluate {path} --split {split}")
    return load_evaluation(folder)


def write(folder: Path, first: str, found: dict[str, Any], findings: dict[str, Any]) -> None:
    """comparison.json, and a forest plot of the averages and, for each method, of the findings."""
    from vkd_pyro.reporting.figures import forest, save
    from vkd_pyro.reporting.sections import plain
    from vkd_pyro.utils.files import private_folder, write_json

    private_folder(folder)
    write_json(folder / "comparison.json", plain({"to": first, "averages": found, "findings": findings}))

    def draw(name: str, intervals: dict[str, Any], title: str) -> None:
        estimates, lows, highs = zip(*((i.estimate, i.low, i.high) for i in intervals.values()), strict=True)
        save(forest(list(intervals), estimates, lows, highs, title), folder, name)

    averages = {f"{name}, {text}": each for name, of in found.items() for text, each in of.items()}
    draw("forest", averages, f"Difference of AUC to {first}")
    for number, (name, intervals) in enumerate(findings.items(), 1):
        draw(f"forest_findings_{number}", intervals, f"{name} less {first}, AUC of each finding")
