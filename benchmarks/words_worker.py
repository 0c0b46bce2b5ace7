"""Read pictures with RapidOCR 3 for benchmarks.words: a job on stdin, a JSON line per picture on stdout.

The job has `files` and `models`, further parameters of RapidOCR. A JSON line is a list over lines of text, each with
`characters` and `words`: lists of pairs of text and polygon (4 × 2 pixels). RapidOCR returns either, so each picture is
read twice.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    from rapidocr import RapidOCR

    job = json.load(sys.stdin)
    reader = RapidOCR(
        params={"Global.log_level": "error", "Global.use_cls": False, "Global.return_word_box": True, **job["models"]}
    )
    for file in job["files"]:
        words = read(reader, file, is_single=False)
        characters = read(reader, file, is_single=True)
        lines = [{"words": words[i], "characters": characters[i]} for i in range(min(len(words), len(characters)))]
        print(json.dumps(lines, ensure_ascii=False), flush=True)


def read(reader: Any, file: str, *, is_single: bool) -> list[list[tuple[str, list[list[float]]]]]:
    """Return the parts of each line, none if nothing was found."""
    result = reader(file, return_word_box=True, return_single_char_box=is_single)
    if result.txts is None:
        return []
    return [
        [(text, [[float(x), float(y)] for x, y in polygon]) for text, _, polygon in line]
        for line in result.word_results
    ]


if __name__ == "__main__":
    main()
