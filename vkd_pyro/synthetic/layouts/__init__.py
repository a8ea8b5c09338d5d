"""The synthetic corpus written as the real corpora lie on disk: the same file names, columns, headers and oddities.

For rehearsing a run before the real files are there, and for testing the readers on their true shape:

    synthesize("mimic-cxr", Path("rehearsal"), num_studies=200)
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.synthetic.layouts.brax import write_brax
from vkd_pyro.synthetic.layouts.chestxray14 import write_chestxray14
from vkd_pyro.synthetic.layouts.chexlocalize import write_chexlocalize
from vkd_pyro.synthetic.layouts.chexpert import write_chexpert
from vkd_pyro.synthetic.layouts.mimic_cxr import write_mimic_cxr
from vkd_pyro.synthetic.layouts.openi import write_openi, write_openi_kaggle
from vkd_pyro.synthetic.layouts.padchest import write_padchest
from vkd_pyro.synthetic.layouts.vindr_cxr import write_vindr_cxr
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import written_folder

_WRITERS: dict[str, Callable[[SyntheticCorpus, Path, bool], Counter[str]]] = {
    "mimic-cxr": write_mimic_cxr,
    "openi": write_openi,
    "openi-kaggle": write_openi_kaggle,
    "chestxray14": write_chestxray14,
    "chexpert": write_chexpert,
    "chexlocalize": write_chexlocalize,
    "vindr-cxr": write_vindr_cxr,
    "padchest": write_padchest,
    "brax": write_brax,
}

LAYOUTS: tuple[str, ...] = tuple(_WRITERS)

SMALLEST_IMAGE = 16
"""Below this, in pixels, a chest cannot be drawn."""


def synthesize(
    layout: str,
    output: Path,
    num_studies: int = 200,
    image_size: int = 256,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, int]:
    """Writes a synthetic corpus in the layout of a real one; the same arguments write the same bytes.

    From 60 studies on, every oddity of the layout occurs at least once. The folder appears when it is complete.

    Args:
        layout: one of `LAYOUTS`.
        output: the folder to write; it must be new or empty.
        num_studies: number of studies.
        image_size: height of the images, in pixels; frontal views are square.
        seed: seed of everything that is drawn.
        progress: show a progress bar.

    Returns: how many studies, images and oddities of each kind were written, by their names in plain words.
    """
    if layout not in _WRITERS:
        raise UserError(f"layout: {layout!r} is unknown; expected one of {', '.join(LAYOUTS)}")
    if num_studies < 1:
        raise UserError(f"num_studies: expected 1 or more, found {num_studies}")
    if image_size < SMALLEST_IMAGE:
        raise UserError(f"image_size: expected {SMALLEST_IMAGE} or more, found {image_size}")
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: exists and is not an empty folder; give the path of a new one")
    with written_folder(output) as unfinished:
        counts = _WRITERS[layout](SyntheticCorpus(num_studies, image_size, seed), unfinished, progress)
    return {"studies": counts["studies"], "images": counts["images"]} | dict(sorted(counts.items()))
