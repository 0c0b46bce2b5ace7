"""Nothing that a child started outlives it, however the child ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from support.processes import is_running, wait_until

from converters.lite.opt import run_opt
from converters.processes.child import Child, run_child
from edge_ocr.errors import ConversionError, ToolchainError

# Prints the id of its child, which holds no pipe, and ends.
LEADER = "sleep 60 </dev/null >/dev/null 2>&1 & echo $!"


@pytest.fixture(autouse=True)
def linux():
    if not os.path.isdir("/proc/self"):  # noqa: PTH112
        pytest.skip("there is no /proc")


@pytest.mark.parametrize("end", ["kill", "end"])
def test_children_of_an_ended_leader_are_ended(end):
    child = Child(["sh", "-c", LEADER])
    deadline = time.monotonic() + 10
    left = int(child.receive_line(deadline))
    child.receive_rest(0, deadline)
    assert is_running(left)
    if end == "end":
        assert child.end(5) == 0
    else:
        child.kill()
    assert wait_until(lambda: not is_running(left))


def test_a_group_is_ended_once(monkeypatch):
    child = Child(["true"])
    child.end(5)
    # Another group may have the id by then.
    monkeypatch.setattr(os, "killpg", lambda *arguments: pytest.fail("killed again"))
    child.kill()


@pytest.mark.parametrize("how", ["end", "kill", "run", "run late"])
def test_a_group_is_ended_while_its_leader_still_has_the_id(monkeypatch, how):
    killed = []
    kill = os.killpg

    def note(pid, number):
        # A reaped process no longer exists.
        killed.append(Path(f"/proc/{pid}").exists())
        kill(pid, number)

    monkeypatch.setattr(os, "killpg", note)
    if how == "run":
        left = int(run_child(["sh", "-c", LEADER], 10, env=os.environ).stdout)
    elif how == "run late":
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            run_child(["sh", "-c", "sleep 60 & echo $!"], 0.3, env=os.environ)
        left = int(caught.value.output)
    else:
        child = Child(["sh", "-c", LEADER])
        left = int(child.receive_line(time.monotonic() + 10))
        child.receive_rest(0, time.monotonic() + 10)
        assert how == "kill" or child.end(5) == 0
        child.kill()
    assert killed == [True]
    assert wait_until(lambda: not is_running(left))


def test_a_leader_that_is_late_is_ended():
    child = Child(["sh", "-c", "exec 2>&-; sleep 60"])
    started = time.monotonic()
    assert child.end(0.3) == -signal.SIGKILL
    assert 0.3 <= time.monotonic() - started < 5


def test_a_command_runs_to_its_end_and_its_output_is_returned():
    done = run_child(["sh", "-c", "cat; echo no >&2; exit 3"], 10, env=os.environ, data=b"x" * 2**20)
    assert (done.returncode, len(done.stdout), done.stderr) == (3, 2**20, b"no\n")
    done = run_child(["sh", "-c", "echo yes; echo no >&2"], 10, env=os.environ, join_stderr=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"yes\nno\n", None)
    assert run_child(["cat"], 10, env=os.environ).stdout == b""
    with pytest.raises(ToolchainError, match="/no/such/program"):
        run_child(["/no/such/program"], 10, env=os.environ)


def test_children_that_a_command_left_are_ended():
    done = run_child(["sh", "-c", LEADER], 10, env=os.environ)
    assert wait_until(lambda: not is_running(int(done.stdout)))


def test_a_command_that_is_late_is_ended_with_its_children():
    # The child holds the pipes, so waiting for their end takes as long as it lives.
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_child(["sh", "-c", "sleep 60 & echo $!; echo thinking >&2; sleep 60"], 0.5, env=os.environ)
    assert time.monotonic() - started < 5
    assert caught.value.stderr == b"thinking\n"
    assert wait_until(lambda: not is_running(int(caught.value.output)))


def test_a_command_stops_on_request(tmp_path):
    stop, ended = threading.Event(), []

    def run() -> None:
        try:
            run_child(["sh", "-c", f"sleep 60 & echo $! >{tmp_path}/pid; sleep 60"], 60, env=os.environ, stop=stop)
        except CancelledError:
            ended.append(time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.02)
    stopped = time.monotonic()
    stop.set()
    thread.join(10)
    assert ended
    assert ended[0] - stopped < 2
    assert wait_until(lambda: not is_running(int((tmp_path / "pid").read_text())))


def test_an_opt_that_hangs_is_ended_with_its_children(tmp_path):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nsleep 30 &\necho $! >{tmp_path}/pid\nsleep 30\n")
    python.chmod(0o755)
    started = time.monotonic()
    with pytest.raises(ConversionError, match=r"0\.5 s"):
        run_opt(python, Path(sys.executable), Path(sys.executable), tmp_path / "out", valid_places="arm", timeout_s=0.5)
    assert time.monotonic() - started < 5
    assert wait_until(lambda: not is_running(int((tmp_path / "pid").read_text())))
