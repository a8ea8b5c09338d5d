"""What a notebook shows of an object: a line, paragraphs and tables, as HTML, without pandas: predicting has none."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Table = Sequence[Mapping[str, Any]]
"""Rows, each with the same columns."""


def notebook_html(title: str, *parts: Table | str) -> str:
    """A title in bold, then paragraphs and tables, escaped. Numbers have three decimals; NaN is "undefined"."""
    shown = [f"<p>{escape(part)}</p>" if isinstance(part, str) else _table(part) for part in parts]
    return f"<div><p><b>{escape(title)}</b></p>{''.join(shown)}</div>"


def _table(rows: Table) -> str:
    head = "".join(f"<th>{escape(str(name))}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(_cell(value) for value in row.values())}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"<td>{'undefined' if math.isnan(value) else f'{value:.3f}'}</td>"
    return f"<td>{value:,}</td>" if isinstance(value, int) else f"<td>{escape(str(value))}</td>"
