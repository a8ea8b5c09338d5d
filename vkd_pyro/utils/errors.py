"""The one exception that is a user's to mend."""


class UserError(ValueError):
    """Something in a file, field or argument that the user can correct.

    The message is one line: what was named, what was found, what was expected, and the fix.
    The command line prints it and exits with code 2, without a traceback.
    """


def one_line(error: BaseException) -> str:
    """What another library's error says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def check_probability(name: str, value: object) -> None:
    """Raises `UserError` where a setting is no number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{name}: found {value!r}, expected a probability from 0 to 1")
