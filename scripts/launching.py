"""Who carries out the `vkd` commands of runs: this machine, SLURM, or Ray; what is seen of them is the same.

    python scripts/launching.py RUN train --config ...   # one command in a job of its own, as SLURM and Ray run it

What a run prints is in RUN.log beside it. Who has that open has the run to itself.
"""

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

import yaml

from vkd_pyro.cli import main as vkd
from vkd_pyro.utils.errors import UserError

Commands = Sequence[tuple[Path, list[str]]]
"""Of each, the run and the arguments of `vkd`."""
LAUNCHERS = ("local", "slurm", "ray")
MINUTES = 24 * 60
"""Of a job, unless timeout_min says something else; submitit's own limit is five minutes."""
GONE = 90.0
"""Seconds after which a job that is not in SLURM's queue has left no result: a shared file system shows files late."""


@dataclass(frozen=True)
class Launcher:
    """Where commands run.

    Attributes:
        name: one of `LAUNCHERS`.
        jobs: how many at once; None for one a GPU of this machine, and for as many as a cluster has room for.
        options: KEY=VALUE; of SLURM what submitit's `update_parameters` takes, of Ray what `ray.remote` takes, and
            `address`.
        folder: of what submitit writes about its jobs.
    """

    name: str = "local"
    jobs: int | None = None
    options: tuple[str, ...] = ()
    folder: Path = Path("runs/jobs")

    def carry_out(self, commands: Commands) -> None:
        """Runs each command; exits when one has failed, what others do is finished and kept."""
        jobs = self.jobs or (max(1, len(devices())) if self.name == "local" else len(commands))
        if not commands:
            return
        if self.name == "local" and jobs == 1:
            one_by_one(commands)
            return
        options = settings(self.options)
        ways = {
            "local": lambda: by_processes(commands, jobs),
            "slurm": lambda: by_submitit(commands, jobs, options, self.folder),
            "ray": lambda: by_ray(commands, jobs, options),
        }
        start, failed = time.monotonic(), []
        with contextlib.closing(ways[self.name]()) as finished:
            for done, (number, code) in enumerate(finished, 1):
                run, command = commands[number]
                say(done, len(commands), command, run, start, code)
                failed += [run] * bool(code)
        if failed:
            sys.exit("\n".join(f"{run}: {last_line(log_path(run))} ({log_path(run)})" for run in failed))


def settings(options: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE as a mapping; values are read as YAML."""
    found = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not (name.isidentifier() and sign):
            raise UserError(f"--launcher_options: found {option!r}, expected KEY=VALUE, such as timeout_min=600")
        found[name] = yaml.safe_load(value)
    return found


# ----------------------------------------------------------------------------------------- this machine


def one_by_one(commands: Commands) -> None:
    """Each in this process; exits at the first that fails."""
    for number, (run, command) in enumerate(commands, 1):
        start = time.monotonic()
        with log_of(run, command) as log, contextlib.redirect_stdout(log):
            code = vkd(command)
        if code:
            sys.exit(code)
        say(number, len(commands), command, run, start)


def by_processes(commands: Commands, jobs: int) -> Iterator[tuple[int, int]]:
    """Several at a time, each on a device of its own; after one that fails none begins. Yields number and exit code."""
    slots: SimpleQueue[int] = SimpleQueue()
    for slot in range(jobs):
        slots.put(slot)
    running: list[subprocess.Popen[bytes]] = []

    def one(number: int) -> int:
        slot = slots.get()
        try:
            running.append(process := launch(*commands[number], slot, jobs))
            return process.wait()
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(one, number): number for number in range(len(commands))}
        try:
            for future in as_completed(futures):
                if not future.cancelled():
                    yield futures[future], future.result()
                    if future.result():
                        pool.shutdown(wait=False, cancel_futures=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            stop(running)


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
    import torch  # seconds, which a job that only starts another process does without

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


# ------------------------------------------------------------------------------------------- a cluster


def in_a_job(run: Path, command: list[str]) -> list[str]:
    """The words of a process that carries out a command wherever it is started; all machines see the same files."""
    return [sys.executable, str(Path(__file__).resolve()), str(run), *command]


def by_submitit(commands: Commands, jobs: int, options: dict[str, Any], folder: Path) -> Iterator[tuple[int, int]]:
    """Each in a job of SLURM, of one array. Yields number and exit code; an interrupt cancels what is left.

    Raises:
        UserError: there is no submitit or no SLURM, or it has no such option.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise UserError(f"--launcher slurm needs {error.name}: pip install 'vkd-pyro[scale]'") from error
    # `cluster` is submitit's: local and debug do without SLURM, as tests do.
    given = {"timeout_min": MINUTES, "name": "vkd", "slurm_array_parallelism": jobs} | options
    try:
        executor = submitit.AutoExecutor(folder, cluster=given.pop("cluster", "slurm"))
        executor.update_parameters(**given)
    except (RuntimeError, NameError, ValueError, TypeError) as error:
        raise UserError(f"--launcher slurm: {' '.join(str(error).split())}") from error
    with executor.batch():
        queued = [executor.submit(subprocess.call, in_a_job(*one), cwd=os.getcwd()) for one in commands]
    left = dict(enumerate(queued))
    try:
        for number, has_result in ended(left, executor.cluster == "slurm"):
            try:
                code = int(left[number].result()) if has_result else 1  # it was killed, or out of time
            except submitit.core.utils.FailedJobError:
                code = 1
            del left[number]
            yield number, code
    finally:
        for job in left.values():
            job.cancel()


def ended(left: dict[int, Any], by_slurm: bool) -> Iterator[tuple[int, bool]]:
    """The number of each job as it ends, and whether it left a result; who is told of one takes it out of `left`.

    A job that was killed leaves none. SLURM's queue is asked in place of the accounting that submitit looks at, which
    not each cluster keeps. A job that is queued again has left the result of its interruption, and is in the queue.
    """
    last_seen = dict.fromkeys(left, time.monotonic())
    while left:
        listed = in_slurms_queue(left.values()) if by_slurm else {job.job_id for job in left.values() if not job.done()}
        for number, job in tuple(left.items()):
            if job.job_id in listed:
                last_seen[number] = time.monotonic()
                continue
            has_result = job.paths.result_pickle.exists()
            if has_result or time.monotonic() - last_seen[number] > (GONE if by_slurm else 0):
                yield number, has_result
        time.sleep(5 if by_slurm else 1)


def in_slurms_queue(jobs: Iterable[Any]) -> set[str]:
    """The jobs of this user that wait or run; all these where SLURM does not answer."""
    asked = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=False)
    return set(asked.stdout.split()) if asked.returncode == 0 else {job.job_id for job in jobs}


def by_ray(commands: Commands, jobs: int, options: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Each in a task of Ray. Yields number and exit code; an interrupt cancels what is left."""
    from vkd_pyro.utils.on_ray import started

    given = {"num_cpus": 1, "num_gpus": int(bool(devices()))} | options
    address = given.pop("address", None)
    cores = max(len(os.sched_getaffinity(0)), given["num_cpus"])
    with started(None if address else min(cores, jobs * given["num_cpus"]), address) as ray:
        try:
            call = ray.remote(subprocess.call).options(**given)
        except (ValueError, TypeError) as error:
            raise UserError(f"--launcher ray: {' '.join(str(error).split())}") from error
        left = {call.remote(in_a_job(*one), cwd=os.getcwd()): number for number, one in enumerate(commands)}
        try:
            while left:
                (first, *_), _ = ray.wait(list(left))
                try:
                    code = int(ray.get(first))
                except ray.exceptions.RayError:
                    code = 1
                yield left.pop(first), code
        finally:
            for task in left:
                ray.cancel(task)
            if left:
                ray.wait(list(left), num_returns=len(left), timeout=30)


def left_to_do(run: Path, command: list[str]) -> list[str]:
    """What is left of a command when its job begins: another may have done it, or SLURM begins a job again."""
    if command[0] != "train":
        return command
    if (run / "bundle").exists():
        return []
    if "--resume" not in command and (run / "checkpoints" / "last.ckpt").exists():
        allowed = command[command.index("--allow_module") :] if "--allow_module" in command else []
        return ["train", "--resume", str(run), *allowed]
    return command


def main() -> int:
    """Carries out the command of a job, with what it prints in RUN.log. Returns the exit code."""
    run, command = Path(sys.argv[1]), sys.argv[2:]
    os.environ.pop("SLURM_NTASKS", None)  # else Lightning takes the processes of a run for tasks of SLURM
    with locked_log(run) as log:
        if not (command := left_to_do(run, command)):
            return 0
        begin(log, run, command)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        return vkd(command)


# ------------------------------------------------------------------------------------------------- logs


def log_path(run: Path) -> Path:
    """RUN.log, beside the run."""
    return run.with_name(f"{run.name}.log")


@contextlib.contextmanager
def locked_log(run: Path) -> Iterator[TextIO]:
    """RUN.log to append to, and the run to oneself.

    Raises:
        UserError: another process has it open.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    with log_path(run).open("a", encoding="utf-8") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a child that inherits the file keeps the lock
        except BlockingIOError as error:
            raise UserError(f"{run}: another process is at it; wait for that one, or choose another --runs") from error
        yield log


def begin(log: TextIO, run: Path, command: list[str]) -> None:
    """Clears what a killed training left, and says in its log what begins."""
    if command[0] == "train" and "--resume" not in command and (run / "config.yaml").exists():
        shutil.rmtree(run)  # killed before the end of its first epoch
    print("vkd", shlex.join(command), file=log, flush=True)


@contextlib.contextmanager
def log_of(run: Path, command: list[str]) -> Iterator[TextIO]:
    """RUN.log, where a command begins; raises as `locked_log`."""
    with locked_log(run) as log:
        begin(log, run, command)
        yield log


def last_line(log: Path) -> str:
    """What a command that failed said last."""
    said = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return next((line.strip() for line in reversed(said) if line.strip()), "no output")


def say(number: int, total: int, command: list[str], run: Path, start: float, code: int = 0) -> None:
    """One line of progress."""
    minutes = (time.monotonic() - start) / 60
    print(f"[{number}/{total}] {command[0]} {run}: {minutes:.1f} min{', failed' * bool(code)}", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
