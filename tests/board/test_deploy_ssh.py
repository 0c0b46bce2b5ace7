"""Deployments over a real OpenSSH server on this machine, which acts as a board with ONNX Runtime."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import cpuinfo
from support.processes import list_programs, wait_until

from converters.bundle.ownership import SEAL
from converters.deploy import trust as deploy_trust
from converters.deploy.to_board import DeployOptions, deploy_bundle
from converters.processes.ssh import parse_place
from converters.signing import make_keys, read_private_key
from edge_ocr.core.processor import parse_processor
from edge_ocr.errors import EdgeOcrError, ParityError, ToolchainError, UsageError

pytestmark = pytest.mark.board

# All that a board needs in addition to Python.
PROGRAMS = ("cat", "cksum", "cp", "df", "dirname", "grep", "ls", "mkdir", "mv", "readlink", "rm", "rmdir", "sed", "sh")
PROGRAMS += ("sleep", "sync", "tail", "tar", "uname")
COMMAND = [sys.executable, "-c", "from edge_ocr.cli import main; main()", "deploy"]


@pytest.fixture
def server(start_ssh_server):
    return start_ssh_server(PROGRAMS)


@pytest.fixture(scope="module")
def bundle(onnx_bundle) -> Path:
    pytest.importorskip("onnxruntime")
    return onnx_bundle.out_dir


@pytest.fixture
def old(server) -> Path:
    """An existing bundle, though not a working one."""
    place = server.root / "ocr"
    place.mkdir()
    (place / "manifest.json").write_text('{"edge_ocr_version": "0.0.1"}', encoding="utf-8")
    return place


def deploy(server, bundle: Path, place: str | None = None, **options: object):
    address = parse_place(f"{server.login}:{place or server.root / 'ocr'}", port=server.port, default_path="edge-ocr")
    return deploy_bundle(bundle, address, DeployOptions(python=sys.executable, runs=1, **options))


def expect_failure(server, bundle: Path, kind: type[EdgeOcrError], message: str, place: str | None = None):
    """Deploy, which must fail and leave the board unchanged."""
    before = list_tree(server.root)
    with pytest.raises(kind, match=message) as caught:
        deploy(server, bundle, place)
    assert type(caught.value) is kind
    assert list_tree(server.root) == before
    return caught.value


def list_tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def expect_tidied(server, before: dict[str, bytes]) -> None:
    assert wait_until(lambda: [path.name for path in server.root.iterdir()] == ["ocr"])
    assert wait_until(lambda: list_programs(server.root) == [])
    assert list_tree(server.root) == before


def list_children(pid: int) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # After the name, which is in brackets, come state and parent.
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(process.name))
    return found


def run_cli(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


def test_a_bundle_is_deployed_works_there_and_is_replaced(server, bundle, repository):
    place = server.root / "ocr"
    report = deploy(server, bundle, threads=1)
    assert [path.name for path in server.root.iterdir()] == ["ocr"]
    assert (report.place, report.machine, report.replaced) == (str(place), os.uname().machine, False)
    assert report.python_version == ".".join(map(str, sys.version_info[:3]))
    assert (report.board.engine, report.board.threads, report.board.runs) == ("onnxruntime", 1, 1)
    stages = {"decode", "detection", "crop", "recognition", "total"}
    assert set(report.board.stages_ms) == set(report.host.stages_ms) == stages
    assert report.board.lines == report.host.lines > 0
    files = {name: content for name, content in list_tree(bundle).items() if content}
    assert files.items() <= list_tree(place).items()
    golden = json.loads((bundle / "manifest.json").read_bytes())["golden"]
    read = subprocess.run(
        [place / "edge-ocr-lite", place / "golden.png"],
        env={"PATH": str(server.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout.splitlines() == [line["text"] for line in golden["lines"]]

    (place / "mine").touch()
    options = ("--python", sys.executable, "--runs", 1, "--port", server.port)
    env = {**os.environ, "PYTHONPATH": str(repository), "COLUMNS": "100"}
    done = run_cli(bundle, "--ssh", f"{server.login}:{place}", *options, env=env)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in server.root.iterdir()] == ["ocr"]
    assert (place / "mine").exists()
    assert "kept 1 of your files" in done.stdout
    for stage in stages:
        assert f"│ {stage} " in done.stdout
    assert "board / host" in done.stdout
    assert f"replaced: {server.login}:{place}" in done.stdout
    for step in ("connecting", "copying", "engine: onnxruntime", "golden  ok", f"ready: {place}/edge-ocr-lite"):
        assert step in done.stderr


def test_the_report_says_what_the_boards_processor_gets(server, bundle, tmp_path):
    text = tmp_path / "cpuinfo"
    text.write_text(cpuinfo.PI_5)
    tools = {name: shutil.which(name) or pytest.skip(f"{name} is not installed") for name in ("unshare", "mount", "sh")}
    inside = f'{tools["mount"]} --bind "{text}" /proc/cpuinfo && exec {tools["sh"]} "$@"'
    command = [tools["unshare"], "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh"]
    tried = subprocess.run([*command, "-c", ":"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"unshare: /proc/cpuinfo cannot be replaced here: {tried.stderr.strip()}")
    server.put("sh", f'[ -z "$INSIDE" ] || exec {tools["sh"]} "$@"\nINSIDE=1 exec {shlex.join(command)} "$@"')
    assert deploy(server, bundle, threads=1).board.processor == parse_processor(cpuinfo.PI_5)


def test_changed_files_stop_it_or_stay_next_to_the_new_bundle(server, bundle, repository):
    place = server.root / "ocr"
    shutil.copytree(bundle, place)
    (place / "mine").touch()
    manifest = json.loads((place / "manifest.json").read_bytes())
    manifest["settings"]["detection"]["bin_threshold"] = 0.2
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (place / "manifest.json").write_text(text, encoding="utf-8")
    with (place / "pipeline.yaml").open("a") as file:
        file.write("# mine\n")
    error = expect_failure(server, bundle, UsageError, r"/ocr would be lost: manifest\.json, pipeline\.yaml$")
    assert "--force" in error.hint
    env = {**os.environ, "PYTHONPATH": str(repository)}
    options = ("--python", sys.executable, "--runs", 1, "--port", server.port, "--force")
    done = run_cli(bundle, "--ssh", f"{server.login}:{place}", *options, env=env)
    assert done.returncode == 0, done.stderr
    assert "kept 1 of your files" in done.stdout
    assert ": manifest.json, pipeline.yaml" in done.stdout
    (beside,) = server.root.glob("ocr.old-*")
    assert (beside / "manifest.json").read_text(encoding="utf-8") == text
    assert (place / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()
    assert (place / "mine").exists()


def test_missing_onnxruntime_is_reported_before_anything_is_copied(server, old, bundle):
    before = list_tree(server.root)
    bare = f'{sys.executable} -S "$@"'
    server.put("python3", f"exec {bare}")
    server.put("tar", "echo copied >&2; exit 1")
    address = parse_place(f"{server.login}:{old}", port=server.port, default_path="edge-ocr")
    with pytest.raises(ToolchainError, match=r"; onnxruntime: onnxruntime is not installed") as caught:
        deploy_bundle(bundle, address)
    assert "deploy --pip" in caught.value.hint
    with pytest.raises(ToolchainError, match="copied"):
        deploy_bundle(bundle, address, DeployOptions(pip=True))
    assert list_tree(server.root) == before


def test_without_a_folder_it_goes_to_the_boards_home(server, bundle, repository):
    env = {**os.environ, "PYTHONPATH": str(repository)}
    options = ("--python", sys.executable, "--runs", 1, "--port", server.port, "--json", "--engine", "onnxruntime")
    done = run_cli(bundle, "--ssh", server.login, *options, env=env)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["place"] == str(server.home / "edge-ocr")
    assert content["board"]["engine"] == "onnxruntime"
    assert content["host"]["stages_ms"]["total"]["p50"] > 0
    assert [path.name for path in server.home.glob("edge-ocr*")] == ["edge-ocr"]


def test_a_dry_run_connects_to_nothing(server, bundle, repository):
    server.close()
    env = {**os.environ, "PYTHONPATH": str(repository)}
    done = run_cli(bundle, "--ssh", f"{server.login}:my ocr", "--port", server.port, "--dry-run", "--pip", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("models/", f"ssh -p {server.port} {server.login}", "~/my ocr", "./install.sh --pip", "bench --json"):
        assert part in done.stdout
    done = run_cli(bundle, "--ssh", "board", "--dry-run", "--json", env=env)
    assert json.loads(done.stdout)["path"] == "edge-ocr"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("step", ["copy", "install"])
def test_an_interrupted_deployment_leaves_the_old_bundle_and_no_process(server, old, bundle, repository, step, number):
    before = list_tree(server.root)
    real = (server.path / "tar").readlink()
    if step == "copy":
        # In the middle of the copy: a part has arrived, and the rest waits.
        server.put("tar", f"{shutil.which('head')} -c 5000000 | {real} -xmf - 2>/dev/null; echo >started; sleep 100")
    else:
        server.put("tar", f'{real} "$@" && echo "echo >started; sleep 100 & sleep 100" >install.sh')
    env = {**os.environ, "PYTHONPATH": str(repository)}
    arguments = [*COMMAND, bundle, "--ssh", f"{server.login}:{old}", "--port", str(server.port)]
    arguments += ["--python", sys.executable]
    process = subprocess.Popen(arguments, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert wait_until(lambda: any(server.root.glob("ocr.new-*/started")))
        assert wait_until(lambda: any("sleep" in command for command in list_programs(server.root)))
    finally:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    assert out == ""
    assert "Traceback" not in err
    expect_tidied(server, before)


def test_a_connection_that_is_lost_leaves_the_old_bundle(server, old, bundle):
    real = (server.path / "tar").readlink()
    server.put("tar", f'{real} "$@" && echo "echo >installing; sleep 100" >install.sh')
    before = list_tree(server.root)

    def cut() -> None:
        wait_until(lambda: any(server.root.glob("ocr.new-*/installing")))
        for session in list_children(server.process.pid):
            with suppress(ProcessLookupError):
                os.kill(session, signal.SIGKILL)

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(ToolchainError, match=r"127\.0\.0\.1: ") as caught:
        deploy(server, bundle)
    cutter.join()
    assert "check that this works: ssh" in caught.value.hint
    expect_tidied(server, before)


def test_a_file_that_is_damaged_on_the_way_is_found_and_leaves_the_old_bundle(server, old, bundle):
    real = (server.path / "tar").readlink()
    server.put("tar", f'{real} "$@" && echo x >>models/rec.nb')
    # The class of exit code 5.
    with pytest.raises(EdgeOcrError, match=r"127\.0\.0\.1: .*models/rec\.nb") as caught:
        deploy(server, bundle)
    assert caught.value.exit_code == 5
    assert list_tree(server.root).keys() == {"ocr", "ocr/manifest.json"}


def test_a_board_that_reads_something_else_keeps_the_old_bundle(server, old, bundle, tmp_path):
    other = shutil.copytree(bundle, tmp_path / "changed")
    content = json.loads((other / "manifest.json").read_bytes())
    content["golden"]["lines"][0]["text"] += "!"
    (other / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    error = expect_failure(server, other, ParityError, r"127\.0\.0\.1: golden\.png: line 1 of \d+ reads .*, expected")
    assert error.hint


def test_an_unsuitable_python_is_reported_by_the_board(server, old, bundle):
    before = list_tree(server.root)
    address = parse_place(f"{server.login}:{old}", port=server.port, default_path="edge-ocr")
    answers = "*exit*) exit 1;; *version_info*) echo 3.8.1; exit;;"
    server.put("python3", f'[ "$1" != -c ] || case $2 in {answers} esac; exec {sys.executable} "$@"')
    with pytest.raises(ToolchainError, match=r"127\.0\.0\.1: .*3\.8\.1, expected 3\.9") as caught:
        deploy_bundle(bundle, address)
    assert "edge-ocr deploy --python PATH" in caught.value.hint
    (server.path / "python3").unlink()
    with pytest.raises(ToolchainError, match=": python3 "):
        deploy_bundle(bundle, address)
    assert list_tree(server.root) == before


def test_a_folder_that_is_not_a_bundle_is_refused(server, bundle):
    (server.root / "ocr").mkdir()
    (server.root / "ocr" / "photo.jpg").touch()
    error = expect_failure(server, bundle, UsageError, r"/ocr .*bundle")
    assert "choose another folder" in error.hint


@pytest.fixture
def small_disk(server) -> Iterator[Path]:
    folder = server.root / "small disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no small disk: mount: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_without_room_is_reported(server, bundle, small_disk):
    message = r"127\.0\.0\.1: .*/small disk/ocr: .* \d+\.\d MB, 8\.4 MB were free"
    error = expect_failure(server, bundle, UsageError, message, f"{small_disk}/ocr")
    assert "df -h" in error.hint
    # If only the copy notices it.
    server.put("df", "echo tmpfs 1000000 0 1000000 0% /")
    expect_failure(server, bundle, UsageError, ", 1024.0 MB were free", f"{small_disk}/ocr")


def test_an_unknown_or_changed_host_key_is_reported(server, bundle):
    (server.folder / "known_hosts").write_bytes(b"")
    error = expect_failure(server, bundle, ToolchainError, "ssh does not know its host key: Host key verification")
    assert error.hint == f"connect once by hand and compare the fingerprint: ssh -p {server.port} {server.login}"
    server.know(server.folder / "other.pub")
    expect_failure(server, bundle, ToolchainError, "host key")


def test_a_key_that_is_refused_is_reported(server, bundle):
    server.use_key("other")
    error = expect_failure(server, bundle, ToolchainError, r"Permission denied \(publickey\)")
    assert f"ssh-copy-id -p {server.port} {server.login}" in error.hint


def test_a_board_that_cannot_be_reached_is_reported(server, bundle):
    server.close()
    expect_failure(server, bundle, ToolchainError, r"127\.0\.0\.1: cannot be reached: .*refused")


def test_a_board_without_login_is_reported(server, bundle):
    server.put("sh", "echo This account is currently not available.; exit 1")
    expect_failure(server, bundle, ToolchainError, "could not make a folder for .*: This account is currently")


def test_a_signed_bundle_and_its_key_come_over_ssh(server, bundle, tmp_path, monkeypatch):
    program, place = Path(deploy_trust._PROGRAM).read_text(encoding="utf-8"), "/etc/edge-ocr/trust"
    assert program.count(place) == 1
    # As root, the key would go into this machine's own folder.
    (tmp_path / "trust.py").write_text(program.replace(place, str(tmp_path / "etc" / "trust")), encoding="utf-8")
    monkeypatch.setattr(deploy_trust, "_PROGRAM", tmp_path / "trust.py")
    make_keys(tmp_path / "a.key", tmp_path / "a.pub")
    signed = Path(shutil.copytree(bundle, tmp_path / "signed"))
    content = json.loads((signed / "manifest.json").read_bytes())
    content["release"] = {"name": "demo", "counter": 4}
    # It was changed after the export.
    del content[SEAL]
    (signed / "manifest.json").write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")
    signature = read_private_key(tmp_path / "a.key").sign((signed / "manifest.json").read_bytes())
    (signed / "manifest.sig").write_bytes(signature)
    done = deploy(server, signed, trusted=tmp_path / "a.pub")
    assert done.board.lines > 0
    if os.geteuid() == 0:
        assert json.loads((tmp_path / "etc" / "trust" / "seen.json").read_bytes()) == {"demo": 4}
        # An unsigned bundle changes nothing on a board that trusts a key.
        expect_failure(server, bundle, ParityError, "not signed")
    # Deploying it again leaves nothing of the old one next to it.
    assert deploy(server, signed).replaced
    assert sorted(path.name for path in server.root.iterdir() if path.name.startswith("ocr")) == ["ocr"]
