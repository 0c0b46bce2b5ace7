"""Inspection of real ELF files, made by cross compilers from a few lines of C++."""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess

import pytest

from converters.lite.libraries import elf
from converters.lite.libraries.elf import inspect_library
from converters.lite.libraries.library import fits
from converters.lite.libraries.platforms import PLATFORMS
from converters.lite.toolchain import WHEELS
from edge_ocr.errors import ModelError
from edge_ocr.models import store as model_store

EXTRA = "\\nError: This model is not supported, because operator '"


BASIC = "ops, which is marked with `with_extra`. Current lib"


@pytest.mark.parametrize(
    ("arch", "system", "platforms"),
    [
        ("armv8", "armlinux", ["armlinux.armv8"]),
        ("armv7hf", "armlinux", ["armlinux.armv7hf"]),
        ("armv8", "android", ["android.armv8"]),
        ("armv7", "android", ["android.armv7"]),
        ("armv8", None, ["armlinux.armv8", "android.armv8"]),
    ],
)
def test_inspect(build, arch, system, platforms):
    path = build(arch, system=system)
    info = inspect_library(path)
    assert (info.kind, info.arch, info.system) == ("cxx", arch, system)
    assert info.soname == "libpaddle_light_api_shared.so"
    assert info.version == "v2.13-rc"
    assert info.with_extra is True
    assert info.with_cv is False
    assert info.size_bytes == path.stat().st_size
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.needed == {"armlinux": ("libc.so.6",), "android": ("libc.so", "libc++_shared.so"), None: ()}[system]
    fitting = [name for name, platform in PLATFORMS.items() if fits(info, platform)]
    assert fitting == platforms


def test_inspect_jni(jni):
    info = inspect_library(jni())
    assert (info.kind, info.system, info.soname) == ("jni", "android", "libpaddle_lite_jni.so")


@pytest.mark.parametrize(("page", "fits"), [(4096, False), (16384, True), (65536, True)])
def test_page_sizes(build, page, fits):
    info = inspect_library(build(page=page))
    assert set(info.segment_alignments_bytes) == {page}
    assert info.fits_16k_pages is fits


def test_stripped_of_everything(build, tmp_path):
    """Without a symbol table, and without section headers at all, the dynamic segment is enough."""
    assert inspect_library(build(strip=True)).version == "v2.13-rc"
    data = bytearray(build().read_bytes())
    # e_shoff, e_shnum and e_shstrndx of a 64-bit file.
    struct.pack_into("<Q", data, 0x28, 0)
    struct.pack_into("<HH", data, 0x3C, 0, 0)
    path = tmp_path / "no-sections.so"
    path.write_bytes(data)
    info = inspect_library(path)
    assert (info.kind, info.soname, info.needed) == ("cxx", "libpaddle_light_api_shared.so", ("libc.so.6",))


@pytest.mark.parametrize(
    ("texts", "with_extra"),
    [((EXTRA,), True), ((BASIC,), False), ((EXTRA, BASIC), False), ((), None)],
)
def test_with_extra(build, texts, with_extra):
    assert inspect_library(build(texts=("\\0v2.13-rc", *texts))).with_extra is with_extra


def test_with_cv(build):
    assert inspect_library(build(flags=("-DWITH_CV",))).with_cv is True


@pytest.mark.parametrize(
    ("data", "version", "seen"),
    [
        (b"\0v2.13-rc\0", "v2.13-rc", ("v2.13-rc",)),
        (b"\0v2.12\0", "v2.12", ("v2.12",)),
        (b"\0v2.9.1\0v2.9.1\0", "v2.9.1", ("v2.9.1",)),
        (b"\0v2.7-beta1\0", "v2.7-beta1", ("v2.7-beta1",)),
        # The one of two that has a commit.
        (b"\0v1.2\0\0v2.13-rc\x00102697b\0", "v2.13-rc", ("v1.2", "v2.13-rc")),
        (b"\0v1.2\0\0v2.13-rc\0", None, ("v1.2", "v2.13-rc")),
        (b"\0v1.2\x00102697b\0v2.13-rc\x00102697b\0", None, ("v1.2", "v2.13-rc")),
        # Parts of longer texts, as in the real library.
        (b"abandoned in release/v3.0.0, use\0", None, ()),
        (b"\0driver v2.13-rc\0", None, ()),
        (b"\0v2.13-rcH", None, ()),
        (b"", None, ()),
    ],
)
def test_versions(data, version, seen):
    assert elf.find_version(data) == (version, seen)


@pytest.mark.parametrize("version", list(WHEELS))
def test_real_paddle_lite_is_for_another_machine(version):
    """The wheel's library, if the toolchain has made its environment: for x86, so refused, but parsed."""
    environments = model_store.platformdirs.user_cache_path("edge-ocr") / "opt"
    found = next(environments.glob(f"{WHEELS[version].version}-py3*/lib/*/site-packages/paddlelite/lite.so"), None)
    if found is None:
        pytest.skip(f"no environment with paddlelite {WHEELS[version].version} on this machine")
    data = found.read_bytes()
    assert elf.find_version(data)[0] == f"v{version}"
    assert elf._find_with_extra(data) is True
    with pytest.raises(ModelError, match="X86_64, expected AARCH64 or ARM"):
        inspect_library(found)


def test_refuses_x86(build):
    with pytest.raises(ModelError, match="X86_64, expected AARCH64 or ARM"):
        inspect_library(build("x86"))


def test_refuses_32_bits_for_aarch64(build):
    path = build(flags=("-mabi=ilp32",), system=None)
    with pytest.raises(ModelError, match=r"32-bit .*AARCH64, expected 64-bit"):
        inspect_library(path)


def test_refuses_a_program(build, tmp_path):
    data = bytearray(build().read_bytes())
    struct.pack_into("<H", data, 16, 2)
    path = tmp_path / "program"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="ET_EXEC"):
        inspect_library(path)


def test_refuses_an_object_file(build, tmp_path):
    build()
    out = tmp_path / "object.o"
    subprocess.run(["aarch64-linux-gnu-g++", "-c", "-x", "c++", "-", "-o", out], input=b"int i;", check=True)
    with pytest.raises(ModelError, match="ET_REL"):
        inspect_library(out)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        ("build", {"flags": ("-DWITHOUT_SET_MODEL",)}, r" MobileConfig::set_model_from_file$"),
        ("build", {"flags": ("-fvisibility=hidden",)}, r" MobileConfig::set_model_from_file, ConfigBase::set_threads"),
        ("jni", {"flags": ("-DWITHOUT_GET_DATA",)}, r" Tensor_getFloatData$"),
        ("build", {"source": "int i;"}, "not a Paddle-Lite library"),
    ],
)
def test_refuses_missing_symbols(make, options, message, request):
    path = request.getfixturevalue(make)(**options)
    with pytest.raises(ModelError, match=message):
        inspect_library(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "nothing"),
        (b"MZ\x90\x00", "4d 5a 90 00"),
        (b"!<arch>\nfoo", "static"),
        (b"!<thin>\nfoo", "static"),
        (b"\x7fELF", "damaged"),
        (b"\x7fELF\x02\x01\x01" + b"\0" * 9, "damaged"),
        (b"\x7fELF\x02\x02\x01" + b"\0" * 9 + struct.pack(">HH", 3, 183) + b"\0" * 44, "big-endian"),
    ],
)
def test_refuses_other_files(tmp_path, content, message):
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        inspect_library(path)
    assert str(path) in caught.value.message
    assert "libpaddle_light_api_shared.so" in str(caught.value.hint)


def test_refuses_folders_missing_and_huge_files(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=rf"^{tmp_path}: .*folder"):
        inspect_library(tmp_path)
    with pytest.raises(ModelError, match=r"none\.so: .*No such file"):
        inspect_library(tmp_path / "none.so")
    monkeypatch.setattr(elf, "MAX_LIBRARY_BYTES", 3)
    (tmp_path / "big.so").write_bytes(b"1234")
    with pytest.raises(ModelError, match=r"big\.so: 4 .*3"):
        inspect_library(tmp_path / "big.so")


def test_symbol_limit(build, monkeypatch):
    monkeypatch.setattr(elf, "MAX_SYMBOLS", 3)
    with pytest.raises(ModelError, match="3 symbols"):
        inspect_library(build())


def test_truncated_anywhere(build, tmp_path):
    data = build(strip=True).read_bytes()
    path = tmp_path / "cut.so"
    for size in [*range(0, 256, 16), *range(256, len(data) - 1, len(data) // 40)]:
        path.write_bytes(data[:size])
        with pytest.raises(ModelError):
            inspect_library(path)


@pytest.mark.parametrize("arch", ["armv8", "armv7hf"])
def test_damaged_anywhere(build, tmp_path, arch):
    """Whatever bytes change, the result is a ModelError or a library, in limited time."""
    original = build(arch, strip=True).read_bytes()
    noise = random.Random(1)
    path = tmp_path / "damaged.so"
    refused = 0
    for _ in range(300):
        data = bytearray(original)
        for _ in range(noise.choice((1, 4, 32))):
            # Headers, tables and names are at the start and the end; between them is padding.
            start = noise.choice((0, 0, max(len(data) - 2048, 0)))
            data[start + noise.randrange(min(2048, len(data) - start))] = noise.choice((0, 255, noise.randrange(256)))
        path.write_bytes(data)
        try:
            inspect_library(path)
        except ModelError:
            refused += 1
    assert 50 < refused < 300


def test_versions_of_glibc_are_seen(build):
    info = inspect_library(build(more='extern "C" int puts(const char*); extern "C" int use() { return puts(""); }'))
    assert [name for name in info.linux_symbols if name.startswith("GLIBC_2.")]
    # Optional parts may be missing.
    weak = (
        'extern "C" __attribute__((weak)) int* __errno_location(); extern "C" bool use() { return __errno_location; }'
    )
    assert inspect_library(build(system="android", more=weak)).linux_symbols == ()
