"""The plugin on small programs whose instructions are known; no Paddle-Lite."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.emulate.counts import RunCounts, parse_report
from converters.emulate.device import make_device
from converters.emulate.plugin import Cache, build_plugin, find_emulator, make_command
from edge_ocr.errors import InputError, NotVerifiedError, UsageError

PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

static void mark(long mark, long first = 0, long second = 0) { syscall(0xED0C, mark, first, second); }

// Five instructions, two loads and one store a round.
__attribute__((noipa)) static void loop(long rounds, char* at) {
  long ignored;
  asm volatile("1: ldr %1, [%2]\n ldr %1, [%2, #8]\n str %1, [%2, #16]\n subs %0, %0, #1\n b.ne 1b"
    : "+r"(rounds), "=&r"(ignored) : "r"(at) : "cc", "memory");
}

__attribute__((noipa)) static void step() { asm volatile("nop"); }

__attribute__((noipa)) static void run_ops(long count, char* at) {
  for (long op = 1; op <= count; ++op) {
    step();
    loop(1000 * op, at);
  }
}

__attribute__((noipa)) static void run_late(long count, char* at) {
  for (long op = 1; op <= count; ++op) loop(1000 * op, at);
}

static char buffer[1 << 22] __attribute__((aligned(4096)));

static void read_all(long bytes) {
  for (long at = 0; at < bytes; at += 64) asm volatile("ldr x9, [%0]" :: "r"(buffer + at) : "x9");
}

static void write_all(long bytes) {
  for (long at = 0; at < bytes; at += 64) asm volatile("str xzr, [%0]" :: "r"(buffer + at) : "memory");
}

// Each once.
static void run_loads() {
  asm volatile(
    "ldr x9, [%0]\n ldr w9, [%0, #4]\n ldrb w9, [%0], #0\n ldrh w9, [%0, xzr]\n ldrsb x9, [%0]\n ldrsw x9, [%0]\n"
    "ldur x9, [%0, #1]\n ldp x9, x10, [%0]\n ldpsw x9, x10, [%0]\n ldnp x9, x10, [%0]\n ldxr x9, [%0]\n clrex\n"
    "ldar x9, [%0]\n ldr q0, [%0]\n ldr d0, [%0]\n ldr s0, [%0]\n ldr h0, [%0]\n ldr b0, [%0]\n ldp q0, q1, [%0]\n"
    "ld1 {v0.4s}, [%0]\n ld1 {v0.4s-v3.4s}, [%0]\n ld2 {v0.4s, v1.4s}, [%0]\n ld4 {v0.4s-v3.4s}, [%0]\n"
    "ld1r {v0.4s}, [%0]\n ld1 {v0.s}[1], [%0]\n ldr x9, 1f\n ldr q0, 1f\n prfm pldl1keep, [%0, #64]\n b 2f\n"
    ".align 4\n 1: .quad 0, 0\n 2:"
    :: "r"(buffer) : "x9", "x10", "v0", "v1", "v2", "v3", "memory");
}

static void run_stores() {
  asm volatile(
    "str xzr, [%0]\n str wzr, [%0, #4]\n strb wzr, [%0], #0\n strh wzr, [%0, xzr]\n stur xzr, [%0, #1]\n"
    "stp xzr, xzr, [%0]\n stnp xzr, xzr, [%0]\n stlr xzr, [%0]\n str q0, [%0]\n str d0, [%0]\n str s0, [%0]\n"
    "str h0, [%0]\n str b0, [%0]\n stp q0, q1, [%0]\n st1 {v0.4s}, [%0]\n st1 {v0.4s-v3.4s}, [%0]\n"
    "st2 {v0.4s, v1.4s}, [%0]\n st4 {v0.4s-v3.4s}, [%0]\n st1 {v0.s}[1], [%0]\n"
    :: "r"(buffer) : "memory");
}

int main(int, char** argv) {
  const char* what = argv[1];
  const long count = std::atol(argv[2]);
  std::memset(buffer, 1, sizeof buffer);
  if (!std::strcmp(what, "ops") || !std::strcmp(what, "late")) {
    auto* run_all = *what == 'o' ? run_ops : run_late;
    mark(1, (long)run_all, (long)run_all + 64);
    for (int run = 0; run < 2; ++run) {
      mark(run == 0 ? 2 : 4);
      run_all(count, buffer);
      mark(run == 0 ? 3 : 5, std::atol(argv[3]));
    }
    return 0;
  }
  mark(4);
  if (!std::strcmp(what, "loop")) loop(count, buffer);
  if (!std::strcmp(what, "read")) read_all(count);
  if (!std::strcmp(what, "twice")) { read_all(count); read_all(count); }
  if (!std::strcmp(what, "write")) write_all(count);
  if (!std::strcmp(what, "loads") && count) run_loads();
  if (!std::strcmp(what, "stores") && count) run_stores();
  if (std::strcmp(what, "no-end")) mark(5);
  return 0;
}
"""

Run = Callable[..., RunCounts]
KB, MB = 2**10, 2**20


@pytest.fixture(scope="module")
def folder(emulator, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "program.cpp").write_text(PROGRAM, encoding="utf-8")
    subprocess.run(["aarch64-linux-gnu-g++", "-O1", folder / "program.cpp", "-o", folder / "program"], check=True)
    build_plugin(folder)
    (folder / "device").mkdir()
    make_device(folder / "device", "max", None, Cache())
    return folder


def start(folder: Path, emulator: str, *arguments: object, cache: Cache | None = None) -> subprocess.CompletedProcess:
    (folder / "report").unlink(missing_ok=True)
    command = make_command(emulator, "count.so", "report", "device", cpu="max", cache=cache)
    return subprocess.run([*command, "./program", *map(str, arguments)], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def run(folder, emulator) -> Run:
    def run(*arguments: object, ops: int = 0, cache: Cache | None = None) -> RunCounts:
        done = start(folder, emulator, *arguments, cache=cache)
        assert (done.returncode, done.stderr) == (0, "")
        return parse_report((folder / "report").read_text(encoding="ascii"), ops, "program")

    return run


def subtract(first: RunCounts, second: RunCounts) -> tuple[int, int, int]:
    a, b = first.total, second.total
    return a.instructions - b.instructions, a.loads - b.loads, a.stores - b.stores


def test_a_loop_is_counted_exactly(run):
    assert subtract(run("loop", 3000), run("loop", 1000)) == (10000, 4000, 2000)


@pytest.mark.parametrize(("what", "loads", "stores", "others"), [("loads", 26, 0, 3), ("stores", 0, 19, 0)])
def test_loads_and_stores_are_told_apart(run, what, loads, stores, others):
    instructions, *found = subtract(run(what, 1), run(what, 0))
    assert found == [loads, stores]
    assert instructions - loads - stores - others in range(8)


def test_a_run_repeats_exactly(run):
    cache = Cache()
    assert run("write", MB, cache=cache) == run("write", MB, cache=cache)


def test_the_cache_reads_each_line_once(run):
    cache = Cache()
    for size in (16 * KB, MB):
        extra = run("read", size, cache=cache).total.read_bytes - size
        assert 0 <= extra < 4 * KB
    # Without a model, nothing is counted.
    assert run("read", MB).total.read_bytes == 0


def test_what_fits_the_cache_is_read_once(run):
    cache = Cache()
    assert run("twice", 256 * KB, cache=cache).total.read_bytes < 260 * KB
    assert run("twice", 2 * MB, cache=cache).total.read_bytes >= 4 * MB
    assert run("twice", 2 * MB, cache=Cache(l2_bytes=4 * MB)).total.read_bytes < 2 * MB + 4 * KB


def test_what_leaves_the_cache_is_written_back(run):
    counts = run("write", 2 * MB, cache=Cache()).total
    assert 2 * MB <= counts.read_bytes < 2 * MB + 4 * KB
    assert 2 * MB - 544 * KB <= counts.written_bytes <= 2 * MB - 500 * KB
    assert run("write", 16 * KB, cache=Cache()).total.written_bytes == 0


def test_longer_lines_read_more_for_a_stride(run):
    counts = run("read", MB, cache=Cache(line_bytes=32)).total
    # Every other line.
    assert MB // 2 <= counts.read_bytes < MB // 2 + 4 * KB


def test_ops_are_told_apart(run):
    counted = run("ops", 9, 9, ops=9)
    overheads = [op.instructions - 5000 * number for number, op in enumerate(counted.ops, 1)]
    assert all(0 < overhead < 300 for overhead in overheads)
    assert len(set(overheads[:-1])) == 1
    # The last has the end of the run, too.
    assert [op.loads - 2000 * number for number, op in enumerate(counted.ops, 1)][:-1] == [0] * 8
    assert counted.outside.instructions < 60


def test_ops_that_are_found_too_late_are_refused(folder, emulator):
    """Their loop has no block of its own at the start of an op."""
    assert start(folder, emulator, "late", 9, 9).returncode == 0
    with pytest.raises(NotVerifiedError, match=r"50\d\d instructions before"):
        parse_report((folder / "report").read_text(encoding="ascii"), 9, "program")


def test_no_code_runs_once_an_op(folder, emulator):
    done = start(folder, emulator, "ops", 9, 5)
    assert done.returncode == 70
    assert "once per operator" in done.stderr


def test_a_run_without_an_end_has_no_total(folder, emulator):
    assert start(folder, emulator, "no-end", 1).returncode == 0
    with pytest.raises(NotVerifiedError, match="ends early"):
        parse_report((folder / "report").read_text(encoding="ascii"), 0, "program")


# --- what is missing or wrong


def leave_on_path(monkeypatch, folder: Path, **programs: str) -> None:
    folder.mkdir()
    for name, target in programs.items():
        (folder / name.replace("_", "-")).symlink_to(target)
    monkeypatch.setenv("PATH", str(folder))


def test_a_missing_emulator_is_named_with_its_package(monkeypatch, tmp_path):
    leave_on_path(monkeypatch, tmp_path / "bin")
    with pytest.raises(NotVerifiedError, match="qemu-aarch64") as caught:
        find_emulator()
    assert "apt install qemu-user " in caught.value.hint


def test_an_emulator_without_plugins_is_refused(monkeypatch, tmp_path):
    static = shutil.which("qemu-aarch64-static") or pytest.skip("qemu-aarch64-static is not installed")
    leave_on_path(monkeypatch, tmp_path / "bin", qemu_aarch64=static)
    with pytest.raises(NotVerifiedError, match=r"bin/qemu-aarch64 .*plugins") as caught:
        find_emulator()
    assert "apt install qemu-user " in caught.value.hint


def test_a_missing_compiler_is_named_with_its_package(monkeypatch, tmp_path):
    leave_on_path(monkeypatch, tmp_path / "bin")
    with pytest.raises(NotVerifiedError, match="cc") as caught:
        build_plugin(tmp_path)
    assert "apt install gcc" in caught.value.hint


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    leave_on_path(monkeypatch, tmp_path / "bin", cc=shutil.which("false"))
    with pytest.raises(NotVerifiedError, match=r"exit code 1"):
        build_plugin(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"l1_bytes": 0}, "l1 of 0 bytes"),
        ({"l1_bytes": 48 * KB}, "l1 of 49152 bytes"),
        ({"l2_bytes": 256}, "l2 of 256 bytes"),
        ({"l2_bytes": 2**31}, "l2 of 2147483648 bytes"),
        ({"line_bytes": 48}, "48 bytes"),
        ({"line_bytes": -64}, "-64 bytes"),
    ],
)
def test_caches_that_cannot_be_modelled_are_refused(sizes, message):
    with pytest.raises(UsageError, match=message):
        Cache(**sizes)


def test_the_name_of_a_processor_is_checked():
    with pytest.raises(UsageError, match="--cpu 'a b'"):
        make_command("qemu-aarch64", "count.so", "report", "device", cpu="a b", cache=None)


# --- the device


def read_device(folder: Path, *names: str) -> list[str]:
    return [(folder / name).read_text(encoding="utf-8") for name in names]


def test_the_device_is_the_one_asked_for(emulator, tmp_path):
    make_device(tmp_path, "cortex-a72", None, Cache(l1_bytes=64 * KB, l2_bytes=MB))
    (cpuinfo,) = read_device(tmp_path, "proc/cpuinfo")
    assert "CPU part\t: 0xd08\n" in cpuinfo
    for core in range(os.cpu_count() or 1):
        place = f"sys/devices/system/cpu/cpu{core}/cache"
        sizes = read_device(
            tmp_path, *(f"{place}/index{index}/{what}" for index in (0, 2) for what in ("level", "size"))
        )
        assert sizes == ["1\n", "64K\n", "2\n", "1024K\n"]
        # This machine's third level must not show through.
        assert read_device(tmp_path, f"{place}/index3/level") == ["0\n"]
    assert (tmp_path / "lib" / "ld-linux-aarch64.so.1").exists()


def test_a_program_sees_the_device(emulator, tmp_path):
    cpuinfo = tmp_path / "board"
    cpuinfo.write_text("CPU part\t: 0xd03\n" * 300, encoding="utf-8")
    device = tmp_path / "device"
    device.mkdir()
    make_device(device, "max", cpuinfo, Cache())
    code = (
        "#include <fstream>\n#include <iostream>\nint main(int, char** a) { std::cout << std::ifstream(a[1]).rdbuf(); }"
    )
    compile_program = ["aarch64-linux-gnu-g++", "-x", "c++", "-", "-o", tmp_path / "show"]
    subprocess.run(compile_program, input=code, text=True, check=True)
    for name, wanted in {
        "/proc/cpuinfo": cpuinfo.read_text(encoding="utf-8"),
        "/sys/devices/system/cpu/cpu299/cache/index2/size": "512K\n",
        "/sys/devices/system/cpu/online": "0-299\n",
    }.items():
        shown = subprocess.run([emulator, "-L", device, tmp_path / "show", name], capture_output=True, text=True)
        assert shown.stdout == wanted


def test_a_cpuinfo_that_names_no_part_is_refused(emulator, tmp_path):
    for number, content in enumerate((b"", b"model name\t: Xeon\n", b"\xff" * 100)):
        path, device = tmp_path / f"cpuinfo{number}", tmp_path / f"device{number}"
        path.write_bytes(content)
        device.mkdir()
        with pytest.raises(UsageError, match=re.escape(str(path))):
            make_device(device, "max", path, Cache())
    (tmp_path / "last").mkdir()
    with pytest.raises(InputError, match="absent"):
        make_device(tmp_path / "last", "max", tmp_path / "absent", Cache())
