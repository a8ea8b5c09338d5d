"""The one exception that is a user's to mend."""

import math
from collections.abc import Sequence


class UserError(ValueError):
    """Something in a file, field or argument that the user can correct.

    The message is one line: what was named, what was found, what was expected, and the fix.
    The command line prints it and exits with code 2, without a traceback.
    """


def one_line(error: BaseException) -> str:
    """What another library's error says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def as_user_error(error: BaseException) -> Exception | None:
    """What the user can mend of an error of others; None where nothing.

    An `OSError` is a folder that may not be written, or a full disk. PyTorch says by a `RuntimeError`, wherever the
    program is, that a process which reads images has ended, or gave nothing in time.
    """
    if isinstance(error, UserError | OSError):
        return error
    if isinstance(error, RuntimeError) and str(error).startswith(("DataLoader worker (pid", "DataLoader timed out")):
        return UserError(
            f"data.loading.num_workers: {one_line(error).split('. ')[0]}: a process that reads images was killed (too "
            "little memory?) or stopped, or is slow; set num_workers lower, or data.loading.timeout higher"
        )
    return None


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raises `UserError` where a setting is none of a few words."""
    if value not in choices:
        raise UserError(f"{name}: found {value!r}, expected {', '.join(choices[:-1])} or {choices[-1]}")


def check_count(name: str, value: object, least: int = 1, most: float = math.inf) -> None:
    """Raises `UserError` where a setting is no whole number in a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limit = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise UserError(f"{name}: found {value!r}, expected a whole number, {limit}")


def check_seed(seed: object, name: str = "seed") -> None:
    """Raises `UserError` where a seed, or one counted on from it, is none that every generator and file takes."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not -(2**62) <= seed <= 2**62:
        raise UserError(f"{name}: found {str(seed)[:40]}, expected a whole number from -2**62 to 2**62")


def check_number(name: str, value: object, least: float = 0.0, above: float = -math.inf) -> None:
    """Raises `UserError` where a setting is no finite number, of at least one value, or above another."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not (value >= least and value > above):  # type: ignore[operator]
        limit = f"above {above:g}" if above >= least else f"of at least {least:g}"
        raise UserError(f"{name}: found {value!r}, expected a number {limit}")


def check_probability(name: str, value: object) -> None:
    """Raises `UserError` where a setting is no number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{name}: found {value!r}, expected a probability from 0 to 1")
