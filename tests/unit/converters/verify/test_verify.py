"""Correct bundles pass; each fault is caught, even if the manifest was changed with it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converters.bundle import manifest as manifest_module
from converters.bundle.pictures import find_pictures_folder
from converters.bundle.reader import inspect_bundle
from converters.export import export_bundle
from converters.lite.nb.read import parse_nb
from converters.plan import ExportOptions
from converters.report import ParityReport
from converters.sources.program import get_input
from converters.verify.verify import VerifyOptions, verify_bundle
from edge_ocr.config import load_config
from edge_ocr.errors import InputError, ModelError, NotVerifiedError, ParityError, UsageError

FAST = "sign.png"
"""The shipped picture with four lines."""


@pytest.fixture(autouse=True)
def own_store(make_home, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(make_home()))
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)


@pytest.fixture
def copy_bundle(export, tmp_path) -> Callable[..., Path]:
    """Copy a bundle that a test may damage."""

    def copy(**options: object) -> Path:
        return Path(shutil.copytree(export(**options).out_dir, tmp_path / "bundle"))

    return copy


def look(bundle: Path, **options: object) -> ParityReport:
    return verify_bundle(bundle, VerifyOptions(images=(find_pictures_folder() / FAST,), **options))


def edit(bundle: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    path = bundle / name
    path.write_bytes(change(path.read_bytes()))


def edit_manifest(bundle: Path, change: Callable[[dict], None]) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    change(content)
    (bundle / "manifest.json").write_text(json.dumps(content))


def forgo_sbom(content: dict) -> None:
    """Turn the manifest into an older one without an SBOM, which would show a changed hash (test_sbom.py)."""
    content["files"].pop("bom.cdx.json", None)


def approve(bundle: Path) -> None:
    """Write the files' current sizes and hashes into the manifest, like someone who edits a bundle by hand."""

    def change(content: dict) -> None:
        forgo_sbom(content)
        for name, entry in content["files"].items():
            data = (bundle / name).read_bytes()
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        for model in content["models"].values():
            model |= content["files"][model["file"]]
        content["charset"]["sha256"] = content["files"]["dict.txt"]["sha256"]

    edit_manifest(bundle, change)


def fail_names(report: ParityReport) -> set[str]:
    assert not report.passed
    return {check.name for check in report.failures}


# --- correct bundles


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimize": False},
        {"precision": "int16"},
        {"precision": "int8"},
        {"charset": "ascii"},
        {"charset": "digits", "precision": "int8"},
        {"with_cls": True},
        {"target": "android"},
    ],
    ids=str,
)
def test_a_bundle_as_exported_passes(export, options):
    report = verify_bundle(export(**options).out_dir)
    assert report.passed, report.failures
    assert len(report.images) == 4
    assert {check.layer for check in report.checks} == {"files", "dictionary", "models", "tensors", "boxes", "texts"}
    assert report.figures["texts.count"] > 0
    # Two different graphs were compared, not one with itself.
    assert report.figures["det.prob_map.max_abs_diff"] > 0


def test_a_selection_of_characters_is_compared_with_the_reference_on_the_same_ones(export):
    report = verify_bundle(export(charset="ascii").out_dir)
    assert report.figures["rec.probs.max_abs_diff"] < 1e-3
    texts = "".join(pair.texts[0] for image in report.images for pair in image.text_pairs)
    assert texts.isascii()


def test_the_reference_may_run_on_paddle(export):
    report = look(export().out_dir, engine="paddle")
    assert report.passed
    assert "on paddle" in report.reference


def test_truth_adds_accuracy_of_both_sides(export):
    report = verify_bundle(export().out_dir, VerifyOptions(truth=find_pictures_folder() / "gt.jsonl"))
    assert len(report.images) == 4
    assert report.figures["accuracy.lines"] > 20
    assert report.figures["accuracy.exported.exact_share"] == report.figures["accuracy.reference.exact_share"] > 0.9
    assert "accuracy" in {check.layer for check in report.checks}


def test_files_missing_from_the_manifest_are_named(copy_bundle):
    bundle = copy_bundle()
    (bundle / "notes.txt").write_text("x")
    report = look(bundle)
    assert report.passed
    assert report.notes == ("notes.txt is not in the manifest",)


# --- damage that the manifest reveals


@pytest.mark.parametrize(
    "name", ["models/det.nb", "models/rec.nb", "dict.txt", "pipeline.yaml", "LICENSES", "README.md"]
)
def test_a_flipped_byte_is_caught_in_every_file(copy_bundle, name):
    bundle = copy_bundle()
    edit(bundle, name, lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    report = look(bundle)
    assert fail_names(report) == {name}
    assert "sha256" in report.failures[0].detail
    assert report.images == ()


def test_a_file_cut_short_at_any_of_50_places_is_caught(copy_bundle):
    bundle = copy_bundle()
    whole = (bundle / "models/rec.nb").read_bytes()
    for step in range(50):
        size_bytes = len(whole) * step // 50
        (bundle / "models/rec.nb").write_bytes(whole[:size_bytes])
        assert fail_names(look(bundle)) == {"models/rec.nb"}


def test_a_manifest_cut_short_at_any_of_50_places_is_caught(copy_bundle):
    bundle = copy_bundle()
    whole = (bundle / "manifest.json").read_bytes()
    for step in range(50):
        (bundle / "manifest.json").write_bytes(whole[: len(whole) * step // 50])
        assert fail_names(look(bundle)) == {"manifest"}


@pytest.mark.parametrize("name", ["models/det.nb", "dict.txt"])
def test_a_missing_file_is_caught(copy_bundle, name):
    bundle = copy_bundle()
    (bundle / name).unlink()
    assert fail_names(look(bundle)) == {name}


def test_a_file_outside_the_bundle_is_caught(copy_bundle, tmp_path):
    bundle = copy_bundle()
    (bundle / "models/det.nb").rename(tmp_path / "det.nb")
    (bundle / "models/det.nb").symlink_to(tmp_path / "det.nb")
    assert "outside" in look(bundle).failures[0].detail


def test_a_pipe_in_place_of_a_file_is_caught(copy_bundle):
    bundle = copy_bundle()
    (bundle / "dict.txt").unlink()
    os.mkfifo(bundle / "dict.txt")
    assert look(bundle).failures[0].detail == "cannot be read: not a file"
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")
    with pytest.raises(ModelError, match="not a file"):
        look(bundle)


def test_circular_links_are_caught(copy_bundle):
    bundle = copy_bundle()
    (bundle / "dict.txt").unlink()
    (bundle / "dict.txt").symlink_to("LICENSES2")
    (bundle / "LICENSES2").symlink_to("dict.txt")
    assert fail_names(look(bundle)) == {"dict.txt"}


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "a" * 5000])
def test_impossible_file_names_are_caught(copy_bundle, name):
    bundle = copy_bundle()
    edit_manifest(bundle, lambda m: m["files"].update({name: {"sha256": "0" * 64, "size_bytes": 1}}))
    assert not look(bundle).passed


@pytest.mark.parametrize("name", ["dict.txt", "pipeline.yaml"])
def test_text_of_gigabytes_is_not_read(copy_bundle, name, monkeypatch):
    monkeypatch.setattr("converters.bundle.reader._MAX_TEXT_BYTES", 100)
    report = look(copy_bundle())
    assert {"classes", "pipeline.yaml"} <= fail_names(report)
    assert all("expected at most 100" in check.detail for check in report.failures)


def test_a_library_that_is_not_in_the_list_is_caught(copy_bundle):
    bundle = copy_bundle()
    library = {
        "file": "lib/armv8/evil.so",
        "sha256": "0" * 64,
        "version": "v2.13-rc",
        "version_matches": True,
        "fits_16k_pages": True,
    }
    edit_manifest(bundle, lambda m: (forgo_sbom(m), m["lite"]["libraries"].update(armv8=library)))
    assert fail_names(look(bundle)) == {"library for armv8"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda m: m["settings"]["detection"].update(box_threshold=0.7), "pipeline.yaml"),
        (lambda m: m["settings"]["recognition"].update(batch_size=2), "pipeline.yaml"),
        (lambda m: m["onnx"]["det"].update(file="models/det.nb"), "graph of det"),
        (lambda m: m["golden"].update(image="none.png"), "golden picture"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_caught(copy_bundle, change, name):
    bundle = copy_bundle(with_onnx=True)
    edit_manifest(bundle, change)
    assert name in fail_names(look(bundle))


def test_a_graph_of_other_weights_is_caught(copy_bundle):
    bundle = copy_bundle(with_onnx=True)
    assert look(bundle).passed
    edit(bundle, "onnx/det.onnx", lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    approve(bundle)
    assert fail_names(look(bundle)) == {"graph of det", "det as ONNX"}
    edit_manifest(bundle, lambda m: m["onnx"]["det"].update(m["files"]["onnx/det.onnx"]))
    assert fail_names(look(bundle)) == {"det as ONNX"}


def test_files_that_a_board_makes_in_a_bundle_are_ignored(copy_bundle):
    bundle = copy_bundle()
    (bundle / ".installed").mkdir()
    (bundle / ".installed" / "python").write_text("/usr/bin/python3")
    (bundle / "runtime/edge_ocr_lite/__pycache__").mkdir()
    (bundle / "runtime/edge_ocr_lite/__pycache__/x.pyc").write_bytes(b"")
    assert look(bundle).notes == ()


def test_names_of_unlisted_files_cannot_add_lines(copy_bundle):
    bundle = copy_bundle()
    (bundle / "b\npassed: all").write_text("x")
    assert look(bundle).notes == ("b\\npassed: all is not in the manifest",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.pop("models"), "models"),
        (lambda m: m["charset"].update(classes="many"), "charset.classes"),
        (lambda m: m.update(precision="int4"), "precision"),
        (lambda m: m["files"].update({"../../etc/passwd": {"sha256": "0" * 64, "size_bytes": 1}}), "etc/passwd"),
        (lambda m: m.update(schema_version="1"), "schema_version"),
        (lambda m: m.update(schema_version=0), "schema_version"),
    ],
)
def test_a_manifest_that_breaks_its_schema_is_caught(copy_bundle, change, told):
    bundle = copy_bundle()
    edit_manifest(bundle, change)
    report = look(bundle)
    assert fail_names(report) == {"manifest"}
    assert told in report.failures[0].detail


@pytest.mark.parametrize("text", ["[]", "{", "null", "[" * 100_000, '{"schema_version": 3}', "\xff"])
def test_any_invalid_manifest_is_caught(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    assert fail_names(look(tmp_path)) == {"manifest"}


def test_a_newer_schema_is_not_verified(copy_bundle):
    bundle = copy_bundle()
    edit_manifest(
        bundle, lambda m: m.update(schema_version=manifest_module.SCHEMA_VERSION + 1, models="of another kind")
    )
    with pytest.raises(NotVerifiedError, match=f"schema_version {manifest_module.SCHEMA_VERSION + 1}") as raised:
        look(bundle)
    assert raised.value.exit_code == 9


def test_changed_constants_are_caught(copy_bundle):
    bundle = copy_bundle()
    edit_manifest(bundle, lambda m: m["constants"]["recognition"].update(width_multiple=32))
    assert fail_names(look(bundle)) == {"constants"}


# --- damage that was written into the manifest, too


def overwrite_float(data: bytes, name: str, factor: float) -> bytes:
    """Multiply every value of a parameter of a .nb."""
    param = parse_nb(data).params[name]
    raw = bytes(param.data)
    assert data.count(raw) == 1
    return data.replace(raw, (param.to_array() * np.float32(factor)).astype(param.dtype).tobytes())


def find_param(data: bytes, op_type: str, slot: str, index: int) -> str:
    ops = [op for op in parse_nb(data).blocks[0].ops if op.type == op_type]
    return ops[index].inputs[slot][0]


@pytest.mark.parametrize("index", [0, 10, -1])
@pytest.mark.parametrize("kind", ["det", "rec"])
def test_changed_weights_are_caught(copy_bundle, kind, index):
    bundle = copy_bundle()

    def change(data: bytes) -> bytes:
        return overwrite_float(data, find_param(data, "conv2d", "Filter", index), 1.02)

    edit(bundle, f"models/{kind}.nb", change)
    approve(bundle)
    names = fail_names(look(bundle))
    assert any(name.startswith(f"{kind}.") for name in names)


def test_a_flipped_bit_of_one_weight_is_caught_if_it_matters(copy_bundle):
    bundle = copy_bundle()

    def flip(data: bytes) -> bytes:
        raw = bytes(parse_nb(data).params[find_param(data, "conv2d", "Filter", 0)].data)
        # The top bit of the exponent of its first value.
        return data.replace(raw, raw[:3] + bytes([raw[3] ^ 0x40]) + raw[4:])

    edit(bundle, "models/det.nb", flip)
    approve(bundle)
    assert "det.prob_map.max_abs_diff" in fail_names(look(bundle))


@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_changed_scales_are_caught(copy_bundle, precision):
    bundle = copy_bundle(precision=precision)

    def change(data: bytes) -> bytes:
        op = next(op for op in parse_nb(data).blocks[0].ops if op.quantisation is not None)
        scales = op.quantisation.scales[op.inputs["Filter"][0]]
        raw = struct.pack(f"<{len(scales)}f", *scales)
        assert data.count(raw) == 1
        return data.replace(raw, struct.pack(f"<{len(scales)}f", *(2 * scale for scale in scales)))

    edit(bundle, "models/rec.nb", change)
    approve(bundle)
    caught = {"rec.probs.mean_step_diff", "rec.log_probs.worst_class_diff", "texts.equal_share"}
    assert fail_names(look(bundle)) & caught


def test_swapped_lines_of_the_dictionary_are_caught(copy_bundle):
    bundle = copy_bundle()

    def swap(data: bytes) -> bytes:
        lines = data.decode().split("\n")
        lines[100], lines[101] = lines[101], lines[100]
        return "\n".join(lines).encode()

    edit(bundle, "dict.txt", swap)
    approve(bundle)
    report = look(bundle)
    assert fail_names(report) == {"reference"}
    assert "line 102 of dict.txt" in report.failures[0].detail


def test_swapped_lines_of_a_selection_are_caught(copy_bundle):
    bundle = copy_bundle(charset="ascii")
    edit(bundle, "dict.txt", lambda data: b"".join(sorted(data.splitlines(True), reverse=True)))
    approve(bundle)
    assert fail_names(look(bundle)) == {"reference"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data + "新\n".encode(), "6625 lines, expected 6624"),
        (lambda data: data[:-1], "line break"),
        (lambda data: b"\xff" + data, "not UTF-8"),
        (lambda data: data.replace(b"\n", b"\r\n"), ""),
    ],
)
def test_a_dictionary_that_does_not_fit_is_caught(copy_bundle, change, told):
    bundle = copy_bundle()
    edit(bundle, "dict.txt", change)
    approve(bundle)
    report = look(bundle)
    assert fail_names(report) <= {"classes", "reference"}
    assert told in report.failures[0].detail


def test_exchanged_models_are_caught(copy_bundle):
    bundle = copy_bundle()
    det, rec = bundle / "models/det.nb", bundle / "models/rec.nb"
    contents = det.read_bytes(), rec.read_bytes()
    rec.write_bytes(contents[0])
    det.write_bytes(contents[1])
    report = look(bundle)
    assert fail_names(report) == {"models/det.nb", "models/rec.nb"}
    assert report.failures[0].detail == "has the content of models/rec.nb"
    approve(bundle)
    assert fail_names(look(bundle)) == {"det", "rec"}


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.3, 0.9999])
def test_a_model_cut_short_is_caught_whatever_the_manifest_says(copy_bundle, share):
    bundle = copy_bundle()
    edit(bundle, "models/det.nb", lambda data: data[: int(len(data) * share)])
    approve(bundle)
    assert fail_names(look(bundle)) == {"det"}


def test_a_model_of_another_opt_is_caught(copy_bundle):
    bundle = copy_bundle()
    edit(bundle, "models/det.nb", lambda data: data.replace(b"v2.13-rc\0", b"v2.12-rc\0", 1))
    approve(bundle)
    assert "v2.12-rc" in look(bundle).failures[0].detail


def test_a_precision_that_is_not_the_weights_is_caught(copy_bundle):
    bundle = copy_bundle(precision="int8")
    edit_manifest(bundle, lambda m: m.update(precision="fp32"))
    assert fail_names(look(bundle)) == {"det", "rec"}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"weights": "int16"}, "have 8 bits, expected 16"),
        ({"weights": "fp32"}, "have 8 bits, expected 32"),
        ({"compute": "int8", "input_absmax": 1.0}, "computes in another type than int8"),
        ({"layer": "absent.w_0"}, "absent.w_0"),
    ],
)
def test_a_choice_that_is_not_what_a_layer_does_is_caught(copy_bundle, change, found):
    bundle = copy_bundle(precision="int8")
    edit_manifest(bundle, lambda m: m["quantisation"]["layers"]["rec"][3].update(change))
    (failure,) = look(bundle).failures
    assert failure.name == "rec"
    assert found in failure.detail


PROMISE = {"drop": 0.1, "lines": 60, "changed": 6, "compared": 60, "pictures": 4, "prefer": "size"}


def test_a_promise_is_kept_or_the_bundle_fails(copy_bundle):
    bundle = copy_bundle(precision="int8")
    promise = {
        "measure": "changed_lines",
        "max_drop": 0.2,
        "drop": 0.1,
        "lines": 60,
        "changed": 6,
        "compared": 60,
        "pictures": 4,
        "prefer": "size",
    }
    edit_manifest(bundle, lambda m: m["quantisation"].update(promise=promise))
    (check,) = [check for check in verify_bundle(bundle).checks if check.name == "texts.equal_share"]
    assert check.passed
    assert check.limit == pytest.approx(0.8)
    # Not one line may differ; this bundle changes at least one.
    edit_manifest(bundle, lambda m: m["quantisation"]["promise"].update(max_drop=0))
    assert fail_names(verify_bundle(bundle)) == {"texts.equal_share"}


def test_a_promise_about_known_texts_is_checked_on_known_texts(copy_bundle):
    bundle = copy_bundle(precision="int8")
    promise = {
        "measure": "exact_lines",
        "max_drop": 0.1,
        "drop": 0,
        "lines": 66,
        "changed": 1,
        "compared": 66,
        "pictures": 4,
        "prefer": "size",
    }
    edit_manifest(bundle, lambda m: m["quantisation"].update(promise=promise))
    (check,) = [check for check in verify_bundle(bundle).checks if check.name == "accuracy.exact_drop"]
    assert check.passed
    assert check.limit == pytest.approx(0.1)


def test_a_classifier_that_never_runs_is_caught(copy_bundle):
    bundle = copy_bundle(with_cls=True)
    turning = (b"use_text_line_orientation: true", b"use_text_line_orientation: false")
    edit(bundle, "pipeline.yaml", lambda data: data.replace(*turning))
    approve(bundle)
    assert fail_names(look(bundle)) == {"orientation"}


def test_exchanged_classes_are_caught_though_no_picture_shows_them(copy_bundle):
    bundle = copy_bundle()

    def exchange(data: bytes) -> bytes:
        op = [op for op in parse_nb(data).blocks[0].ops if op.type == "fc"][-1]
        for slot in ("W", "Bias"):
            param = parse_nb(data).params[op.inputs[slot][0]]
            values = param.to_array().copy()
            values[..., [5000, 5001]] = values[..., [5001, 5000]]
            data = data.replace(bytes(param.data), values.tobytes())
        return data

    edit(bundle, "models/rec.nb", exchange)
    approve(bundle)
    report = look(bundle)
    assert fail_names(report) == {"rec.log_probs.worst_class_diff"}
    assert report.figures["texts.equal_share"] == 1


def test_invalid_settings_are_caught(copy_bundle):
    bundle = copy_bundle()
    edit(bundle, "pipeline.yaml", lambda data: data.replace(b"thresh: 0.3", b"thresh: 3.3", 1))
    approve(bundle)
    assert fail_names(look(bundle)) == {"pipeline.yaml"}


# --- no result


def test_no_bundle_is_no_result(tmp_path):
    with pytest.raises(ModelError, match=r"manifest\.json"):
        verify_bundle(tmp_path)
    with pytest.raises(ModelError, match="nowhere"):
        verify_bundle(tmp_path / "nowhere")


def test_a_missing_reference_is_no_result(copy_bundle):
    bundle = copy_bundle()
    edit_manifest(bundle, lambda m: m["models"]["det"]["source"].update(name="my_own_det"))
    with pytest.raises(NotVerifiedError, match="my_own_det") as raised:
        look(bundle)
    assert "--det-model" in str(raised.value.hint)
    assert look(bundle, models={"det": "PP-OCRv4_mobile_det"}).passed


def test_another_reference_is_no_result(copy_bundle):
    bundle = copy_bundle()
    edit_manifest(bundle, forgo_sbom)
    edit_manifest(
        bundle, lambda m: m["models"]["rec"]["source"]["files"]["inference.pdiparams"].update(sha256="0" * 64)
    )
    with pytest.raises(NotVerifiedError, match=r"PP-OCRv4_mobile_rec .*inference\.pdiparams"):
        look(bundle)


def test_pictures_without_text_are_no_result(export, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "white.png"), np.full((200, 200, 3), 255, dtype=np.uint8))
    with pytest.raises(NotVerifiedError, match="1 pictures"):
        verify_bundle(export().out_dir, VerifyOptions(images=(tmp_path,)))


def test_an_unknown_op_is_no_result(export, monkeypatch):
    monkeypatch.setattr("converters.lite.nb.to_onnx.OPS", {})
    with pytest.raises(NotVerifiedError, match="op 0: 'feed'"):
        look(export().out_dir)


def test_without_a_library_an_emulated_run_is_no_result(export):
    with pytest.raises(NotVerifiedError, match=r"library for armlinux\.armv8 v2\.13-rc") as raised:
        look(export().out_dir, runner="qemu")
    assert "edge-ocr libs fetch" in str(raised.value.hint)


def test_a_bundle_for_phones_runs_on_no_board(export):
    with pytest.raises(NotVerifiedError, match="android"):
        look(export(target="android").out_dir, runner="qemu")


@pytest.mark.parametrize(
    "options",
    [
        {"runner": "dream"},
        {"runner": "ssh://-oProxyCommand=x/tmp"},
        {"runner": "ssh://h;x/tmp"},
        {"arch": "armv8"},
        {"runner": "qemu", "arch": "armv7hf"},
        {"runner": "qemu", "trace": True},
    ],
)
def test_invalid_options_are_refused(export, options):
    with pytest.raises(UsageError):
        look(export().out_dir, **options)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1"),
        ('{"image": "sign.png"}', "words"),
        ('{"image": "sign.png", "words": [{"text": "a"}]}', "poly"),
        ('{"image": "sign.png", "words": [{"text": "a", "poly": [[1, 2]]}]}', "four points"),
        ('{"image": "sign.png", "words": [{"text": 5, "poly": null}]}', "text is not a string"),
        ('{"image": 5, "words": []}', "image is not a string"),
        (
            '{"image": "sign.png", "words": [{"text": "a", "poly": [[1%s, 2], [1, 2], [1, 2], [1, 2]]}]}' % ("0" * 400),
            "line 1",
        ),
        ('{"image": "sign.png", "words": [{"text": "a", "poly": [[NaN, 2], [1, 2], [1, 2], [1, 2]]}]}', "four points"),
        ('{"image": "other.png", "words": []}', r"gt\.jsonl: .* 1 pictures"),
        ("\xff", "not UTF-8"),
    ],
)
def test_invalid_labels_are_refused(export, tmp_path, text, told):
    labels = tmp_path / "gt.jsonl"
    labels.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=told):
        look(export().out_dir, truth=labels)


def test_labels_with_line_separators_and_names_in_folders_are_read(export, tmp_path):
    (tmp_path / "sub").mkdir()
    shutil.copy(find_pictures_folder() / FAST, tmp_path / "sub/a.png")
    rows = [{"image": "sub/a.png", "words": [{"poly": None, "text": "x\u2028\u0085y"}]}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    (tmp_path / "gt.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    report = verify_bundle(export().out_dir, VerifyOptions(truth=tmp_path / "gt.jsonl"))
    assert report.figures["accuracy.lines"] == 1


def test_labels_that_are_all_ignored_are_no_result(export, tmp_path):
    word = {"poly": None, "text": "x", "ignore": True}
    (tmp_path / "gt.jsonl").write_text(json.dumps({"image": FAST, "words": [word]}))
    with pytest.raises(NotVerifiedError, match=r"gt\.jsonl.* 1 pictures"):
        look(export().out_dir, truth=tmp_path / "gt.jsonl")


def test_an_invalid_picture_is_refused(export, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(InputError):
        verify_bundle(export().out_dir, VerifyOptions(images=(tmp_path / "bad.png",)))
    with pytest.raises(InputError):
        verify_bundle(export().out_dir, VerifyOptions(images=(tmp_path / "absent.png",)))


# --- the gate of the export


@pytest.fixture
def config():
    return load_config("OCR")


def test_an_export_is_verified_and_says_so_in_its_manifest(opt, config, tmp_path):
    done = export_bundle("arm", tmp_path / "a", config, ExportOptions())
    parity = json.loads((tmp_path / "a/manifest.json").read_text())["parity"]
    assert parity["status"] == "passed"
    assert parity["figures"]["texts.equal_share"] == 1
    assert done.parity is not None
    assert done.parity.passed
    assert inspect_bundle(tmp_path / "a").bundle is not None


def test_without_verification_the_manifest_says_so(export):
    assert json.loads((export().out_dir / "manifest.json").read_text())["parity"] == {"status": "not_run"}


def break_weights(monkeypatch, factor: float) -> None:
    """Break a pass, as a bug would."""
    from converters import convert as convert_module

    run = convert_module.run_passes

    def run_and_break(program, **options):
        reports = run(program, **options)
        name = next(get_input(op, "Filter") for op in program.ops if op.type == "conv2d")
        program.set_param(name, program.params[name] * np.float32(factor))
        return reports

    monkeypatch.setattr(convert_module, "run_passes", run_and_break)


def test_an_export_that_reads_differently_fails_and_is_set_aside(opt, config, tmp_path, monkeypatch):
    break_weights(monkeypatch, 1.5)
    with pytest.raises(ParityError, match=r"det\.prob_map") as raised:
        export_bundle("arm", tmp_path / "a", config, ExportOptions(zip=True))
    assert raised.value.exit_code == 8
    assert [path.name for path in tmp_path.iterdir()] == ["a.failed"]
    assert json.loads((tmp_path / "a.failed/manifest.json").read_text())["parity"]["status"] == "failed"
    report = verify_bundle(tmp_path / "a.failed")
    assert not report.passed
    # A second failure replaces it; a good bundle stays.
    with pytest.raises(ParityError):
        export_bundle("arm", tmp_path / "a", config, ExportOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["a.failed"]


def test_an_existing_bundle_survives_a_failed_export(opt, config, copy_bundle, monkeypatch):
    bundle = copy_bundle()
    before = (bundle / "manifest.json").read_bytes()
    break_weights(monkeypatch, 1.5)
    with pytest.raises(ParityError):
        export_bundle("arm", bundle, config, ExportOptions(force=True))
    assert (bundle / "manifest.json").read_bytes() == before


def test_a_folder_with_the_name_of_a_failed_bundle_stays(opt, config, tmp_path, monkeypatch):
    (tmp_path / "a.failed").symlink_to(tmp_path / "nowhere")
    break_weights(monkeypatch, 1.5)
    with pytest.raises(ParityError, match=r"det\.prob_map"):
        export_bundle("arm", tmp_path / "a", config, ExportOptions())
    link, kept = sorted(tmp_path.iterdir())
    assert link.is_symlink()
    assert kept.name.startswith("a.failed.")


def test_an_export_that_cannot_be_verified_leaves_nothing(opt, config, tmp_path, monkeypatch):
    monkeypatch.setattr("converters.lite.nb.to_onnx.OPS", {})
    with pytest.raises(NotVerifiedError, match="'feed'") as raised:
        export_bundle("arm", tmp_path / "a", config, ExportOptions())
    assert "--no-verify" in str(raised.value.hint)
    assert list(tmp_path.iterdir()) == []
