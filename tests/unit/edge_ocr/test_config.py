"""Pipeline files: what is accepted and refused, and where each value came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edge_ocr.config import PipelineConfig, find_config, find_config_folder, load_config, parse_setting
from edge_ocr.errors import ConfigError, EdgeOcrError, UsageError


@pytest.fixture
def write(tmp_path):
    """Write a pipeline file, return its path."""

    def write_file(text: str | bytes, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


def refuse(path: Path | str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert "\n" not in error.value.message
    return error.value


def refuse_override(key: str, value: object) -> EdgeOcrError:
    with pytest.raises(UsageError) as error:
        load_config("OCR", {key: value}, {key: "--set"})
    assert "\n" not in error.value.message
    return error.value


@pytest.mark.parametrize("path", sorted(find_config_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_files_load_by_name_and_by_path(path):
    assert load_config(path.stem).values == load_config(path).values


def test_there_is_a_default_pipeline():
    assert find_config("OCR").name == "OCR.yaml"


def test_tutorial_file_loads_as_it_is(write):
    path = write(
        "Global:\n  pipeline_name: OCR\n\n"
        "Pipeline:\n  text_det_model: PP-OCRv4_mobile_det\n  text_rec_model: PP-OCRv4_mobile_rec\n"
        '  text_rec_batch_size: 1\n  device: "cpu"\n'
    )
    config = load_config(path)
    assert (config.det_model, config.rec_model, config.device) == ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "cpu")
    assert config.values == {**load_config("OCR").values, "Pipeline.text_rec_batch_size": 1}


def test_defaults_are_the_published_constants():
    config = load_config()
    detection = config.detection
    assert (detection.limit_side_len, detection.limit_type) == (960, "max")
    assert (detection.bin_threshold, detection.box_threshold, detection.unclip_ratio) == (0.3, 0.6, 1.5)
    assert detection.max_candidates == 1000
    assert detection.windows is True
    assert detection.mean == (0.485, 0.456, 0.406)
    assert detection.std == (0.229, 0.224, 0.225)
    recognition = config.recognition
    assert (recognition.image_height, recognition.min_width, recognition.text_score) == (48, 320, 0.5)
    assert config.use_orientation is False
    assert config.threads is None
    assert config.dictionary_path is None


FULL = """
Global: {pipeline_name: OCR}
Pipeline: {text_det_model: d/, text_rec_model: r/, text_line_orientation_model: c/, use_text_line_orientation: true,
  lang: null, page_orientation_model: p/, use_page_orientation: true, text_rec_batch_size: 7, device: "gpu:1"}
Detection: {limit_side_len: 736, limit_type: min, thresh: 0.2, box_thresh: 0.5, unclip_ratio: 2, max_candidates: 9,
  mean: [0.5, 0.4, 0.3], std: [0.1, 0.2, 0.3], windows: false}
Recognition: {character_dict_path: keys.txt, image_shape: [3, 32, 100], text_score: 0, direction: rtl,
  space_weight: 10, return_words: chars, cjk_words: run}
Orientation: {image_shape: [3, 80, 160], thresh: 0.7}
PageOrientation: {resize_short: 90, image_shape: [3, 64, 80], mean: [0.5, 0.4, 0.3], std: [0.1, 0.2, 0.3], thresh: 0.6}
Runtime: {engine: paddle, threads: 3, precision: bf16}
Input: {max_pixels: 1000, max_file_mb: 3, max_download_mb: 2, download_timeout_s: 1.5}
"""


def test_every_key_reaches_its_setting(write):
    config = load_config(write(FULL))
    assert (config.det_model, config.rec_model, config.cls_model) == ("d/", "r/", "c/")
    assert (config.use_orientation, config.device) == (True, "gpu:1")
    assert (config.engine, config.threads) == ("paddle", 3)
    assert config.dictionary_path == Path("keys.txt")
    detection = config.detection
    assert (detection.limit_side_len, detection.limit_type, detection.max_candidates) == (736, "min", 9)
    assert (detection.bin_threshold, detection.box_threshold, detection.unclip_ratio) == (0.2, 0.5, 2.0)
    assert (detection.mean, detection.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert detection.windows is False
    recognition = config.recognition
    assert (recognition.image_height, recognition.min_width) == (32, 100)
    assert (recognition.batch_size, recognition.text_score) == (7, 0.0)
    assert (recognition.direction, recognition.space_weight) == ("rtl", 10)
    assert (recognition.return_words, recognition.cjk_words) == ("chars", "run")
    orientation = config.orientation
    assert (orientation.image_height, orientation.image_width, orientation.threshold) == (80, 160, 0.7)
    assert (config.page_model, config.use_page_orientation) == ("p/", True)
    page = config.page_orientation
    assert (page.resize_short, page.image_height, page.image_width, page.threshold) == (90, 64, 80, 0.6)
    assert (page.mean, page.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    limits = config.input
    assert (limits.max_pixels, limits.download_timeout_s) == (1000, 1.5)
    assert (limits.max_file_bytes, limits.max_download_bytes) == (3 * 2**20, 2 * 2**20)
    # The file above has every key.
    assert set(config.origins.values()) == {str(find_config(write(FULL)))}


@pytest.mark.parametrize(
    ("file", "overrides", "windows"),
    [
        ("Detection: {limit_side_len: 960}", {}, False),
        ("Detection: {limit_type: long}", {}, False),
        ("Pipeline: {}", {"Detection.limit_side_len": 1280}, False),
        ("Pipeline: {}", {"Detection.thresh": 0.2}, True),
        ("Detection: {limit_side_len: 960, windows: true}", {}, True),
        ("Detection: {limit_side_len: 960}", {"Detection.windows": True}, True),
        # Options override the file, which may be a dump of every value.
        ("Detection: {limit_side_len: 960, windows: true}", {"Detection.limit_side_len": 1280}, False),
        ("Pipeline: {}", {"Detection.limit_side_len": 1280, "Detection.windows": True}, True),
    ],
)
def test_a_side_limit_that_is_set_is_obeyed(write, file, overrides, windows):
    config = load_config(write(file), overrides)
    assert config.detection.windows is windows
    # A model's own limit is not the user's; a later setting is.
    later = load_config(write("Pipeline: {}")).with_model_settings({"Detection.limit_side_len": 736}, "inference.yml")
    assert later.detection.windows is True
    assert later.with_values({"Recognition.text_score": 0}, "derive").detection.windows is True
    derived = later.with_values({"Detection.limit_side_len": 736}, "derive")
    assert derived.detection.windows is False
    assert derived.origins["Detection.windows"] == "derive, which sets Detection.limit_side_len"


@pytest.mark.parametrize("text", ["Pipeline: {}", FULL], ids=["defaults", "full"])
def test_dump_loads_to_the_same_values(write, text):
    config = load_config(write(text))
    again = load_config(write(yaml.safe_dump(config.dump()), "again.yml"))
    assert again.values == config.values


def test_empty_section_is_accepted(write):
    assert load_config(write("Pipeline:\nDetection:\n")).values == load_config().values


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("Detection: {tresh: 0.2}", "unknown key Detection.tresh", "did you mean Detection.thresh?"),
        ("Detection: {box_threshold: 0.2}", "unknown key Detection.box_threshold", "did you mean Detection.box_thresh"),
        ("Pipeline: {text_score: 0.2}", "unknown key Pipeline.text_score", "did you mean Recognition.text_score?"),
        ("Pipeline: {Device: cpu}", "unknown key Pipeline.Device", "did you mean Pipeline.device?"),
        ("Orientation: {tresh: 0.2}", "unknown key Orientation.tresh", "did you mean Orientation.thresh?"),
        ("Detection: {zzzzzz: 1}", "unknown key Detection.zzzzzz", "Detection.thresh"),
        ("detection: {thresh: 0.2}", "unknown section detection", "did you mean Detection?"),
        ("Pipelines: {}", "unknown section Pipelines", "did you mean Pipeline?"),
        ("xyz: {}", "unknown section xyz", "Global, Pipeline, Detection"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(write, text, message, hint):
    path = write(text)
    error = refuse(path)
    assert error.message == f"{path}: {message}"
    assert hint in error.hint


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("Global.pipeline_name", "doc", "one of OCR"),
        ("Pipeline.text_det_model", "''", "a non-empty text"),
        ("Pipeline.text_det_model", "3", "a non-empty text"),
        ("Pipeline.device", "null", "a non-empty text"),
        ("Pipeline.device", "0", "a non-empty text"),
        ("Pipeline.device", "tpu", "a device "),
        ("Pipeline.device", "'cpu:0'", "a device "),
        ("Pipeline.device", "'gpu:1,1'", "a device (device 'gpu:1,1' "),
        ("Pipeline.use_text_line_orientation", "1", "true or false"),
        ("Pipeline.use_text_line_orientation", "'true'", "true or false"),
        ("Pipeline.text_rec_batch_size", "0", "a whole number from 1 to 256"),
        ("Pipeline.text_rec_batch_size", "257", "a whole number from 1 to 256"),
        ("Pipeline.text_rec_batch_size", "1.0", "a whole number from 1 to 256"),
        ("Pipeline.text_rec_batch_size", "true", "a whole number from 1 to 256"),
        ("Detection.limit_side_len", "31", "a whole number from 32 to 4000"),
        ("Detection.limit_side_len", "4001", "a whole number from 32 to 4000"),
        ("Detection.limit_side_len", "'960'", "a whole number from 32 to 4000"),
        ("Detection.limit_type", "both", "one of max, min, long"),
        ("Detection.limit_type", "[max]", "one of max, min, long"),
        ("Detection.thresh", "-0.1", "a number from 0 to 1"),
        ("Detection.thresh", "1.01", "a number from 0 to 1"),
        ("Detection.thresh", ".nan", "a number from 0 to 1"),
        ("Detection.thresh", ".inf", "a number from 0 to 1"),
        ("Detection.thresh", "yes", "a number from 0 to 1"),
        ("Detection.unclip_ratio", "0", "a number above 0 to 10"),
        ("Detection.mean", "[0.5, 0.5]", "a list of three numbers"),
        ("Detection.mean", "0.5", "a list of three numbers"),
        ("Detection.mean", "[0.5, 0.5, x]", "a list of three, each a number from 0 to 1"),
        ("Detection.std", "[0.5, 0, 0.5]", "a list of three, each a number above 0 to 1"),
        ("Recognition.image_shape", "[1, 48, 320]", "a list [3, height, width]"),
        ("Recognition.image_shape", "[3, 48]", "a list [3, height, width]"),
        ("Recognition.image_shape", "[3, 48, -1]", "a list [3, height, width]"),
        ("Recognition.image_shape", "[3, 7, 320]", "a list [3, height, width]"),
        ("Recognition.character_dict_path", "5", "a non-empty text, or null"),
        ("Runtime.engine", "tensorrt", "one of auto, openvino, paddle, onnxruntime"),
        ("Runtime.precision", "int4", "one of f32, bf16, f16, int8, auto"),
        ("Runtime.threads", "0", "a whole number from 1 to 1024, or null"),
        ("Input.max_file_mb", "0", "a whole number from 1 to 16384"),
        ("Input.download_timeout_s", "0", "a number above 0 to 3600"),
    ],
)
def test_unfit_values_are_refused_with_file_key_and_what_was_expected(write, key, value, expected):
    section, name = key.split(".")
    path = write(f"{section}: {{{name}: {value}}}")
    error = refuse(path)
    assert error.message.startswith(f"{path}: {key}: expected {expected}")
    assert f"got {yaml.safe_load(value)!r}" in error.message


@pytest.mark.parametrize("value", [0, 1, 0.3])
def test_bounds_belong_to_the_range(write, value):
    assert load_config(write(f"Detection: {{thresh: {value}}}")).detection.bin_threshold == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Pipeline: [1", ":1: not valid YAML"),
        ("Pipeline:\n  device: cpu\n device: x", "not valid YAML"),
        ("Pipeline:\n  device: cpu\n  device: gpu\n", ":3: not valid YAML: key 'device' "),
        ("Pipeline: {}\nPipeline: {}\n", ":2: not valid YAML: key 'Pipeline' "),
        ("Pipeline: {}\n---\nPipeline: {}\n", "not valid YAML"),
        ("1: {}", "key 1 "),
        ("? [a]\n: b", "['a']"),
        ("Pipeline: {device: !!python/object/apply:os.getcwd []}", "not valid YAML"),
        ("Pipeline: {device: 2024-99-99}", "not valid YAML: ValueError: month"),
        ("Pipeline: {text_rec_batch_size: !!int many}", "not valid YAML"),
        ("Pipeline: " + "[" * 5000, "not valid YAML"),
        ("Pipeline: {device: \x07}", "not valid YAML"),
        (b"\xff\xfe\xff", "utf-8"),
        ("", "expected sections such as Pipeline:, got NoneType"),
        ("OCR", "expected sections such as Pipeline:, got str"),
        ("- Pipeline", "expected sections such as Pipeline:, got list"),
        ("Pipeline: cpu", "Pipeline: expected keys with values, got 'cpu'"),
    ],
)
def test_invalid_pipeline_files_are_refused(write, text, reason):
    path = write(text)
    error = refuse(path)
    assert error.message.startswith(str(path))
    assert reason in error.message


@pytest.mark.parametrize("place", ["  mean: *b8", "  thresh: *b8", "  ? [*b8]\n  : 1"], ids=["list", "number", "key"])
def test_aliases_that_stand_for_gigabytes_make_no_long_message(write, place):
    # 10⁹ texts when expanded.
    levels = ["- &b0 [" + ", ".join("a" * 10) + "]"]
    levels += [f"- &b{i} [" + ", ".join([f"*b{i - 1}"] * 10) + "]" for i in range(1, 9)]
    path = write("Detection:\n  std:\n" + "".join(f"    {level}\n" for level in levels) + place + "\n")
    assert len(refuse(path).message) < 2000
    # The bomb itself as a value, too.
    assert len(refuse(write("Pipeline: \n" + "".join(f"  {level}\n" for level in levels))).message) < 2000


@pytest.mark.parametrize("name", ["OCRR", "ocr.txt", "../OCR", "configs/OCR", "", "/"])
def test_unknown_pipeline_is_refused_with_the_shipped_ones(name):
    error = refuse(name)
    assert "unknown pipeline" in error.message
    assert "OCR" in error.hint


def test_missing_file_is_refused(tmp_path):
    assert "no such pipeline file" in refuse(tmp_path / "x.yaml").message
    (tmp_path / "folder.yml").mkdir()
    assert "no such pipeline file" in refuse(tmp_path / "folder.yml").message


def test_overrides_win_and_say_where_they_came_from(write):
    path = write("Detection: {thresh: 0.2, box_thresh: 0.4}")
    config = load_config(
        path,
        {"Detection.thresh": 0.1, "Runtime.threads": 2},
        {"Detection.thresh": "--set", "Runtime.threads": "--threads"},
    )
    assert config.detection.bin_threshold == 0.1
    assert config.origins["Detection.thresh"] == "--set"
    assert config.origins["Runtime.threads"] == "--threads"
    assert config.origins["Detection.box_thresh"] == str(path)
    assert config.origins["Detection.unclip_ratio"] == "default"


def test_values_of_a_shipped_file_name_that_file():
    assert load_config("OCR").origins["Pipeline.device"] == "configs/OCR.yaml"


def test_override_may_reset_a_value(write):
    path = write("Runtime: {threads: 4}")
    assert load_config(path, {"Runtime.threads": None}).threads is None


@pytest.mark.parametrize("value", [None, 2, "0.3"])
def test_unfit_override_names_its_option(value):
    error = refuse_override("Detection.thresh", value)
    assert error.message == f"--set: Detection.thresh: expected a number from 0 to 1, got {value!r}"
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("Pipeline.text_rec_model=2024", "2024"),
        ("Pipeline.text_det_model=on", "on"),
        ("Pipeline.text_det_model=1e-1", "1e-1"),
        ("Pipeline.text_det_model=null", "null"),
        ("Pipeline.text_det_model=models/#2=b: c", "models/#2=b: c"),
        ("Pipeline.text_det_model='2024'", "2024"),
        ("Recognition.character_dict_path=2024", "2024"),
        ("Recognition.character_dict_path=null", None),
        ("Recognition.character_dict_path=~", None),
        ("Recognition.character_dict_path='null'", "null"),
        ("Detection.thresh=1e-1", 0.1),
        ("Detection.thresh=.5", 0.5),
        ("Detection.thresh=1", 1.0),
        ("Detection.limit_side_len= 0960", 960),
        ("Input.download_timeout_s=1e2", 100.0),
        ("Detection.mean=[1e-1, .5, 0]", (0.1, 0.5, 0.0)),
        ("Recognition.image_shape=[3, 032, 320]", (3, 32, 320)),
        ("Runtime.threads=null", None),
        ("Runtime.threads=2", 2),
        ("Runtime.precision=bf16", "bf16"),
        ("Pipeline.use_text_line_orientation=true", True),
        ("Pipeline.use_text_line_orientation=off", False),
    ],
)
def test_a_setting_is_read_by_the_type_of_its_key(setting, value):
    key, parsed = parse_setting(setting, "--set")
    found = load_config("OCR", {key: parsed}).values[key]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("Detection.thresh=nan", "expected a number from 0 to 1, got nan"),
        ("Detection.thresh=low", "expected a number from 0 to 1, got 'low'"),
        ("Detection.thresh=", "expected a number from 0 to 1, got ''"),
        ("Detection.limit_side_len=1e3", "expected a whole number from 32 to 4000, got 1000.0"),
        # YAML 1.1 reads it as 90.
        ("Detection.max_candidates=1:30", "expected a whole number from 1 to 100000, got '1:30'"),
        ("Detection.mean=0.5", "expected a list of three numbers, got '0.5'"),
        ("Detection.mean=[a, 0, 0]", "expected a list of three, each a number from 0 to 1, got ['a', 0, 0]"),
        ("Detection.mean=[0, 0, 0", "expected a list of three numbers, got '[0, 0, 0'"),
        ("Pipeline.use_text_line_orientation=2", "expected true or false, got 2"),
        ("Pipeline.text_det_model=", "expected a non-empty text, got ''"),
    ],
)
def test_an_unfit_setting_is_refused(setting, words):
    key, value = parse_setting(setting, "--set")
    assert refuse_override(key, value).message == f"--set: {key}: {words}"


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(UsageError, match=r"^--set Detection\.thresh: expected KEY=VALUE$"):
        parse_setting("Detection.thresh", "--set")


def test_unknown_override_is_refused():
    error = refuse_override("Detection.tresh", 1)
    assert error.message == "--set: unknown key Detection.tresh"
    assert "Detection.thresh" in error.hint
    assert error.exit_code == 2


def test_invalid_device_is_refused_everywhere():
    for value in ("tpu", "cpu:0", "", None, 0):
        assert refuse_override("Pipeline.device", value).message.startswith("--set: Pipeline.device: expected a ")


@pytest.mark.parametrize(("given", "device"), [("gpu", "gpu:0"), ("GPU:1,0", "gpu:1,0"), (" cpu ", "cpu")])
def test_device_is_written_out(given, device):
    assert load_config("OCR", {"Pipeline.device": given}).device == device


def test_models_settings_replace_defaults_only(write):
    path = write("Detection: {thresh: 0.2}")
    config = load_config(path, {"Detection.box_thresh": 0.4})
    said = {"Detection.thresh": 0.11, "Detection.box_thresh": 0.12, "Detection.unclip_ratio": 1.9}
    changed = config.with_model_settings(said, "inference.yml of my_det")
    detection = changed.detection
    assert (detection.bin_threshold, detection.box_threshold, detection.unclip_ratio) == (0.2, 0.4, 1.9)
    assert changed.origins["Detection.unclip_ratio"] == "inference.yml of my_det"
    assert changed.origins["Detection.thresh"] == str(path)
    # The first is unchanged.
    assert config.detection.unclip_ratio == 1.5


@pytest.mark.parametrize("settings", [{"Detection.thresh": 3}, {"Detection.mean": [1]}, {"Detection.nix": 3}])
def test_unfit_settings_of_a_model_are_refused(settings):
    with pytest.raises(ConfigError, match=r"inference\.yml of my_det"):
        load_config().with_model_settings(settings, "inference.yml of my_det")


def test_config_cannot_be_changed():
    config = load_config()
    with pytest.raises(AttributeError):
        config.values = {}
    with pytest.raises(TypeError):
        config.values["Detection.thresh"] = 0.9
    assert isinstance(config, PipelineConfig)
