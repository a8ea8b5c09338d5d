"""PNG and JPEG files as gray, upright; what would take too long is refused before it is decoded."""

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from vkd_pyro.data.images.codestream import end_of_jpeg, read_codestream
from vkd_pyro.data.images.files import check_bytes, opened
from vkd_pyro.data.images.png import (
    COLOUR_ALPHA,
    GRAY,
    GRAY_ALPHA,
    SIGNATURE,
    check_rows,
    chunks,
    deep_gray,
    deep_samples,
    depth_and_color,
)
from vkd_pyro.data.images.quiet import quiet_readers
from vkd_pyro.utils.errors import UserError, one_line

READABLE_FORMATS = ("PNG", "JPEG")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what sets the image upright."""
FILLING = b"\x5a" * 64
"""What a decoder reads as some more of a picture, if it still waits for it."""


def is_raster(head: bytes) -> bool:
    """Whether a file that begins so is a PNG or a JPEG."""
    return head.startswith((SIGNATURE, b"\xff\xd8\xff"))


def read_raster(path: Path, max_pixels: int, least_side: int | None = None) -> Image.Image:
    """A PNG or JPEG file as gray bytes (mode L); upright, as any viewer shows it. Transparency is ignored.

    Args:
        path: of the file.
        max_pixels: a larger image is refused before it is decoded.
        least_side: a JPEG is decoded at a half, quarter or eighth of its size where both sides stay as long as this, by
            leaving out frequencies of its cosine transform; None for whole.

    Raises:
        UserError: the file is missing, truncated, of another type, too large, or has its picture in its transparency.
    """
    with opened(path) as file:
        content = file.read()
    try:
        with quiet_readers(), Image.open(io.BytesIO(_checked(path, content)), formats=READABLE_FORMATS) as image:
            if image.width * image.height > max_pixels:
                found = f"{image.width} x {image.height} pixels, more than the limit of {max_pixels:,}"
                raise UserError(f"{path}: {found}; make it smaller")
            check_bytes(path, len(content), image.width * image.height)
            if least_side is not None:
                image.draft(None, (least_side, least_side))  # nothing for a PNG
            gray = _gray(path, image, content)
            if image.format != "PNG":
                _refuse_early_end(path, gray, content, least_side)
            return _upright(gray, image)
    except UserError:
        raise
    except Image.DecompressionBombError as error:  # PIL's own limit is higher
        raise UserError(f"{path}: more than the limit of {max_pixels:,} pixels; make it smaller") from error
    except Exception as error:  # PIL names no classes of exception for damaged bytes and raises nearly any
        unknown = isinstance(error, UnidentifiedImageError)
        found = "not a PNG or JPEG" if unknown else f"{type(error).__name__}: {one_line(error)[:200]}"
        raise UserError(
            f"{path}: unreadable or truncated image ({found}); expected a whole PNG, JPEG or DICOM file"
        ) from error


def _checked(path: Path, content: bytes) -> bytes:
    """The content; `UserError` where even to look through its parts would take too long."""
    if content.startswith(SIGNATURE):
        for _ in chunks(path, content):
            pass
    else:
        read_codestream(path, content)
    return content


def _gray(path: Path, image: Image.Image, content: bytes) -> Image.Image:
    parts = list(chunks(path, content)) if image.format == "PNG" else []
    depth, color = depth_and_color(parts)
    if parts:
        check_rows(path, parts, image)
    if depth == 16 and image.mode.startswith("I") == (color == GRAY):  # a second header may say something else
        samples = np.asarray(image)[None] if color == GRAY else deep_samples(content, color)
        if color in (GRAY_ALPHA, COLOUR_ALPHA):
            _refuse_picture_in_alpha(path, samples[:-1], samples[-1])
            samples = samples[:-1]
        return Image.fromarray(deep_gray(samples, parts))
    if image.has_transparency_data:
        image = image.convert("RGBA")  # by way of which PIL does not warn where a palette has transparency
        *colours, alpha = np.moveaxis(np.asarray(image), -1, 0)
        _refuse_picture_in_alpha(path, np.stack(colours), alpha)
    return image.convert("L")


def _refuse_early_end(path: Path, gray: Image.Image, content: bytes, least_side: int | None) -> None:
    """Raises `UserError` where a JPEG was cut and given an end: of a whole one, no byte more before the end is read.

    What it has no data for a decoder leaves middle gray, and only an image that ends so is decoded again.
    """
    if (np.asarray(gray)[-1, -8:] != 128).any():
        return
    end = end_of_jpeg(content)
    with Image.open(io.BytesIO(content[:end] + FILLING + content[end:]), formats=READABLE_FORMATS) as longer:
        if least_side is not None:
            longer.draft(None, (least_side, least_side))
        if longer.convert("L").tobytes() != gray.tobytes():
            raise UserError(f"{path}: truncated image (a JPEG whose data end early); fetch it again")


def _refuse_picture_in_alpha(path: Path, colours: np.ndarray, alpha: np.ndarray) -> None:
    """Raises `UserError`: nobody can say whether a picture in transparency alone is light on dark."""
    if (colours == colours[:, :1, :1]).all() and alpha.min() < alpha.max():
        raise UserError(
            f"{path}: one colour, and the picture in its transparency alone; save it as gray, without transparency"
        )


def _upright(gray: Image.Image, image: Image.Image) -> Image.Image:
    """Turned as the image's EXIF says. A hospital's exports have none; a photograph of a film may lie on its side."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # PIL raises nearly any; EXIF that cannot be read says nothing of the pixels
        return gray
    return gray.transpose(TURNS[orientation]) if orientation in TURNS else gray
