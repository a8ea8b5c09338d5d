"""How much a YAML file may hold, judged before it is read: a few aliases of aliases stand for billions of values."""

import yaml

from vkd_pyro.utils.errors import UserError, one_line

LARGEST = 1 << 16
"""Characters of a config: those that ship have at most 4,000."""
MOST_VALUES, DEEPEST = 10_000, 50


def check_yaml(text: str, name: str) -> None:
    """Goes through the events of a YAML text, without making anything of them.

    Args:
        text: of the file.
        name: of the file, for the message.

    Raises:
        UserError: it is no YAML, or would hold too much: characters, values (those that aliases stand for counted as
            often as they are meant), or levels.
    """
    if len(text) > LARGEST:
        raise UserError(f"{name}: {len(text):,} characters, expected a config of at most {LARGEST:,}")
    sizes: dict[str, int] = {}
    open_values: list[tuple[str | None, int]] = [(None, 0)]  # its anchor, and values in it so far
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            anchor, found = getattr(event, "anchor", None), 0
            if isinstance(event, yaml.CollectionStartEvent):
                open_values.append((anchor, 1))
            elif isinstance(event, yaml.AliasEvent):
                if anchor not in sizes:
                    raise UserError(
                        f"{name}: the alias *{anchor} stands for what it is in, or for nothing; write it out"
                    )
                found = sizes[anchor]
            elif isinstance(event, yaml.ScalarEvent):
                found = 1
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, found = open_values.pop()
            if anchor is not None and found:
                sizes[anchor] = found
            open_values[-1] = (open_values[-1][0], open_values[-1][1] + found)
            if open_values[-1][1] > MOST_VALUES or len(open_values) > DEEPEST:
                raise UserError(
                    f"{name}: more than {MOST_VALUES:,} values or {DEEPEST} levels, with aliases written out; expected "
                    "a config"
                )
    except yaml.YAMLError as error:
        raise UserError(unreadable(error, name)) from error


def unreadable(error: yaml.YAMLError, name: str) -> str:
    """What is wrong with the YAML of this file, and in which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        place = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
        return f"{name}, {place}: not a readable YAML file ({error.problem})"
    return f"{name}: not a readable YAML file ({one_line(error)})"
