"""The result of `predict`: a mapping with PaddleX's keys that can print and save itself."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edge_ocr.config import PipelineConfig
from edge_ocr.core.files import write_file, write_files
from edge_ocr.core.report import explain_empty, format_json
from edge_ocr.core.types import BgrImage, Reading
from edge_ocr.errors import UsageError
from edge_ocr.paddlex import add_arrays, describe_result, describe_settings

if TYPE_CHECKING:
    from PIL import Image

# High enough that thin strokes of drawn text stay sharp.
JPEG_QUALITY = 92

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class OcrResult(Mapping[str, Any]):
    """The text read in one image.

    As a mapping it has the keys `input_path` (str or None), `dt_polys` (N × 4 × 2 whole pixels of the upright image,
    TL TR BR BL), `dt_scores`, `rec_text`, `rec_score` (N each, scores in [0, 1]); lists are in reading order and empty
    if there is no text. `page_angle` (0, 90, 180 or 270 degrees clockwise) is present if page orientation is used; the
    polygons of a turned page begin with the corner that is TL on the upright page. If words were requested, there are
    the keys of words that `Reading.describe` names. Results from files with several pages also have `page_index`,
    from 0.

    PaddleX 3's keys, such as `rec_texts` and `rec_boxes`, can be read, too, but are not listed by iteration.
    """

    def __init__(
        self,
        reading: Reading,
        image: BgrImage,
        input_path: str | None,
        page_index: int | None,
        name: str,
        config: PipelineConfig | None = None,
    ) -> None:
        """Keep a reading; without the pipeline's `config`, PaddleX's keys about settings are missing."""
        self.reading = reading
        self.image = image
        """The upright picture that was read, uint8 H × W × 3 BGR."""
        self.page_index = page_index
        """From 0 in a file with several pages; None in a file with one."""
        self.name = name
        """File name, without suffix, for results saved into a folder."""
        self._values = reading.describe(input_path)
        if page_index is not None:
            self._values["page_index"] = page_index
        self._settings = {} if config is None else describe_settings(config)

    def __getitem__(self, key: str) -> Any:
        return self._values[key] if key in self._values else self._paddlex_values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<OcrResult {self['input_path'] or self.name}: {len(self.reading.lines)} lines>"

    @property
    def timings_ms(self) -> dict[str, float]:
        """Milliseconds by stage: decode, page_orientation and orientation (if used), detection, crop, recognition."""
        return dict(self.reading.timings_ms)

    @functools.cached_property
    def _paddlex_values(self) -> dict[str, Any]:
        return add_arrays(describe_result(self._values, self._settings), self._values, self.image)

    @property
    def json(self) -> dict[str, Any]:
        """The result as JSON values under PaddleX 3's keys, in `{"res": …}`; `to_json` has edge-ocr's own."""
        return {"res": describe_result(self._values, self._settings)}

    @property
    def img(self) -> dict[str, Image.Image]:
        """The picture that `save_to_img` saves, as `{"ocr_res_img": …}`, an RGB Pillow image."""
        from PIL import Image

        return {"ocr_res_img": Image.fromarray(np.ascontiguousarray(self._draw()[:, :, ::-1]))}

    def to_json(self, *, indent: int | None = None, ensure_ascii: bool = False) -> str:
        """Return the mapping as JSON; with `indent`, each polygon, score or text has its own line."""
        return format_json(self._list_values(), indent=indent, ensure_ascii=ensure_ascii)

    def print(self, format_json: bool = True, indent: int | None = 4, ensure_ascii: bool = False) -> None:
        """Write the mapping to stdout as JSON, or as a Python dict on one line with `format_json=False`."""
        text = self.to_json(indent=indent, ensure_ascii=ensure_ascii) if format_json else str(self._list_values())
        sys.stdout.write(text + "\n")

    def save_to_json(self, save_path: str | Path, indent: int | None = 4, ensure_ascii: bool = False) -> Path:
        """Write the mapping to a `.json` file, or into a folder as `<name>_res.json`; return the file.

        Raises UsageError if it cannot be written.
        """
        path = self._place(save_path, (".json",), "_res.json")
        write_file(path, self._encode_json(indent, ensure_ascii))
        return path

    def save_to_img(self, save_path: str | Path) -> Path:
        """Write the picture with its boxes, next to the texts, to an image file or into a folder as `<name>_res.jpg`.

        Returns the file. Raises UsageError if it cannot be written.
        """
        path = self._place(save_path, IMAGE_SUFFIXES, "_res.jpg")
        write_file(path, self._encode_picture(path.suffix))
        return path

    def save_all(self, save_path: str | Path) -> None:
        """Write what `save_to_json` and `save_to_img` do into a folder; raises UsageError if that fails."""
        self.save_both(save_path)

    def save_both(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `<name>_res.json` and `<name>_res.jpg` into a folder, both or neither; return them.

        Raises UsageError if one cannot be written; existing files are then unchanged.
        """
        json_path, picture_path = Path(folder, f"{self.name}_res.json"), Path(folder, f"{self.name}_res.jpg")
        contents = {json_path: self._encode_json(4, False), picture_path: self._encode_picture(".jpg")}
        write_files(contents, "free some space, or give another --save-path")
        return json_path, picture_path

    def _list_values(self) -> dict[str, Any]:
        """Return what is printed and saved."""
        return self._values

    def _encode_json(self, indent: int | None, ensure_ascii: bool) -> bytes:
        text = self.to_json(indent=indent, ensure_ascii=ensure_ascii) + "\n"
        # File names that are not UTF-8 have surrogates in Python; backslash escapes make them valid JSON.
        return text.encode("utf-8", "backslashreplace")

    def _draw(self) -> BgrImage:
        from edge_ocr.drawing import draw_result, trace_words

        lines = self.reading.lines
        return draw_result(
            self.image,
            [line.polygon for line in lines],
            [line.text for line in lines],
            [line.rec_score for line in lines],
            trace_words(self.reading),
        )

    def _encode_picture(self, suffix: str) -> bytes:
        # Other encoders print a warning about this option.
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix.lower() in (".jpg", ".jpeg") else []
        _, content = cv2.imencode(suffix, self._draw(), options)
        return content.tobytes()

    def _place(self, save_path: str | Path, suffixes: tuple[str, ...], ending: str) -> Path:
        path = Path(save_path)
        try:
            is_folder, is_file = path.is_dir(), path.is_file()
        except OSError as error:  # a name too long, a folder that may not be entered
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
        if path.suffix.lower() in suffixes and not is_folder:
            return path
        if is_file:
            raise UsageError(
                f"cannot save into {path}: it is a file", f"give a folder, or a file that ends in {' '.join(suffixes)}"
            )
        return path / (self.name + ending)


def explain_empty_result(result: OcrResult, config: PipelineConfig) -> str:
    """Return a line that says what to try for a result without text; `config` is the pipeline's."""
    path = result["input_path"]
    label = "standard input" if path == "-" else path or result.name
    return explain_empty(
        label if result.page_index is None else f"page {result.page_index + 1} of {label}",
        (result.image.shape[0], result.image.shape[1]),
        result.reading,
        config.detection,
        config.recognition.text_score,
        has_orientation=config.use_orientation,
    )
