"""How large an image is, from its header alone."""

from pathlib import Path

from PIL import Image

from vkd_pyro.data.images.dicom.file import blame, load, require_pydicom
from vkd_pyro.data.images.dicom.header import is_dicom
from vkd_pyro.data.images.files import opened
from vkd_pyro.data.images.quiet import quiet_readers
from vkd_pyro.data.images.raster import READABLE_FORMATS
from vkd_pyro.utils.errors import UserError


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of an image as it is stored, in pixels.

    Raises:
        UserError: the file is missing, damaged, or neither a PNG, a JPEG nor a DICOM file.
    """
    if is_dicom(path):
        require_pydicom(path)
        with blame(path, "header"):
            dataset = load(path, ("Rows", "Columns"))
            return int(dataset.Rows), int(dataset.Columns)
    try:
        with quiet_readers(), opened(path) as file, Image.open(file, formats=READABLE_FORMATS) as image:
            return image.height, image.width
    except UserError:
        raise
    except Exception as error:  # PIL names no classes of exception for damaged bytes and raises nearly any
        raise UserError(f"{path}: unreadable image; expected a whole PNG, JPEG or DICOM file") from error
