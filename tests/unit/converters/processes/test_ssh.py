"""Addresses of boards, and the meaning of ssh's failures."""

from __future__ import annotations

import pytest

from converters.processes.ssh import SshAddress, explain_ssh, parse_place, parse_ssh
from edge_ocr.errors import UsageError


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("board", SshAddress(None, "board", None, "edge-ocr")),
        ("pi@board.local", SshAddress("pi", "board.local", None, "edge-ocr")),
        ("pi@board:", SshAddress("pi", "board", None, "edge-ocr")),
        ("pi@board:apps/my ocr/", SshAddress("pi", "board", None, "apps/my ocr")),
        ("pi@board:~/ocr", SshAddress("pi", "board", None, "ocr")),
        ("board:/opt/ocr", SshAddress(None, "board", None, "/opt/ocr")),
        ("board:../文字;'$(id)", SshAddress(None, "board", None, "../文字;'$(id)")),
        ("board:-rf", SshAddress(None, "board", None, "-rf")),
        ("pi@[fe80::1]:ocr", SshAddress("pi", "fe80::1", None, "ocr")),
        ("[::1]", SshAddress(None, "::1", None, "edge-ocr")),
    ],
)
def test_places_are_parsed(place, address):
    assert parse_place(place, default_path="edge-ocr") == address


def test_the_port_is_kept():
    address = parse_place("pi@board", port=2222, default_path="edge-ocr")
    assert address == SshAddress("pi", "board", 2222, "edge-ocr")
    assert address.by_hand == "ssh -p 2222 pi@board"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "host"),
        (":ocr", "host"),
        ("-oProxyCommand=x", "host"),
        ("$(id):ocr", "host"),
        ("a b:ocr", "host"),
        ("@board:ocr", "user"),
        ("-l@board:ocr", "user"),
        ("pi:secret@board:ocr", "`:`"),
        ("ssh://pi@board/ocr", r"\[user@\]host"),
        ("fe80::1", "IPv6"),
        ("pi@2001:db8::1", "IPv6"),
        ("[fe80::g]:ocr", r"\[user@\]host"),
        ("board:/", "folder"),
        ("board:~", "folder"),
        ("board:~/", "folder"),
        ("board:~pi/ocr", "folder"),
        ("board:.", "folder"),
        ("board:ocr/..", "folder"),
        ("board:a:b", "folder"),
        ("board:a\nb", "folder"),
    ],
)
def test_invalid_places_are_refused(place, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_place(place, default_path="edge-ocr")
    assert caught.value.hint


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_invalid_ports_are_refused(port):
    with pytest.raises(UsageError, match=f"--port {port}: .*65535"):
        parse_place("board", port=port, default_path="edge-ocr")


@pytest.mark.parametrize(
    ("stderr", "message", "hint"),
    [
        (b"REMOTE HOST IDENTIFICATION HAS CHANGED", "host key", "ssh -p 22 pi@board"),
        (b"Host key verification failed.", "does not know its host key", "connect once by hand"),
        (b"pi@board: Permission denied (publickey).", "key", "ssh-copy-id -p 22 pi@board"),
        (b"ssh: connect to host board port 22: Connection timed out", "cannot be reached", "check that this works"),
        (b"client_loop: send disconnect: Broken pipe", "the connection failed", "check that this works"),
    ],
)
def test_each_failure_of_ssh_is_reported_with_a_hint(stderr, message, hint):
    error = explain_ssh(SshAddress("pi", "board", 22, "ocr"), stderr, ": said")
    assert error.message.startswith("board: ")
    assert message in error.message
    assert error.message.endswith(": said")
    assert hint in error.hint


@pytest.mark.parametrize(
    ("runner", "address"),
    [
        ("ssh://board/tmp", SshAddress(None, "board", None, "/tmp")),
        ("ssh://pi@board.local:2222/home/pi", SshAddress("pi", "board.local", 2222, "/home/pi")),
        ("ssh://a@[fe80::1]:22/x", SshAddress("a", "fe80::1", 22, "/x")),
        ("ssh://192.168.0.7/a%20b/%E5%AD%97;'", SshAddress(None, "192.168.0.7", None, "/a b/字;'")),
    ],
)
def test_addresses_are_parsed(runner, address):
    assert parse_ssh(runner) == address


@pytest.mark.parametrize(
    ("runner", "message"),
    [
        ("board:/tmp", "expected qemu or ssh://"),
        ("SSH://board/tmp", "expected qemu or ssh://"),
        ("ssh://-oProxyCommand=x/tmp", "host name"),
        ("ssh:///tmp", "host name"),
        ("ssh://a b/tmp", "host name"),
        ("ssh://$(id)/tmp", "host name"),
        ("ssh://[::g]/tmp", "expected qemu or ssh://"),
        ("ssh://-l@board/tmp", "user name"),
        ("ssh://@board/tmp", "user name"),
        ("ssh://pi:secret@board/tmp", "expected qemu or ssh://|user name"),
        ("ssh://board:0/tmp", "expected 1 to 65535"),
        ("ssh://board:65536/tmp", "expected 1 to 65535"),
        ("ssh://board:/tmp", "expected 1 to 65535"),
        ("ssh://board:+22/tmp", "expected 1 to 65535"),
        ("ssh://board", "expected the path of a folder"),
        ("ssh://board/", "expected the path of a folder"),
        ("ssh://board/a%0Ab", "expected the path of a folder"),
        ("ssh://board/a%00b", "expected the path of a folder"),
        ("ssh://board/a\nb", "expected the path of a folder"),
        ("ssh://board/a%2", "%3F, %23 and %25"),
        ("ssh://board/a?b", "%3F, %23 and %25"),
        ("ssh://board/%ff", "not UTF-8"),
    ],
)
def test_invalid_addresses_are_refused(runner, message):
    with pytest.raises(UsageError, match=message):
        parse_ssh(runner)
