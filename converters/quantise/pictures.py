"""The pictures that integers are chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.bundle.pictures import find_pictures_folder
from converters.verify.pictures import LABELS, Picture, list_pictures
from edge_ocr.config import InputSettings
from edge_ocr.core.types import BgrImage
from edge_ocr.errors import InputError

# Decoded pictures stay in memory.
_MAX_BYTES = 2**31


@dataclass(frozen=True)
class Calibration:
    """Decoded pictures, with their texts if these are known."""

    pictures: tuple[Picture, ...]
    are_shipped: bool

    @property
    def images(self) -> list[BgrImage]:
        """Return the decoded pictures."""
        return [picture.image for picture in self.pictures]

    @property
    def count(self) -> str:
        """Return how many pictures there are, for messages."""
        number = len(self.pictures)
        return f"{number} {'shipped ' if self.are_shipped else ''}picture{'s' if number != 1 else ''}"

    @property
    def label(self) -> str:
        """Return what the manifest says of them."""
        return "shipped" if self.are_shipped else f"{len(self.pictures)} given"


def read_calibration(paths: Sequence[Path], settings: InputSettings) -> Calibration:
    """Read pictures and folders; without any, the pictures that ship with edge-ocr.

    A folder's gt.jsonl gives the texts of its pictures, as far as it has them; a gt.jsonl by itself names its pictures.

    Raises InputError if a picture or its labels cannot be read, or the pictures need over 2 GB of memory.
    """
    pictures: list[Picture] = []
    size_bytes = 0
    for path in paths or (find_pictures_folder(),):
        truth = path / LABELS if path.is_dir() else path
        has_truth = truth.suffix == ".jsonl" and truth.is_file()
        images = () if has_truth and not path.is_dir() else (path,)
        for picture in list_pictures(images, truth if has_truth else None, is_slow=False, settings=settings):
            size_bytes += picture.image.nbytes
            if size_bytes > _MAX_BYTES:
                raise InputError(
                    f"the calibration pictures need over {_MAX_BYTES / 2**30:.0f} GB",
                    "give fewer (--calibrate): some tens of pages with different texts suffice",
                )
            pictures.append(picture)
    return Calibration(tuple(pictures), not paths)
