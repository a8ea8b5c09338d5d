"""Text from outside, in whichever Unicode it was saved."""

import codecs

MARKS = {  # of UTF-32 before those of UTF-16, with which they begin
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


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
