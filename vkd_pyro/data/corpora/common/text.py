"""Text from outside, in whichever Unicode it was saved."""

import codecs
import os
from pathlib import Path

from vkd_pyro.utils.errors import UserError

MARKS = {  # of UTF-32 before those of UTF-16, with which they begin
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MAX_BYTES = 16 * 1024 * 1024
"""Of a text file that is read whole: a report has a few thousand, the longest official list 2 million."""


def encoding_of(content: bytes) -> str:
    """UTF-8, unless a byte order mark, or zeros where ASCII has them in UTF-16, say another Unicode."""
    named = next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), "")
    if named:
        return named
    start = content[:64]
    for encoding, zeros, letters in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
        if zeros and not any(zeros) and all(letters):
            return encoding
    return "utf-8"


def decode(content: bytes) -> str:
    """The text, without a byte order mark.

    Raises:
        UnicodeDecodeError: it is no Unicode.
    """
    return content.decode(encoding_of(content))


def read_text(path: Path) -> str:
    """The text of a regular file; a pipe or a device is none, since reading it may never end.

    Raises:
        UserError: not a file, too large, not readable, or not Unicode.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; check its name, and that it is a file")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES // 2**20} MB, which is no text; check its name")
        return decode(path.read_bytes())
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 or UTF-16; save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); see who owns it") from error
