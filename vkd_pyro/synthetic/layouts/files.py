"""Tables and images on disk, with the same bytes each time."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from vkd_pyro.synthetic.layouts.visits import Pixels


def write_csv(path: Path, header: str, rows: Iterable[Sequence[object]]) -> None:
    """A table below its header line; compressed where the name ends in .gz."""
    text = io.StringIO()
    text.write(header + "\n")
    csv.writer(text, lineterminator="\n").writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def write_image(path: Path, image: Pixels, mode: str = "L") -> None:
    """A gray image, or the same in another mode of Pillow; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).convert(mode).save(path, quality=95)  # the quality is of JPEG alone
