"""Figures as files, PNG and SVG, and as SVG in a page."""

import hashlib
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure

from vkd_pyro.reporting.figures.style import INK, STYLE
from vkd_pyro.utils.files import written

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

_NO_METADATA: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""No date, so that the same figure is the same file."""


@rc_context(STYLE)
def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes NAME.png (150 dots an inch) and NAME.svg into a folder, on white, each whole or not at all."""
    _settle(figure)
    for kind, metadata in (("png", None), ("svg", _NO_METADATA)):
        with written(folder / f"{name}.{kind}") as unfinished:
            figure.savefig(unfinished, format=kind, facecolor="white", metadata=metadata)


@rc_context(STYLE)
def svg(figure: Figure, alt: str = "", prefix: str | None = None) -> str:
    """A figure as an SVG element to put into a page: always the same text for the same figure.

    Args:
        alt: what a reader who does not see it is told.
        prefix: what its ids begin with, for no two elements of a page may share one; by default a hash of the figure,
            which differs between different figures.
    """
    _settle(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    prefix = f"s{hashlib.sha256(stream.getvalue()).hexdigest()[:12]}" if prefix is None else prefix
    root = ElementTree.fromstring(stream.getvalue())
    for element in root.iter():
        for name, value in element.attrib.items():
            element.set(name, _in_page(name, value, prefix))
        if element.tag == f"{{{SVG}}}style":
            element.text = f"#{prefix} {(element.text or '').strip()}"  # matplotlib's is of every element of a page
    root.attrib.update({"id": prefix, "role": "img", "aria-label": alt})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _settle(figure: Figure) -> None:
    """Lays a figure out once and for all: every drawing would move its axes a little further."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _in_page(name: str, value: str, prefix: str) -> str:
    """An attribute's value with our prefix before every id, and the page's text colour for ink."""
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("href", f"{{{XLINK}}}href"):
        return re.sub("^#", f"#{prefix}-", value)
    return value.replace("url(#", f"url(#{prefix}-").replace(INK, "currentColor")
