"""Trains rows of a table over seeds and folds, evaluates them, and prints the table that compares them.

    python scripts/experiment.py configs/synthetic.yaml:no_report configs/synthetic.yaml:vkd --seeds 5
    python scripts/experiment.py configs/openi_cpu.yaml:vkd configs/openi_cpu.yaml+configs/methods/regression.yaml \\
        --folds 5 --jobs 2

A row is CONFIG:ARM, or CONFIG+OVERLAY, an overlay being a config that holds what differs. Further options go to every
`vkd train`, e.g. --training.max_epochs=2. Runs that are complete are not trained again, interrupted ones are resumed.
What a run prints is in RUN.log beside it. Differences are against the first row named.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import torch
import yaml
from jsonargparse.typing import NonNegativeInt, PositiveInt

from vkd_pyro.artifacts.config import parse
from vkd_pyro.cli import main as vkd
from vkd_pyro.cli.train import train_parser, with_config_of_a_run
from vkd_pyro.evaluation.collapse import LatentUse
from vkd_pyro.evaluation.comparison import paired_difference
from vkd_pyro.evaluation.evaluation import MIN_POSITIVES, Evaluation
from vkd_pyro.evaluation.saved import load_evaluation
from vkd_pyro.utils.errors import UserError

MACRO = f"macro{MIN_POSITIVES}"


@dataclass(frozen=True)
class Row:
    """What is compared with others.

    Attributes:
        name: of its runs, which are NAME-SEED, or NAME-SEED-foldFOLD.
        configs: files for `vkd train`; a later one says what differs from those before it.
        options: of `vkd train`.
        start_from: name of the row whose run of the same seed and fold it goes on from; "" for none.
    """

    name: str
    configs: tuple[str, ...]
    options: tuple[str, ...] = ()
    start_from: str = ""


@dataclass(frozen=True)
class Plan:
    """How all rows are trained and evaluated.

    Attributes:
        runs: folder of the runs.
        seeds: 0, 1, ... so many.
        folds: of cross-fitting; 0 for the corpus's own splits.
        split: what is evaluated.
        options: of every `vkd train`, after those of the row.
        jobs: how many at once.
    """

    runs: Path
    seeds: int = 2
    folds: int = 0
    split: str = "test"
    options: tuple[str, ...] = ()
    jobs: int = 1

    def run(self, name: str, seed: int, fold: int = 0) -> Path:
        """The folder of a run."""
        return self.runs / (f"{name}-{seed}-fold{fold}" if self.folds else f"{name}-{seed}")

    def trainings(self, row: Row) -> list["Training"]:
        """Of every seed and fold."""
        return [self._training(row, seed, fold) for seed in range(self.seeds) for fold in range(self.folds or 1)]

    def _training(self, row: Row, seed: int, fold: int) -> "Training":
        run = self.run(row.name, seed, fold)
        arguments = [word for config in row.configs for word in ("--config", config)]
        arguments += ["--run", str(run), "--seed", str(seed), *row.options]
        if self.folds:
            arguments += [f"--data.task.folds.fold={fold}", f"--data.task.folds.num_folds={self.folds}"]
        if row.start_from:
            arguments += ["--start_from", str(self.run(row.start_from, seed, fold))]
        return Training(run, (*arguments, *self.options))


@dataclass(frozen=True)
class Training:
    """One run: its folder, and the arguments of the `vkd train` that writes it."""

    run: Path
    arguments: tuple[str, ...]

    def command(self) -> list[str]:
        """What is left to do, as arguments of `vkd`; empty where the run is complete.

        Raises:
            UserError: the folder holds a run with other settings.
        """
        config = self.run / "config.yaml"
        if config.exists():
            theirs, ours = resolved("--config", str(config)), resolved(*self.arguments)
            for name in sorted(theirs.keys() | ours.keys()):
                if theirs.get(name) != ours.get(name):
                    found = f"{name} {theirs.get(name)}, now {ours.get(name)}"
                    raise UserError(
                        f"{self.run}: was made with other settings than these ({found}); remove it, or choose "
                        "another --runs"
                    )
        if (self.run / "bundle").exists():
            return []
        if (self.run / "checkpoints" / "last.ckpt").exists():
            return ["train", "--resume", str(self.run)]
        return ["train", *self.arguments]


def resolved(*arguments: str) -> dict[str, Any]:
    """Every setting that arguments of `vkd train` come to, by its dotted name, without the run's name."""
    parser = train_parser()
    settings = parse(parser, with_config_of_a_run(list(arguments)))
    settings.run = None
    return flat(yaml.safe_load(parser.dump(settings, skip_unset=False)))


def flat(settings: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    if not isinstance(settings, dict):
        return {name: settings}
    parts = (flat(value, f"{name}.{key}" if name else str(key)) for key, value in settings.items())
    return {key: value for part in parts for key, value in part.items()}


# ------------------------------------------------------------------------ running, one or several at once


def evaluations(rows: Sequence[Row], plan: Plan) -> dict[str, list[Evaluation]]:
    """Trains what is not trained yet, evaluates what is not evaluated yet: of each row, an evaluation a seed.

    With folds, one is of all folds' test splits together: out-of-fold predictions of every study.
    """
    for wave in waves(rows):
        carry_out(
            [(t.run, command) for row in wave for t in plan.trainings(row) if (command := t.command())], plan.jobs
        )
    runs = [training.run for row in rows for training in plan.trainings(row)]
    missing = [run for run in runs if not (run / "evaluation" / plan.split / "evaluation.json").exists()]
    carry_out([(run, ["evaluate", str(run), "--split", plan.split, "--page=false"]) for run in missing], plan.jobs)
    return {row.name: [evaluation(row, seed, plan) for seed in range(plan.seeds)] for row in rows}


def evaluation(row: Row, seed: int, plan: Plan) -> Evaluation:
    """Of one seed, its folds together."""
    runs = [plan.run(row.name, seed, fold) for fold in range(plan.folds or 1)]
    return concatenate([load_evaluation(run / "evaluation" / plan.split) for run in runs])


def waves(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that start from nothing, then those that start from runs of others."""
    names = [row.name for row in rows]
    for row in rows:
        if row.start_from and row.start_from not in names:
            raise UserError(
                f"{row.name}: starts from {row.start_from}, which is not among the rows; give what that needs"
            )
    return [[row for row in rows if not row.start_from], [row for row in rows if row.start_from]]


def carry_out(commands: Sequence[tuple[Path, list[str]]], jobs: int) -> None:
    """Runs a `vkd` command for each run; exits at the first that fails, what others have done being kept."""
    if jobs > 1:
        carry_out_at_once(commands, jobs)
        return
    for number, (run, command) in enumerate(commands, 1):
        start = time.monotonic()
        with log_of(run, command) as log, contextlib.redirect_stdout(log):
            code = vkd(command)
        if code:
            sys.exit(code)  # it has said why
        say(number, len(commands), command, run, start)


def carry_out_at_once(commands: Sequence[tuple[Path, list[str]]], jobs: int) -> None:
    """Several at a time, each in a process and on a device of its own; one that fails lets the others finish."""
    waiting, running, failed, done = deque(commands), {}, [], 0
    try:
        while running or (waiting and not failed):
            for slot in set(range(jobs)) - running.keys():
                if waiting and not failed:
                    run, command = waiting.popleft()
                    running[slot] = run, command, time.monotonic(), launch(run, command, slot, jobs)
            time.sleep(0.2)
            for slot, (run, command, start, process) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[slot]
                done += 1
                say(done, len(commands), command, run, start, process.returncode)
                failed += [run] * bool(process.returncode)
    finally:
        stop([process for *_, process in running.values()])
    if failed:
        sys.exit("\n".join(f"{run}: {last_line(log_path(run))} ({log_path(run)})" for run in failed))


def launch(run: Path, command: list[str], slot: int, jobs: int) -> subprocess.Popen[bytes]:
    """Starts a `vkd` command on the device of a slot; Ctrl-C is not its own to hear."""
    threads = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // jobs))}
    gpus = devices()
    device = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
    with log_of(run, command) as log:
        return subprocess.Popen(
            [sys.executable, "-m", "vkd_pyro.cli", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=threads | os.environ | device,
            start_new_session=True,
        )


def devices() -> list[str]:
    """The CUDA devices that may be used, as CUDA_VISIBLE_DEVICES names them."""
    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupts, so that a training leaves what it can resume from; ends what does not heed it."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def log_path(run: Path) -> Path:
    """RUN.log, beside the run."""
    return run.with_name(f"{run.name}.log")


@contextlib.contextmanager
def log_of(run: Path, command: list[str]) -> Iterator[TextIO]:
    """RUN.log to append to. Who has it open has the run to itself, so what a killed training left can be cleared.

    Raises:
        UserError: another process has it open.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    with log_path(run).open("a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a child that inherits the file keeps the lock
        except BlockingIOError as error:
            raise UserError(f"{run}: another process is at it; wait for that one, or choose another --runs") from error
        if command[0] == "train" and "--resume" not in command and (run / "config.yaml").exists():
            shutil.rmtree(run)  # killed before the end of its first epoch
        print("vkd", shlex.join(command), file=log, flush=True)
        yield log


def last_line(log: Path) -> str:
    """What a command that failed said last."""
    return next((line.strip() for line in reversed(log.read_text().splitlines()) if line.strip()), "no output")


def say(number: int, total: int, command: list[str], run: Path, start: float, code: int = 0) -> None:
    """One line of progress."""
    minutes = (time.monotonic() - start) / 60
    print(f"[{number}/{total}] {command[0]} {run}: {minutes:.1f} min{', failed' * bool(code)}", file=sys.stderr)


# ------------------------------------------------------------------------------------------ comparing


def concatenate(parts: Sequence[Evaluation]) -> Evaluation:
    """The evaluations of disjoint sets of patients, by a model each, as one.

    Of the use of z, means over the parts by their studies.

    Raises:
        UserError: they are of other findings, or have studies or patients in common.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if any(part.findings != first.findings for part in parts):
        raise UserError("folds: the evaluations are of other findings")
    studies = [study for part in parts for study in set(part.study_ids)]
    patients = [patient for part in parts for patient in set(part.patient_ids)]
    if len(studies) > len(set(studies)) or len(patients) > len(set(patients)):
        raise UserError("folds: a study or a patient is in two of them")
    shared = {name: value for name, value in first.data.items() if name not in ("splits", "left_out", "folds")}
    of_rows = (f.name for f in fields(Evaluation) if isinstance(getattr(first, f.name), np.ndarray))
    kinds = set.intersection(*(set(part.subgroups) for part in parts))
    return replace(
        first,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in of_rows},
        data=shared | {"folds": len(parts)},
        how={name: value for name, value in first.how.items() if name not in ("bundle", "calibration")},
        study_ids=tuple(study for part in parts for study in part.study_ids),
        patient_ids=tuple(patient for part in parts for patient in part.patient_ids),
        subgroups={kind: np.concatenate([part.subgroups[kind] for part in parts]) for kind in kinds},
        latent_use=mean_use(parts),
        models=np.repeat(np.arange(len(parts)), [len(part.study_ids) for part in parts]),
    )


def mean_use(parts: Sequence[Evaluation]) -> LatentUse:
    """Means over evaluations, weighted by their rows."""
    weights = [len(part.study_ids) for part in parts]
    uses = [part.latent_use for part in parts]
    names = ("kl", "mutual_information", "z_spread", "z_change")
    return LatentUse(
        active_units={
            name: float(np.average([use.active_units[name] for use in uses], weights=weights))
            for name in uses[0].active_units
        },
        kl_per_dimension=np.average([use.kl_per_dimension for use in uses], axis=0, weights=weights),
        **{name: float(np.average([getattr(use, name) for use in uses], weights=weights)) for name in names},
    )


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds."""
    if np.isnan(values).any():
        return "-"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def row_of_table(
    ours: list[Evaluation], baselines: Mapping[str, list[Evaluation]], num_resamples: int = 2000
) -> dict[str, str]:
    """Means over seeds with their standard deviation; differences from baselines, by what their names shall end in."""
    averages = [e.averages() for e in ours]
    cells = {name: spread([a["image"][name] for a in averages]) for name in ("macro", MACRO, "micro", "weighted")}
    cells |= {
        "nll": spread([e.nll() for e in ours]),
        "report macro": spread([a["report"]["macro"] for a in averages]),
        "report micro": spread([a["report"]["micro"] for a in averages]),
        "KL": spread([e.kl for e in ours]),
        "active prior": spread([e.active_units["prior"] for e in ours]),
        "active posterior": spread([e.active_units["posterior"] for e in ours]),
    }
    for name, baseline in baselines.items():
        if ours is not baseline:
            cells |= differences(ours, baseline, name, num_resamples)
    return cells


def differences(
    ours: list[Evaluation], baseline: list[Evaluation], to: str = "", num_resamples: int = 2000
) -> dict[str, str]:
    """Paired differences from a baseline with their intervals, and those of each seed; `to` ends their names."""
    by_seed = [paired_difference([a], [b], num_resamples=1).estimate for a, b in zip(ours, baseline, strict=True)]
    return {
        f"Δ {MACRO}{to}": str(paired_difference(ours, baseline, num_resamples=num_resamples)),
        f"Δ micro{to}": str(paired_difference(ours, baseline, "micro", num_resamples)),
        f"Δ {MACRO}{to} by seed": " ".join("undefined" if np.isnan(found) else f"{found:+.3f}" for found in by_seed),
    }


def config_hash(plan: Plan, name: str) -> str:
    """sha256 of the resolved config of a row's first run."""
    return hashlib.sha256((plan.run(name, 0) / "config.yaml").read_bytes()).hexdigest()


def write_result(path: Path, content: dict[str, Any]) -> None:
    """JSON, with the command that made it in front."""
    command = f"python scripts/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}"
    text = json.dumps({"command": command} | content, indent=1, ensure_ascii=False, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


# --------------------------------------------------------------------------------------- command line


def add_plan(parser: argparse.ArgumentParser, runs: str) -> None:
    """The options that make a `Plan`, and where the result goes."""
    parser.add_argument("--seeds", type=PositiveInt, default=2, help="0, 1, ... so many")
    parser.add_argument(
        "--folds", type=NonNegativeInt, help="cross-fitting by patient in so many; 0 is the corpus's own splits"
    )
    parser.add_argument("--runs", type=Path, default=Path(runs), help="folder of the runs")
    parser.add_argument(
        "--jobs", type=PositiveInt, default=max(1, len(devices())), help="at once; by default one a GPU"
    )
    parser.add_argument("--json", type=Path, help="where to write the table with its origin")


def row_named(text: str) -> Row:
    """CONFIG[+OVERLAY...][:ARM] as a row, named by the files' stems and the arm."""
    files, _, arm = text.partition(":")
    configs = files.split("+")
    first, *others = (Path(config).stem for config in configs)
    name = "/".join(filter(None, [first, "-".join([*others, *([arm] if arm else [])])]))
    return Row(name, tuple(configs), ("--arm", arm) if arm else ())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("rows", nargs="+", metavar="CONFIG[+OVERLAY][:ARM]")
    add_plan(parser, runs="runs")
    parser.add_argument("--split", default="test", help="what is evaluated: test, or validation to choose by")
    given, options = parser.parse_known_args()
    if given.folds and given.split != "test":
        parser.error("--folds joins the folds' test splits; leave out --split")
    plan = Plan(given.runs, given.seeds, given.folds or 0, given.split, tuple(options), given.jobs)
    rows = [row_named(text) for text in given.rows]
    found = evaluations(rows, plan)
    cells = {name: row_of_table(ours, {"": found[rows[0].name]}) for name, ours in found.items()}
    table = pd.DataFrame(cells).T.fillna("")  # the first has no difference from itself
    print(table.to_string())
    if given.json:
        hashes = {row.name: config_hash(plan, row.name) for row in rows}
        seeds = {name: [e.summary() for e in ours] for name, ours in found.items()}
        write_result(given.json, {"config_sha256": hashes, "table": table.to_dict("index"), "seeds": seeds})


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What the user can mend ends the program with one line; Ctrl-C and SIGTERM end it with its children."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
