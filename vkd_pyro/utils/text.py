"""Text from outside, as a terminal may show it."""

KEPT = "\n\t"


def printable(text: object, kept: str = "") -> str:
    """Text in which each character that is not shown is escaped: codes that move the cursor, line breaks, bytes.

    A file or a finding named with such codes could else write lines of its own on a terminal.

    Args: the text; characters that stay although they are not shown.
    """
    return "".join(one if one.isprintable() or one in kept else _escaped(one) for one in str(text))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()
