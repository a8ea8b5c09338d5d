"""The `vkd` command. Thin: each command is a module that reads arguments, calls the library and prints."""

import difflib
import os
import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

from vkd_pyro import __version__
from vkd_pyro.utils.errors import UserError, as_user_error
from vkd_pyro.utils.text import printable

COMMANDS = {
    "train": "train a model; writes a run",
    "tune": "search for settings, on the validation split",
    "evaluate": "AUC per finding, calibration, uncertainty of a run or bundle: numbers, figures, a page",
    "compare": "differences of runs on the same studies, with intervals",
    "predict": "findings of X-rays, by a bundle",
    "serve": "a bundle as a service, with a page for the browser",
    "recalibrate": "a bundle fitted to a site, by labelled studies of the site; its weights stay",
    "monitor": "months of predictions beside what was usual: drift of images, findings, answers",
    "export": "a bundle as graphs for a machine without a GPU (OpenVINO, ONNX)",
    "sign": "a signature for a bundle, by a private key",
    "verify": "whether a bundle is as it was signed",
    "push": "a bundle to the Hugging Face hub",
    "pacs": "a DICOM node beside an archive: a structured report into each study",
    "check": "what a training would be, in words: sites, parameters, what does not fit",
    "doctor": "what a folder of X-rays is, and what is wrong with it",
    "prepare": "write a corpus as training reads it: images resized, reports embedded",
    "label": "labels from reports",
    "synthesize": "write a made-up corpus in the layout of a real one",
    "download": "fetch and unpack a public corpus",
    "configs": "the configs that ship, by name",
    "completion": "a script that completes commands and options in bash or zsh",
}
USAGE = "\n".join(
    [
        "usage: vkd COMMAND [options]",
        "",
        "Variational Knowledge Distillation: learn from X-rays and reports, diagnose from X-rays alone.",
        "",
        *(f"  {name:<12}{text}" for name, text in COMMANDS.items()),
        "",
        "vkd COMMAND --help lists the options of a command; vkd --version (-V) says which this is.",
    ]
)


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns the exit code: 0, or 2 for what the user can mend (one line on standard error)."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait spin else, and a busy machine crawls
    name, *options = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("-h", "--help"):
        print(USAGE)
        return 0
    if name in ("-V", "--version"):
        print(f"vkd {__version__}")
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            command = _command(name)
            _check_given(options)
            return command.main(options) or 0
    except KeyboardInterrupt:
        print("vkd: interrupted; the same command goes on, a training with --resume", file=sys.stderr)
        return 130
    except Exception as error:
        mendable = _mendable(error)
        if mendable is None:
            raise
        print(f"vkd: {_one_line(mendable)}", file=sys.stderr)
        return 2


def _command(name: str) -> ModuleType:
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"no command {name or 'given'}{hint}; expected one of {', '.join(COMMANDS)}")
    return import_module(f"vkd_pyro.cli.{name}")


def _check_given(options: list[str]) -> None:
    """Raises `UserError` for an empty argument, which as a path would be the folder where one is."""
    for before, option in zip(["", *options], options, strict=False):
        if not option or (option.startswith("--") and option.endswith("=")):
            place = f" after {before}" if before else ""
            raise UserError(
                f"found an empty argument{option and ' ' + option}{place}; is a variable of the shell not set?"
            )


def _mendable(error: BaseException | None) -> Exception | None:
    """What the user can mend of an error: itself, or what a library made another error of; None where nothing."""
    while error is not None:
        if mendable := as_user_error(error):
            return mendable
        error = error.__cause__ or error.__context__
    return None


def _one_line(error: Exception) -> str:
    """The message of an error, escaped; from a process that reads images it comes as the last line of a traceback."""
    message = str(error).strip() or type(error).__name__
    if message.startswith("Caught "):
        message = message.splitlines()[-1].removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")
    return printable(message)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    line = f"vkd: warning: {printable(message)}"
    if "tqdm" in sys.modules:  # a bar may be in this line
        import_module("tqdm").tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)
