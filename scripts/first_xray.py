"""Writes the X-ray of a run's test split that has the most findings, as a PNG, and prints which they are.

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
    own = [finding != "No Finding" for finding in data.findings]
    chosen = int(np.nansum(targets[:, own], axis=1).argmax())
    pixels = data.transform(data.studies("test")[chosen].images[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[0].numpy()).save(path)
    print(
        "it has:", ", ".join(finding for finding, one in zip(data.findings, targets[chosen], strict=True) if one == 1)
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
