"""What users reported about models and their dictionaries, on files that are next to the project, not in it.

The folder is `EDGE_OCR_TEST_DATA`, or `../shared/data` of the repository.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_ocr import create_pipeline

VARIABLE = "EDGE_OCR_TEST_DATA"
DATA = Path(os.environ.get(VARIABLE) or Path(__file__).parents[3] / "shared" / "data")

pytestmark = [
    pytest.mark.skipif(not (DATA / "reports" / "README.md").is_file(), reason=f"no shared test data ({VARIABLE})"),
    pytest.mark.slow,
]


def test_a_dictionary_with_a_character_twice_is_the_list_in_inference_yml(
    write_recognizer, default_models, examples, tmp_path
):
    dictionary = (DATA / "reports" / "dup_dict.txt").read_bytes()
    characters = dictionary.decode().removesuffix("\n").split("\n")
    twice = max(i for i, text in enumerate(characters) if text in characters[:i])
    folder = write_recognizer(tmp_path / "rec", classes=96, dark_class=twice + 1, dictionary=dictionary)
    pipeline = create_pipeline(overrides={"Pipeline.text_rec_model": str(folder)})
    (result,) = pipeline.predict(examples / "sign.png")
    assert len(result["rec_text"]) == 4
    assert set("".join(result["rec_text"])) == {characters[twice]}

    (folder / "dict.txt").unlink()
    content = {"PostProcess": {"name": "CTCLabelDecode", "character_dict": characters}}
    (folder / "inference.yml").write_text(json.dumps(content))
    other = create_pipeline(overrides={"Pipeline.text_rec_model": str(folder)})
    charsets = [each._readers[0].recognizer.charset for each in (pipeline, other)]
    assert charsets[0] == charsets[1]
