"""How much is computed at a time, where memory and caches decide; what is computed does not depend on it."""

DRAWS_AT_ONCE = 8192
"""Draws of z, over all images, for which a likelihood is asked at once: some 50 MB at a width of 1,536."""

PIXELS_AT_ONCE = 4 * 224**2
"""Bytes of the images that a CPU encodes at a time, so that its caches hold them. DenseNet-121 takes half
the time that it takes for 32 images at once."""


def images_at_once(height: int, width: int) -> int:
    """How many images of this size a CPU encodes at a time."""
    return max(1, PIXELS_AT_ONCE // (height * width))
