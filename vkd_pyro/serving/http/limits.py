"""How much a request may ask, and how many may wait."""

from dataclasses import dataclass

from vkd_pyro.data.images.image_transform import MAX_PIXELS
from vkd_pyro.prediction.studies import MOST_IMAGES
from vkd_pyro.utils.errors import check_count, check_number


@dataclass(frozen=True)
class Limits:
    """Limits of a service.

    Attributes:
        queue: requests that are uploaded, wait or are computed at once; more are told to come again.
        batch_size: images computed together, about.
        answer_seconds: from the upload's end on; a request that waits longer is told to come again.
        upload_seconds: that a request's body may take to arrive.
        max_bytes: of a request's body.
        max_pixels: of all images of a request together.
        max_images: of a request.
        max_queries: of a request.
    """

    queue: int = 64
    batch_size: int = 32
    answer_seconds: float = 60.0
    upload_seconds: float = 30.0
    max_bytes: int = 20 << 20
    max_pixels: int = MAX_PIXELS
    max_images: int = MOST_IMAGES
    max_queries: int = 8

    def __post_init__(self) -> None:
        check_count("--queue", self.queue)
        check_count("--batch_size", self.batch_size)
        check_number("--answer_seconds", self.answer_seconds, above=0)
        check_number("--upload_seconds", self.upload_seconds, above=0)
