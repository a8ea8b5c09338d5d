"""`vkd configs`: the configs that ship, by the name that `--config` takes."""

from vkd_pyro.artifacts.config import new_parser, parse, shipped_configs
from vkd_pyro.utils.errors import UserError


def main(arguments: list[str]) -> None:
    """Lists the configs that ship, each with the first line of its head; or prints the one that is named."""
    parser = new_parser("configs", "The configs that ship: --config NAME takes them without a path.")
    parser.add_argument("name", type=str, nargs="?", help="one of them, to be printed")
    name, configs = parse(parser, arguments).name, shipped_configs()
    if name is None:
        width = max(map(len, configs)) + 2
        for each, path in configs.items():
            first, _, _ = path.read_text(encoding="utf-8").partition("\n")
            print(f"{each:<{width}}{first.removeprefix('# ')}")
    elif name in configs:
        print(configs[name].read_text(encoding="utf-8"), end="")
    else:
        raise UserError(f"configs: no config {name}; expected one of {', '.join(configs)}")
