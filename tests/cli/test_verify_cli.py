import json
import shutil

import pytest


@pytest.fixture
def bundle(export, tmp_path):
    return shutil.copytree(export().out_dir, tmp_path / "bundle")


@pytest.fixture
def picture(examples):
    return examples / "sign.png"


def test_a_good_bundle_exits_with_0(cli, bundle, picture):
    done = cli("verify", bundle, "--images", picture)
    assert done.code == 0, done.err
    rows = [row for row in done.out.splitlines() if row]
    assert rows[-1].startswith("passed: bundle (arm, fp32)")
    assert all("  ok  " in row for row in rows[:-1])
    assert any(row.startswith("texts") for row in rows)
    assert "sign.png: 4 of 4" in done.err


def test_a_bad_bundle_exits_with_8_and_says_what_is_wrong(cli, bundle, picture):
    path = bundle / "models/rec.nb"
    path.write_bytes(path.read_bytes()[:-1])
    done = cli("verify", bundle, "--images", picture)
    assert done.code == 8
    assert "FAILED" in done.out
    assert "models/rec.nb" in done.err
    assert "passed" not in done.out


def test_an_unverifiable_bundle_exits_with_9(cli, bundle, picture):
    content = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(content | {"schema_version": 99}))
    done = cli("verify", bundle, "--images", picture)
    assert done.code == 9
    assert "schema_version 99" in done.err
    assert done.out == ""


def test_no_bundle_exits_with_5(cli, tmp_path):
    done = cli("verify", tmp_path)
    assert done.code == 5
    assert "is not a bundle" in done.err


def test_json_is_all_of_stdout(cli, bundle, examples, picture):
    done = cli("verify", bundle, "--images", picture, "--gt", examples / "gt.jsonl", "--json")
    assert done.code == 0, done.err
    content = json.loads(done.out)
    assert content["status"] == "passed"
    assert content["figures"]["accuracy.exported.exact_share"] > 0
    assert content["images"][0]["name"] == "sign.png"


def test_the_page_shows_the_result_and_the_layers(cli, bundle, picture, tmp_path):
    page = tmp_path / "out.html"
    done = cli("verify", bundle, "--images", picture, "--report", page, "--json")
    assert done.code == 0, done.err
    text = page.read_text(encoding="utf-8")
    assert "PASSED" in text
    assert "data:image/jpeg;base64," in text
    assert "<svg" in text
    # The JSON contains the page's data, too.
    assert set(json.loads(done.out)["trace"]) == {"det", "rec"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "out.html"]


def test_a_failed_bundle_gets_its_page_too(cli, bundle, picture, tmp_path):
    (bundle / "dict.txt").unlink()
    done = cli("verify", bundle, "--images", picture, "--report", tmp_path / "out.html")
    assert done.code == 8
    assert "FAILED" in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_a_page_that_fails_late_does_not_hide_the_verdict(cli, bundle, picture):
    page = "/proc/out.html"
    done = cli("verify", bundle, "--images", picture, "--report", page)
    assert done.code == 2
    assert "passed: " in done.out
    (bundle / "dict.txt").unlink()
    done = cli("verify", bundle, "--images", picture, "--report", page)
    assert done.code == 8
    assert f"WARNING: cannot write {page}: " in done.err


def test_trace_names_the_op_that_differs(cli, bundle, picture):
    done = cli("verify", bundle, "--images", picture, "--trace")
    assert done.code == 0, done.err
    assert "det: " in done.out
    assert "rec: " in done.out


def test_a_page_that_cannot_be_written_is_a_usage_error_before_any_work(cli, bundle, tmp_path):
    done = cli("verify", bundle, "--report", tmp_path / "no" / "out.html")
    assert done.code == 2
    assert done.out == ""
    assert cli("verify", bundle, "--report", tmp_path).code == 2


def test_help_names_the_exit_codes(cli):
    done = cli("verify", "--help")
    assert done.code == 0
    assert "8:" in done.out
    assert "9:" in done.out


def test_export_prints_that_it_verified(cli, opt, tmp_path):
    done = cli("export", "--target", "arm", "--out", tmp_path / "b")
    assert done.code == 0, done.err
    assert "verified: 65 of 65 lines of 4 pictures read the same\n" in done.err
    assert cli("verify", tmp_path / "b").code == 0


def test_export_without_verification_says_so(cli, opt, tmp_path):
    done = cli("export", "--target", "arm", "--out", tmp_path / "b", "--no-verify")
    assert done.code == 0, done.err
    assert "not verified" in done.err
