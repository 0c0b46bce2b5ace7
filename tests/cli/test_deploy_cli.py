import pytest


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none"], 2, "--ssh or --adb"),
        (["none", "--ssh", "pi@board", "--adb"], 2, "--ssh or --adb"),
        (["none", "--ssh", "pi@board", "--serial", "A"], 2, "--serial A: "),
        (["none", "--adb", "--runs", "0"], 2, "--runs: "),
        (["none", "--adb", "--pip"], 2, "--pip: "),
        (["none", "--adb", "--force"], 2, "--force: "),
        (["none", "--adb", "--engine", "paddle_lite"], 2, "--engine: "),
        (["none", "--adb"], 5, "none is not a bundle"),
        (["none", "--adb", "--dry-run"], 5, "none is not a bundle"),
        (["none", "--ssh", "pi@board:~"], 2, "~"),
        (["none", "--ssh", "pi@board", "--port", "0"], 2, "--port 0"),
        (["none", "--ssh", "pi@board", "--engine", "paddle"], 2, "paddle_lite"),
        (["none", "--ssh", "pi@board"], 5, "none is not a bundle"),
        (["none", "--ssh", "pi@board", "--dry-run"], 5, "none is not a bundle"),
    ],
)
def test_invalid_options_are_reported_before_connecting(cli, arguments, code, message, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    done = cli("deploy", *arguments)
    assert done.code == code
    assert message in done.err
    assert done.out == ""


def test_a_dry_run_of_a_bundle_that_runs_nowhere_exits_5(cli, export):
    done = cli("deploy", export().out_dir, "--ssh", "pi@board", "--dry-run")
    assert done.code == 5
    assert "armv8" in done.err.partition("Hint: ")[0]
    for words in ("edge-ocr libs fetch --platform armlinux.armv8", "--with-onnx"):
        assert words in done.err.partition("Hint: ")[2]
    assert done.out == ""


def test_a_dry_run_shows_what_happens_to_files_on_the_board(cli, board_bundle):
    for force, fate in (("", "stop the deployment"), ("--force", "keep it next to the new one")):
        done = cli("deploy", board_bundle, "--ssh", "pi@board", "--dry-run", *force.split())
        assert done.code == 0, done.err
        assert f"files that you changed {fate}" in done.out
        assert "check that it runs there (onnxruntime: " in done.out
