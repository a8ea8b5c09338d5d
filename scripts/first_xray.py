"""Writes the first X-ray of a run's test split that has findings, as a PNG.

python scripts/first_xray.py RUN FILE
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from vkd_pyro.artifacts.run import load_run


def main(run: Path, path: Path) -> None:
    data = load_run(run).data
    targets = data.targets("test")
    chosen = int(np.nansum(targets[:, 1:], axis=1).argmax())
    pixels = data.transform(data.studies("test")[chosen].images[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[0].numpy()).save(path)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
