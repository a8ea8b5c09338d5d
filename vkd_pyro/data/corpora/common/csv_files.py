"""From the bytes of a CSV file to its cells as text: its Unicode, its separator, its quotes."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow

from vkd_pyro.data.corpora.common.quotes import stray_quote
from vkd_pyro.utils.encodings import decode, encoding_of
from vkd_pyro.utils.errors import UserError

SEPARATORS = ",;\t|"
EXCEL = re.compile(r'"?sep=(.)"?\s*')
"""The first line of some files, which tells Excel their separator."""
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How the files of spreadsheet programs begin."""
MAX_BYTES = 2 * 1024**3
"""Bytes of an unpacked table, at most; the largest that is read, MIMIC-CXR's reports in one table, has a tenth."""
FIRST_LINE = 1 << 16


def read_cells(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    """All cells as text, under the names of the first line; blank ones are "".

    Args:
        path: plain or gzipped.
        wanted: columns; the separator is the one that gives most of them, of comma, semicolon, tab and bar.

    Raises:
        UserError: no text, too large, or a quote that is not closed.
        pyarrow.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError: not readable otherwise.
    """
    content = _utf8(path, _content(path, MAX_BYTES))
    separator, skipped = _separator(content[:FIRST_LINE], wanted)
    if b'"' in content:
        found = stray_quote(content.decode("utf-8", "replace"), separator)
        if found is not None:
            raise UserError(f"{path}: line {found[0]}: {found[1]}; mend the quotes there, or save the table anew")
    read = arrow.ReadOptions(use_threads=False, block_size=1 << 26, skip_rows=skipped)
    options = arrow.ParseOptions(newlines_in_values=True, delimiter=separator)
    with arrow.open_csv(pa.BufferReader(content), read, options) as reader:
        names = reader.schema.names
    as_text = arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    return arrow.read_csv(pa.BufferReader(content), read, options, as_text).to_pandas()


def header_of(path: Path, wanted: Sequence[str]) -> list[str]:
    """The names in the first line of a CSV file, stripped; none where it cannot be read."""
    try:
        start = _utf8(path, _content(path, FIRST_LINE, whole=False))
    except (pa.ArrowException, OSError, EOFError, ValueError):  # also not Unicode, and a UserError
        return []
    separator, skipped = _separator(start, wanted)
    lines = start.decode("utf-8", "replace").splitlines()[skipped:]
    return _names(lines[0], separator) if lines else []


def _content(path: Path, most: int, whole: bool = True) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: no such file; check its name, and that it is a file")
    with pa.input_stream(str(path), compression="detect") as stream:
        content: bytes = stream.read(most + whole)
    if whole and len(content) > most:
        raise UserError(f"{path}: larger than {most / 1e9:.0f} GB, which no table of studies is; check its name")
    return content


def _utf8(path: Path, content: bytes) -> bytes:
    if content.startswith(WORKBOOKS):
        raise UserError(f"{path}: a workbook of a spreadsheet, and no CSV file; save it as CSV in UTF-8")
    encoding = encoding_of(content)
    if encoding == "utf-8":
        return content
    even = content[: len(content) // 4 * 4] if len(content) == FIRST_LINE else content
    return decode(even).encode()


def _separator(start: bytes, wanted: Sequence[str]) -> tuple[str, int]:
    """The separator, and how many lines stand before the header."""
    lines = start.decode("utf-8", "replace").splitlines()[:1]
    if lines and (told := EXCEL.fullmatch(lines[0])):
        return told[1], 1
    named = {separator: len(set(_names(lines[0], separator)) & set(wanted)) for separator in SEPARATORS if lines}
    return max(SEPARATORS, key=lambda separator: named.get(separator, 0)), 0


def _names(line: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader(io.StringIO(line), delimiter=separator), [])]
