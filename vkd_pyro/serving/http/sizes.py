"""How many pixels an image file has, by its header: known before anything is decoded."""

from pathlib import Path

from vkd_pyro.data.images.codestream import read_codestream
from vkd_pyro.data.images.dicom.file import blame, load
from vkd_pyro.data.images.dicom.header import is_dicom
from vkd_pyro.data.images.files import opened
from vkd_pyro.data.images.png import SIGNATURE
from vkd_pyro.utils.errors import UserError


def pixels_of(path: Path) -> int:
    """Rows times columns; 0 where the header cannot be read, which whoever decodes the file will say."""
    try:
        if is_dicom(path):
            with blame(path, "header"):
                header = load(path, ("Rows", "Columns"))
                return max(0, int(header.Rows)) * max(0, int(header.Columns))
        with opened(path) as file:
            content = file.read()
        if content.startswith(SIGNATURE):
            return int.from_bytes(content[16:20], "big") * int.from_bytes(content[20:24], "big")
        found = read_codestream(path, content)
        return found.width * found.height if found else 0
    except UserError:
        return 0
