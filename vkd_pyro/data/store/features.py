"""Features of the images of a store: what a frozen encoder makes of them, and of augmented versions of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from vkd_pyro.data.images.transforms import Augmentation
from vkd_pyro.data.preparation import FeatureExtractor
from vkd_pyro.data.store.layout import Block, check_content, open_arrow, place_of, shard_path, write_arrow
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import describe

IMAGES_AT_ONCE = 32


@dataclass(frozen=True)
class ImageFeatures:
    """What features are made, and how many.

    Attributes:
        extractor: makes them, on the device where it is.
        versions: V, of each image: itself, and V - 1 augmented ones.
        augmentation: makes those.

    Raises:
        UserError: no version at all.
    """

    extractor: FeatureExtractor
    versions: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.versions < 1:
            raise UserError(f"--features: found {self.versions} versions of an image, expected at least 1")

    @property
    def preparation(self) -> dict[str, Any]:
        """What they depend on, for JSON."""
        augmentation = describe(self.augmentation) if self.versions > 1 else None
        return {"extractor": self.extractor.feature_preparation, "versions": self.versions, "augmented": augmentation}

    def of(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """Args: uint8 [B, 1, size, size]; number of the first image. Returns: float16 [B, V, F]."""
        pixels = images.float() / 255
        versions = [pixels]
        for version in range(1, self.versions):
            seeds = [(seed + row) * self.versions + version for row in range(len(pixels))]
            versions.append(torch.stack([self.augmentation(*pair) for pair in zip(pixels, seeds, strict=True)]))
        return torch.stack([self.extractor.extract(part).half().cpu() for part in versions], 1)


def write_features(blocks: Iterable[Block[Any]], size: int, features: ImageFeatures) -> None:
    """Writes shards of features, from those of the images, a row an image; null if unreadable."""
    for block in blocks:
        check_content(shard := shard_path(block.folder, block.number, "images"))
        table = open_arrow(shard, "study", "pixels")
        pixels = [None if one is None else torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in
                  table["pixels"].to_pylist()]  # fmt: skip
        readable = [row for row, one in enumerate(pixels) if one is not None]
        made: list[bytes | None] = [None] * len(pixels)
        width = 0  # of a shard without a readable image
        for start in range(0, len(readable), IMAGES_AT_ONCE):
            rows = readable[start : start + IMAGES_AT_ONCE]
            images = torch.stack([pixels[row].view(1, size, size) for row in rows])  # type: ignore[union-attr]
            found = features.of(images, seed=(block.number << 20) + rows[0])
            if not found.isfinite().all():
                raise UserError(
                    f"{block.folder}: a feature of an image is not a finite float16; take another image encoder"
                )
            for row, one in zip(rows, found, strict=True):
                made[row] = one.numpy().tobytes()
            width = found.shape[-1]
        columns = {"study": table["study"].combine_chunks(), "features": pa.array(made, pa.large_binary())}
        metadata = {"versions": str(features.versions), "width": str(width)}
        write_arrow(block.path, pa.table(columns).replace_schema_metadata(metadata))


class StoredFeatures(Sequence[list[NDArray[np.float16]]]):
    """Features of the images of each study, read from mapped files when asked for: float16 [V, F] an image."""

    def __init__(self, folder: Path, rows: list[int]) -> None:
        self.folder, self.rows = folder, rows
        self._shards: dict[int, dict[int, list[NDArray[np.float16]]]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        row = self.rows[index]
        number, _ = place_of(row)
        if number not in self._shards:
            self._shards[number] = _of_studies(shard_path(self.folder, number, "features"))
        return self._shards[number][row]

    def __reduce__(self) -> Any:
        return StoredFeatures, (self.folder, self.rows)


def _of_studies(path: Path) -> dict[int, list[NDArray[np.float16]]]:
    """Features of the readable images of each study of a shard; views of the mapped file."""
    check_content(path)
    table = open_arrow(path, "study", "features")
    shape = tuple(int(table.schema.metadata[name]) for name in (b"versions", b"width"))
    found: dict[int, list[NDArray[np.float16]]] = {}
    for study, features in zip(table["study"].to_pylist(), table["features"], strict=True):
        if features.is_valid:
            found.setdefault(study, []).append(np.frombuffer(features.as_buffer(), np.float16).reshape(shape))
    return found
