"""`vkd completion`: what a shell completes after vkd, as a script that needs no Python when it completes."""

from importlib import import_module
from inspect import signature
from typing import Literal

from jsonargparse import ArgumentParser

from vkd_pyro.artifacts.config import new_parser, parse, shipped_configs

SCRIPT = """_vkd() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    elif [ "$before" = "--config" ]; then
        words="{configs}"
    elif [ "$before" = "--method" ]; then
        words="{methods}"
    elif [ "${{current:0:1}}" = "-" ]; then  # else a file
        case "${{COMP_WORDS[1]}}" in
{options}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -o bashdefault -F _vkd vkd"""
ZSH = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"


def main(arguments: list[str]) -> None:
    """Prints the script: `source <(vkd completion bash)`, or zsh, in the shell's start-up file."""
    parser = new_parser("completion", "A script of completions: source <(vkd completion bash) in ~/.bashrc")
    parser.add_argument("shell", type=Literal["bash", "zsh"], help="whose script is printed")
    shell = parse(parser, arguments).shell
    print((ZSH if shell == "zsh" else "") + script())


def script() -> str:
    """Commands, options of each, configs and methods, for bash; zsh reads the same."""
    from vkd_pyro import methods
    from vkd_pyro.cli import COMMANDS

    kinds = [name for name in methods.__all__ if name != "Method" and hasattr(getattr(methods, name), "reads_reports")]
    taken = {f"--method.{option}" for name in kinds for option in signature(getattr(methods, name)).parameters}
    options = {name: options_of(name) for name in COMMANDS}
    options = {name: found | taken if "--method" in found else found for name, found in options.items()}
    return SCRIPT.format(
        commands=" ".join(COMMANDS),
        configs=" ".join(shipped_configs()),
        methods=" ".join(kinds),
        options="\n".join(
            f'            {name}) words="{" ".join(sorted(found))}" ;;' for name, found in options.items()
        ),
    )


def options_of(command: str) -> set[str]:
    """The options of a command, without those of parts that are chosen by class."""
    module = import_module(f"vkd_pyro.cli.{command}")
    makers = [maker for name, maker in vars(module).items() if name.endswith("_parser") and name != "new_parser"]
    parser: ArgumentParser = makers[0]() if makers else new_parser(command, "")
    return {option for action in parser._actions for option in action.option_strings if option[:2] == "--"}
