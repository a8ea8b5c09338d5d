"""What a notebook shows of an object: a line and tables, as HTML."""

from html import escape
from typing import Any

import pandas as pd


def notebook_html(title: str, *parts: pd.DataFrame | str) -> str:
    """A title in bold, then paragraphs and tables, escaped. Numbers have three decimals; NaN is "undefined"."""
    shown = [f"<p><b>{escape(title)}</b></p>"]
    for part in parts:
        if isinstance(part, str):
            shown.append(f"<p>{escape(part)}</p>")
        else:
            with pd.option_context("display.max_colwidth", None):
                shown.append(part.map(_cell).to_html(border=0, notebook=True))
    return f"<div>{''.join(shown)}</div>"


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return "undefined" if pd.isna(value) else f"{value:.3f}"
