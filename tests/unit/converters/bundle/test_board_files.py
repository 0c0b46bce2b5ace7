"""The files that a bundle for boards adds to its models: the shim for a Paddle-Lite library, or its sources."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from converters.bundle.board import files as board_files
from converters.bundle.board.files import add_runtime, add_shims, build_shim
from converters.bundle.writer import open_bundle
from converters.lite.libraries.elf import find_min_glibc
from converters.lite.libraries.library import RuntimeLibrary
from converters.lite.libraries.store import add_library
from converters.plan import Shim
from edge_ocr.core.bundle import LIBRARY, SHIM
from edge_ocr.errors import ModelError, NotVerifiedError

pytestmark = pytest.mark.board

COMPILERS = {"armv8": "aarch64-linux-gnu-g++", "armv7hf": "arm-linux-gnueabihf-g++"}
MACHINES = {"armv8": "EM_AARCH64", "armv7hf": "EM_ARM"}


@pytest.fixture
def add(compile_stand_in, headers, tmp_path, monkeypatch) -> Callable[..., RuntimeLibrary]:
    """Put the stand-in for an ABI into a store, by default like an unpacked archive, with its headers."""
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))

    def add_stand_in(arch: str = "armv8", *, with_headers: bool = True) -> RuntimeLibrary:
        library = compile_stand_in(COMPILERS[arch])
        return add_library(library, platform=f"armlinux.{arch}", include_dir=headers if with_headers else None)

    return add_stand_in


@pytest.fixture
def add_to_bundle(tmp_path) -> Callable[..., tuple[dict[str, Shim], dict[str, Any], list[str]]]:
    """Return the shims of a bundle, its files by name, and the reported steps."""

    def run(**libraries: RuntimeLibrary | None) -> tuple[dict[str, Shim], dict[str, Any], list[str]]:
        steps: list[str] = []
        with open_bundle(tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}") as bundle:
            shims = add_shims(bundle, "lib", libraries, steps.append)
            return shims, {name: (bundle.folder / name).read_bytes() for name in bundle.files}, steps

    return run


def leave_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize("arch", COMPILERS)
def test_the_shim_is_built_for_the_board(add, tmp_path, arch):
    library = add(arch)
    data, min_glibc = build_shim(arch, library.cxx_library, library.include_dir)
    (tmp_path / SHIM).write_bytes(data)
    with (tmp_path / SHIM).open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_machine"] == MACHINES[arch]
        tags = {tag.entry.d_tag: tag for tag in elf.get_section_by_name(".dynamic").iter_tags()}
        assert tags["DT_SONAME"].soname == SHIM
        # It finds the library in its own folder, wherever the bundle is.
        path = tags.get("DT_RUNPATH") or tags["DT_RPATH"]
        assert getattr(path, "runpath", None) or path.rpath == "$ORIGIN"
        needed = [tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
        assert LIBRARY in needed
        exported = {
            symbol.name
            for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
            # Weak ones are libstdc++'s, in every library in C++.
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
        }
        assert elf.get_section_by_name(".symtab") is None
    assert {"edge_ocr_lite_create", "edge_ocr_lite_run", "edge_ocr_lite_borrow_output"} <= exported
    assert [name for name in exported if not name.startswith("edge_ocr_lite_")] == []
    # No trace of this machine, such as the scratch folder of the build.
    assert b"/tmp/" not in data
    assert re.fullmatch(r"2\.\d+", min_glibc or "")


def test_the_same_library_gives_the_same_shim(add):
    library = add()
    assert len({build_shim("armv8", library.cxx_library, library.include_dir) for _ in range(2)}) == 1


def test_a_bundle_gets_a_shim_for_each_library(add, add_to_bundle):
    shims, files, steps = add_to_bundle(armv8=add("armv8"), armv7hf=add("armv7hf"))
    assert sorted(files) == [f"lib/armv7hf/{SHIM}", f"lib/armv8/{SHIM}"]
    assert {abi: shim.file for abi, shim in shims.items()} == {abi: f"lib/{abi}/{SHIM}" for abi in COMPILERS}
    assert steps == []
    assert files[f"lib/armv8/{SHIM}"] != files[f"lib/armv7hf/{SHIM}"]


def test_min_glibc_is_the_newest_that_library_or_shim_needs(add, add_to_bundle, monkeypatch):
    library = add()
    of_library = find_min_glibc(library.cxx_library)
    for of_shim, expected in {"2.99": "2.99", "2.9": of_library, None: of_library}.items():
        monkeypatch.setattr(board_files, "build_shim", lambda *arguments, answer=of_shim: (b"shim", answer))
        (shim,) = add_to_bundle(armv8=library)[0].values()
        assert shim.min_glibc == expected


def test_without_a_library_there_is_no_shim(add_to_bundle):
    assert add_to_bundle(armv8=None) == ({}, {}, [])


def test_without_a_compiler_the_board_gets_the_headers(add, add_to_bundle, headers, monkeypatch, tmp_path):
    library = add()
    leave_on_path(monkeypatch, tmp_path / "bin")
    shims, files, (step,) = add_to_bundle(armv8=library)
    assert shims == {"armv8": Shim(None, find_min_glibc(library.cxx_library))}
    assert files == {"include/paddle_api.h": (headers / "paddle_api.h").read_bytes()}
    for words in (f"{SHIM} for armv8: ", "aarch64-linux-gnu-g++", "install.sh"):
        assert words in step


def test_included_headers_of_the_same_folder_are_added(add, add_to_bundle, headers, monkeypatch, tmp_path):
    library = add()
    include = tmp_path / "include"
    include.mkdir()
    (tmp_path / "evil.h").write_text("")
    (include / "paddle_api.h").write_text('#include "paddle_place.h"\n#include <vector>\n# include "../evil.h"\n')
    (include / "paddle_place.h").write_text('#include "paddle_api.h"\n#include "none.h"\n')
    (include / "unused.h").write_text("")
    leave_on_path(monkeypatch, tmp_path / "bin")
    _, files, _ = add_to_bundle(armv8=replace(library, include_dir=include))
    assert sorted(files) == ["include/paddle_api.h", "include/paddle_place.h"]


def test_without_headers_it_cannot_be_built(add, add_to_bundle):
    shims, files, (step,) = add_to_bundle(armv8=add(with_headers=False))
    assert (shims["armv8"].file, files) == (None, {})
    assert step.startswith(f"WARNING: {SHIM} for armv8 ")
    for words in ("paddle_api.h", "--lite-lib"):
        assert words in step


def test_headers_that_do_not_compile_are_reported(add, tmp_path):
    library = add()
    (tmp_path / "paddle_api.h").write_text("#error not this one\n")
    with pytest.raises(NotVerifiedError, match=f"{SHIM} .*: .*not this one") as caught:
        build_shim("armv8", library.cxx_library, tmp_path)
    assert "\n" not in caught.value.message
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"edge-ocr-*/{SHIM}"))


def test_a_library_for_another_machine_does_not_link(add):
    library = add("armv7hf")
    with pytest.raises(NotVerifiedError, match=SHIM):
        build_shim("armv8", library.cxx_library, library.include_dir)


def test_a_compiler_that_does_not_start_is_reported(add, monkeypatch, tmp_path):
    library = add()
    compiler = tmp_path / "bin" / "aarch64-linux-gnu-g++"
    leave_on_path(monkeypatch, compiler.parent)
    compiler.write_text("no program")
    compiler.chmod(0o755)
    with pytest.raises(NotVerifiedError, match=r"aarch64-linux-gnu-g\+\+"):
        build_shim("armv8", library.cxx_library, library.include_dir)


def test_scripts_can_be_started(tmp_path):
    with open_bundle(tmp_path / "bundle") as bundle:
        add_runtime(bundle)
        modes = {name: os.access(bundle.folder / name, os.X_OK) for name in bundle.files if "/" not in name}
    assert modes == {"edge-ocr-lite": True, "install.sh": True, "uninstall.sh": True, "edge-ocr-lite.service": False}


# --- glibc


def test_a_file_without_glibc_symbols_needs_no_glibc(lite_library):
    # It names libc.so.6, but none of its functions.
    assert find_min_glibc(lite_library("armv8")) is None


def test_a_file_without_sections_needs_no_glibc(tmp_path):
    (tmp_path / LIBRARY).write_bytes(b"\x7fELF\2\1\1" + bytes(57))
    assert find_min_glibc(tmp_path / LIBRARY) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\x7fELF", b"\x7fELF" + b"\xff" * 200, b"\x7fELF\1\2\1" + b"\x7f" * 99],
    ids=lambda content: content[:8].hex(),
)
def test_garbage_is_not_a_library(tmp_path, content):
    path = tmp_path / LIBRARY
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"libpaddle_light_api_shared\.so: .*ELF"):
        find_min_glibc(path)


def test_a_damaged_library_has_no_glibc(compile_stand_in, tmp_path):
    data = bytearray(compile_stand_in(COMPILERS["armv8"]).read_bytes())
    path = tmp_path / LIBRARY
    for size in (64, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError, match="ELF"):
            find_min_glibc(path)
    # Sections after the end of the file.
    data[0x28:0x30] = struct.pack("<Q", 2**40)
    path.write_bytes(data)
    with pytest.raises(ModelError, match="ELF"):
        find_min_glibc(path)
    with pytest.raises(ModelError, match=r"none: .*No such file"):
        find_min_glibc(tmp_path / "none")
