"""The store of Paddle-Lite libraries, with real ELF files that the cross compilers make from a few lines of C++."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import random
import shutil
import struct
import subprocess
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from converters.lite.libraries import elf as library_elf
from converters.lite.libraries import store as runtime_libs
from converters.lite.libraries.store import (
    PLATFORMS,
    add_library,
    asset_url,
    fetch_library,
    find_library,
    inspect_library,
    list_stored,
    normalise_version,
    open_stored,
)
from converters.lite.toolchain import WHEELS
from edge_ocr.errors import ModelError, UsageError
from edge_ocr.models import store as model_store

COMPILERS = {
    "armv8": ["aarch64-linux-gnu-g++"],
    "armv7hf": ["arm-linux-gnueabihf-g++"],
    "armv7": ["arm-linux-gnueabihf-g++", "-mfloat-abi=softfp"],
    "x86": ["g++"],
}

# No header is needed, so one compiler serves for soft float, too; std's own types are only named.
CXX = """
namespace std { class string; template <typename T> class shared_ptr { T* p; public: shared_ptr(); ~shared_ptr(); }; }
namespace paddle { namespace lite_api {
class PaddlePredictor;
struct ConfigBase { void set_threads(int); };
struct MobileConfig : ConfigBase { void set_model_from_file(const std::string&); };
struct Tensor { void Resize(const std::string&); int shape() const; };
void ConfigBase::set_threads(int) {}
#ifndef WITHOUT_SET_MODEL
void MobileConfig::set_model_from_file(const std::string&) {}
#endif
void Tensor::Resize(const std::string&) {}
int Tensor::shape() const { return 0; }
template <typename C> __attribute__((visibility("default"))) std::shared_ptr<PaddlePredictor>
CreatePaddlePredictor(const C&);
template <> __attribute__((visibility("default"))) std::shared_ptr<PaddlePredictor>
CreatePaddlePredictor(const MobileConfig&) { return std::shared_ptr<PaddlePredictor>(); }
} }
#ifdef WITH_CV
namespace paddle { namespace lite { namespace utils { namespace cv {
struct ImagePreprocess { void image_flip(); };
void ImagePreprocess::image_flip() {}
} } } }
#endif
"""
JNI = """
extern "C" {
void Java_com_baidu_paddle_lite_PaddlePredictor_newCppPaddlePredictor__Lcom_baidu_paddle_lite_MobileConfig_2() {}
void Java_com_baidu_paddle_lite_PaddlePredictor_run() {}
void Java_com_baidu_paddle_lite_Tensor_nativeResize() {}
#ifndef WITHOUT_GET_DATA
void Java_com_baidu_paddle_lite_Tensor_getFloatData() {}
#endif
}
"""
CXX_RUNTIME = 'extern "C" { void _ZNSt6__ndk16thread4joinEv() {} }'
EXTRA = "\\nError: This model is not supported, because operator '"
BASIC = "ops, which is marked with `with_extra`. Current lib"


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Compile a library; the path of one that is shared, so copy it before changing it."""
    folder = tmp_path_factory.mktemp("libraries")

    @functools.cache
    def compile_library(
        arch: str = "armv8",
        *,
        system: str | None = "armlinux",
        source: str = CXX,
        texts: tuple[str, ...] = ("\\0v2.13-rc\\0abc1234", EXTRA),
        soname: str | None = "libpaddle_light_api_shared.so",
        page: int = 16384,
        flags: tuple[str, ...] = (),
        strip: bool = False,
    ) -> Path:
        compiler = COMPILERS[arch]
        if shutil.which(compiler[0]) is None:
            pytest.skip(f"{compiler[0]} is not installed")
        number = len(list(folder.iterdir()))
        code, out = folder / f"{number}.cc", folder / f"{number}.so"
        constants = [f'extern "C" const char text_{i}[] = "{text}";' for i, text in enumerate(texts)]
        code.write_text(source + "\n".join(constants))
        command = [*compiler, "-Os", "-fPIC", "-shared", "-nostdlib", "-fno-exceptions", "-w", *flags]
        command += [f"-Wl,-z,max-page-size={page}", "-Wl,--no-as-needed", "-o", str(out), str(code)]
        if soname:
            command.append(f"-Wl,-soname,{soname}")
        if strip:
            command.append("-s")
        if system == "armlinux":
            command.append("-lc")
        elif system == "android":
            bionic = folder / f"bionic-{arch}"
            if not bionic.exists():
                bionic.mkdir()
                for name in ("libc.so", "libc++_shared.so"):
                    empty = [*compiler, "-shared", "-nostdlib", f"-Wl,-soname,{name}", "-o", str(bionic / name)]
                    subprocess.run([*empty, "-x", "c++", os.devnull], check=True)
            command += [str(bionic / "libc.so"), str(bionic / "libc++_shared.so")]
        subprocess.run(command, check=True)
        return out

    return compile_library


@pytest.fixture(scope="session")
def jni(build):
    return functools.partial(build, system="android", source=JNI, soname="libpaddle_lite_jni.so")


@pytest.fixture(scope="session")
def cxx_runtime(build):
    """Compile what looks like the libc++_shared.so of an Android NDK."""
    return functools.partial(build, system=None, source=CXX_RUNTIME, soname="libc++_shared.so", texts=())


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)
    monkeypatch.delenv("EDGE_OCR_LITE_URL", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


def make_jar(classes: tuple[str, ...] = ("com/baidu/paddle/lite/PaddlePredictor.class",)) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in classes:
            archive.writestr(name, b"class")
    return out.getvalue()


def make_tar(files: dict[str, bytes], *, top: str = "inference_lite_lib/", extra: tuple[tarfile.TarInfo, ...] = ()):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return gzip.compress(out.getvalue(), mtime=0)


@pytest.fixture
def armlinux_files(build):
    """What an archive for armlinux.armv8 holds, with some of what is not wanted."""
    return {
        "cxx/lib/libpaddle_light_api_shared.so": build().read_bytes(),
        "cxx/lib/libpaddle_api_light_bundled.a": b"!<arch>\n",
        "cxx/include/paddle_api.h": b"// api",
        "cxx/include/paddle_place.h": b"// place",
        "cxx/include/notes.txt": b"notes",
        "demo/cxx/deeply/nested/Makefile": b"all:",
    }


@pytest.fixture
def android_files(build, jni, cxx_runtime):
    return {
        "cxx/lib/libpaddle_light_api_shared.so": build(system="android").read_bytes(),
        "cxx/include/paddle_api.h": b"// api",
        "java/so/libpaddle_lite_jni.so": jni().read_bytes(),
        "java/so/libc++_shared.so": cxx_runtime().read_bytes(),
        "java/jar/PaddlePredictor.jar": make_jar(),
    }


def write_archive(tmp_path: Path, files: dict[str, bytes], name: str = "lite.tar.gz", **options) -> Path:
    path = tmp_path / name
    path.write_bytes(make_tar(files, **options))
    return path


def list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def assert_store_empty(home: Path) -> None:
    assert list_files(home) == []


# --- looking into a library


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
    fitting = [name for name, platform in PLATFORMS.items() if runtime_libs._fits(info, platform)]
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
    """Without a symbol table, and without section headers at all, the dynamic segment still tells."""
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
        # Of two, the one with its commit.
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
    assert library_elf.find_version(data) == (version, seen)


@pytest.mark.parametrize("version", list(WHEELS))
def test_real_paddle_lite_is_for_another_machine(version):
    """The wheel's own library, where the toolchain has made its environment: x86, so refused, but read."""
    environments = model_store.platformdirs.user_cache_path("edge-ocr") / "opt"
    found = next(environments.glob(f"{WHEELS[version].version}-py3*/lib/*/site-packages/paddlelite/lite.so"), None)
    if found is None:
        pytest.skip(f"no environment with paddlelite {WHEELS[version].version} on this machine")
    data = found.read_bytes()
    assert library_elf.find_version(data)[0] == f"v{version}"
    assert library_elf._find_with_extra(data) is True
    with pytest.raises(ModelError, match="is for the machine X86_64, expected AARCH64 or ARM"):
        inspect_library(found)


def test_refuses_x86(build):
    with pytest.raises(ModelError, match="is for the machine X86_64, expected AARCH64 or ARM"):
        inspect_library(build("x86"))


def test_refuses_32_bits_for_aarch64(build):
    path = build(flags=("-mabi=ilp32",), system=None)
    with pytest.raises(ModelError, match="is a 32-bit file for AARCH64, expected 64-bit"):
        inspect_library(path)


def test_refuses_a_program(build, tmp_path):
    data = bytearray(build().read_bytes())
    struct.pack_into("<H", data, 16, 2)
    path = tmp_path / "program"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="is ET_EXEC, expected a shared library"):
        inspect_library(path)


def test_refuses_an_object_file(build, tmp_path):
    build()
    out = tmp_path / "object.o"
    subprocess.run([*COMPILERS["armv8"], "-c", "-x", "c++", "-", "-o", out], input=b"int i;", check=True)
    with pytest.raises(ModelError, match="is ET_REL, expected a shared library"):
        inspect_library(out)


@pytest.mark.parametrize(
    ("source", "flags", "message"),
    [
        (CXX, ("-DWITHOUT_SET_MODEL",), "does not export MobileConfig::set_model_from_file$"),
        (CXX, ("-fvisibility=hidden",), "does not export MobileConfig::set_model_from_file, ConfigBase::set_threads"),
        (JNI, ("-DWITHOUT_GET_DATA",), "does not export Tensor_getFloatData$"),
        ("int i;", (), "is not a Paddle-Lite library: exports none of its functions$"),
    ],
)
def test_refuses_missing_symbols(build, source, flags, message):
    with pytest.raises(ModelError, match=message):
        inspect_library(build(source=source, flags=flags))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an ELF file: starts with nothing"),
        (b"MZ\x90\x00", "is not an ELF file: starts with 4d 5a 90 00"),
        (b"!<arch>\nfoo", "is a static library, expected a shared one"),
        (b"!<thin>\nfoo", "is a static library, expected a shared one"),
        (b"\x7fELF", "is a damaged ELF file"),
        (b"\x7fELF\x02\x01\x01" + b"\0" * 9, "is a damaged ELF file"),
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
    with pytest.raises(ModelError, match="is a folder, expected a library"):
        inspect_library(tmp_path)
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        inspect_library(tmp_path / "none.so")
    monkeypatch.setattr(library_elf, "MAX_LIBRARY_BYTES", 3)
    (tmp_path / "big.so").write_bytes(b"1234")
    with pytest.raises(ModelError, match="4 bytes, expected at most 3"):
        inspect_library(tmp_path / "big.so")


def test_symbol_limit(build, monkeypatch):
    monkeypatch.setattr(library_elf, "MAX_SYMBOLS", 3)
    with pytest.raises(ModelError, match="claims more than 3 symbols"):
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
    """Whatever bytes change, it is a ModelError or a library; never anything else, and never endless."""
    original = build(arch, strip=True).read_bytes()
    noise = random.Random(1)
    path = tmp_path / "damaged.so"
    refused = 0
    for _ in range(300):
        data = bytearray(original)
        for _ in range(noise.choice((1, 4, 32))):
            # Headers, tables and names lie at the start and the end; between them there is padding.
            start = noise.choice((0, 0, max(len(data) - 2048, 0)))
            data[start + noise.randrange(min(2048, len(data) - start))] = noise.choice((0, 255, noise.randrange(256)))
        path.write_bytes(data)
        try:
            inspect_library(path)
        except ModelError:
            refused += 1
    assert 50 < refused < 300


# --- adding


def test_add_archive(armlinux_files, home, tmp_path):
    archive = write_archive(tmp_path, armlinux_files)
    library = add_library(archive)
    folder = home / "libs" / "v2.13-rc" / "armlinux.armv8"
    assert library.folder == folder
    assert list_files(folder) == [
        "cxx/include/paddle_api.h",
        "cxx/include/paddle_place.h",
        "cxx/lib/libpaddle_light_api_shared.so",
        "source.json",
    ]
    assert library.library == library.cxx_library == folder / "cxx/lib/libpaddle_light_api_shared.so"
    assert library.include_dir == folder / "cxx/include"
    assert (library.jni_library, library.jar) == (None, None)
    assert (library.actual_version, library.version_evidence, library.version_matches) == ("v2.13-rc", "library", True)
    assert library.concerns == ()
    assert library.source == str(archive)
    record = json.loads((folder / "source.json").read_text())
    assert record["path"] == str(archive)
    assert record["archive_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert record["version_mismatch_allowed"] is False
    assert record["date"]
    content = armlinux_files["cxx/lib/libpaddle_light_api_shared.so"]
    assert record["files"]["cxx/lib/libpaddle_light_api_shared.so"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    assert len(record["files"]) == 3
    assert find_library("armlinux.armv8") == find_library("armlinux.armv8", "2.13-rc") == library
    assert find_library("armlinux.armv8", "v2.12") is None
    assert find_library("android.armv8") is None
    assert list_stored() == [("v2.13-rc", "armlinux.armv8")]
    # Nothing is left of the work.
    assert [path.name for path in (home / "libs").iterdir()] == ["v2.13-rc"]


def test_add_android_archive(android_files, tmp_path):
    library = add_library(write_archive(tmp_path, android_files, top=""), platform="android.armv8")
    assert library.library == library.jni_library
    assert library.library.name == "libpaddle_lite_jni.so"
    assert library.jar.name == "PaddlePredictor.jar"
    assert library.cxx_library.is_file()
    assert library.info.kind == "jni"
    assert library.cxx_runtime == library.jni_library.with_name("libc++_shared.so")
    assert library.concerns == ()
    assert "java/so/libc++_shared.so" in json.loads((library.folder / "source.json").read_text())["files"]


def test_add_plain_tar(armlinux_files, tmp_path):
    path = tmp_path / "lite.tar"
    path.write_bytes(gzip.decompress(make_tar(armlinux_files)))
    assert add_library(path).platform == "armlinux.armv8"


@pytest.mark.parametrize("around", ["", "inference_lite_lib.armlinux.armv8"])
def test_add_folder(armlinux_files, tmp_path, around):
    for name, content in armlinux_files.items():
        path = tmp_path / "unpacked" / around / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    library = add_library(tmp_path / "unpacked")
    assert len(list_files(library.folder)) == 4
    assert json.loads((library.folder / "source.json").read_text())["archive_sha256"] is None


def test_add_folder_with_several(build, tmp_path):
    for name in ("one", "two"):
        path = tmp_path / "unpacked" / name / "cxx/lib/libpaddle_light_api_shared.so"
        path.parent.mkdir(parents=True)
        shutil.copy(build(), path)
    with pytest.raises(ModelError, match="holds several libraries: one, two"):
        add_library(tmp_path / "unpacked")


def test_add_empty_folder(tmp_path, home):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no Paddle-Lite library"):
        add_library(tmp_path / "empty")
    assert_store_empty(home)


def test_add_bare_library(build, tmp_path):
    library = add_library(build("armv7hf"))
    assert library.platform == "armlinux.armv7hf"
    assert library.include_dir is None
    assert library.concerns == ("there are no headers, which compiling a program for the board needs (--include DIR)",)
    headers = tmp_path / "include"
    headers.mkdir()
    with pytest.raises(UsageError, match=r"has no paddle_api\.h"):
        add_library(build(), include_dir=headers)
    for name in ("paddle_api.h", "paddle_place.h", "readme.md"):
        (headers / name).write_text(name)
    library = add_library(build(), include_dir=headers)
    assert sorted(path.name for path in library.include_dir.iterdir()) == ["paddle_api.h", "paddle_place.h"]
    assert library.concerns == ()


def test_include_is_for_a_bare_library_only(armlinux_files, tmp_path):
    with pytest.raises(UsageError, match="is no library file"):
        add_library(write_archive(tmp_path, armlinux_files), include_dir=tmp_path)


def test_add_bare_jni_library(jni):
    library = add_library(jni("armv7"))
    assert library.platform == "android.armv7"
    assert library.cxx_runtime is None
    no_jar, no_runtime = library.concerns
    assert no_jar == "there is no java/jar/PaddlePredictor.jar, the Java classes that go with the JNI library"
    assert no_runtime.startswith("libpaddle_lite_jni.so needs libc++_shared.so, which did not come with it, so an app")
    assert "c++_static" in no_runtime
    assert "edge-ocr libs add --force" in no_runtime


def test_the_cxx_runtime_is_found_where_it_lies(android_files, jni, cxx_runtime, tmp_path):
    # Beside the C++ library, as an archive may have it, and beside a library alone.
    android_files["cxx/lib/libc++_shared.so"] = android_files.pop("java/so/libc++_shared.so")
    archive = write_archive(tmp_path, android_files)
    assert add_library(archive).cxx_runtime is not None
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert add_library(tmp_path / "unpacked", force=True).cxx_runtime is not None
    alone = tmp_path / "libpaddle_lite_jni.so"
    shutil.copy(jni(), alone)
    shutil.copy(cxx_runtime(), tmp_path / "libc++_shared.so")
    assert add_library(alone, force=True).cxx_runtime is not None


def test_the_cxx_runtime_of_the_environment(jni, cxx_runtime, tmp_path, monkeypatch):
    alone = tmp_path / "libpaddle_lite_jni.so"
    shutil.copy(jni(), alone)
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(alone))
    assert any("needs libc++_shared.so" in concern for concern in find_library("android.armv8").concerns)
    shutil.copy(cxx_runtime(), tmp_path / "libc++_shared.so")
    library = find_library("android.armv8")
    assert library.cxx_runtime == tmp_path / "libc++_shared.so"
    assert not any("libc++_shared.so" in concern for concern in library.concerns)


def test_a_cxx_runtime_that_is_not_needed_stays_out(android_files, build, tmp_path):
    bionic = build(system=None, source="", soname="libc.so", texts=())
    android_files["java/so/libpaddle_lite_jni.so"] = build(
        system=None, source=JNI, soname="libpaddle_lite_jni.so", flags=("-Wl,--no-as-needed", str(bionic))
    ).read_bytes()
    library = add_library(write_archive(tmp_path, android_files))
    assert library.info.needed == ("libc.so",)
    assert (library.cxx_runtime, library.concerns) == (None, ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda build, runtime: runtime("armv7"), "libc\\+\\+_shared.so: is for armv7, expected armv8"),
        (lambda build, runtime: build(system="android"), "is not the libc\\+\\+_shared.so of an Android NDK"),
        (lambda build, runtime: build(soname="libc++_shared.so"), "is not the libc\\+\\+_shared.so of an Android NDK"),
        (lambda build, runtime: None, "is not an ELF file"),
    ],
)
def test_what_is_no_cxx_runtime_is_refused(android_files, build, cxx_runtime, tmp_path, home, make, message):
    made = make(build, cxx_runtime)
    android_files["java/so/libc++_shared.so"] = b"text" if made is None else made.read_bytes()
    with pytest.raises(ModelError, match=message):
        add_library(write_archive(tmp_path, android_files))
    assert_store_empty(home)


def test_a_cxx_runtime_of_small_pages_is_named(android_files, cxx_runtime, tmp_path):
    android_files["java/so/libc++_shared.so"] = cxx_runtime(page=4096).read_bytes()
    (concern,) = add_library(write_archive(tmp_path, android_files)).concerns
    assert concern.startswith("libc++_shared.so is not aligned to 16384 bytes: devices with Android 15")


WANTS = {
    "of the C library": 'extern "C" int* __errno_location(); extern "C" int* use() { return __errno_location(); }',
    "of libstdc++": 'extern "C" void _ZNSt7__cxx116stringE(); extern "C" void use() { _ZNSt7__cxx116stringE(); }',
}


@pytest.mark.parametrize("what", WANTS)
def test_a_library_that_asks_android_for_what_it_has_not_is_refused(jni, home, what):
    with pytest.raises(ModelError, match=r"needs (__errno_location|_ZNSt7__cxx11\w+), which Android does not have"):
        add_library(jni(source=JNI + WANTS[what]))
    assert_store_empty(home)


def test_versions_of_glibc_are_seen(build):
    source = CXX + 'extern "C" int puts(const char*); extern "C" int use() { return puts(""); }'
    info = inspect_library(build(source=source))
    assert [name for name in info.linux_symbols if name.startswith("GLIBC_2.")]
    # What may be missing does no harm.
    weak = (
        'extern "C" __attribute__((weak)) int* __errno_location(); extern "C" bool use() { return __errno_location; }'
    )
    assert inspect_library(build(system="android", source=CXX + weak)).linux_symbols == ()


def test_a_library_that_the_app_must_bring_is_named(build, tmp_path):
    other = build(system=None, source="", soname="libopencv_java4.so", texts=())
    (concern,) = [
        concern
        for concern in add_library(
            build(
                source=JNI, system="android", soname="libpaddle_lite_jni.so", flags=("-Wl,--no-as-needed", str(other))
            )
        ).concerns
        if "libopencv" in concern
    ]
    assert (
        concern
        == "libpaddle_lite_jni.so needs libopencv_java4.so, which Android does not have: the app must bring it along"
    )


def test_jni_library_for_linux_is_refused(jni):
    with pytest.raises(ModelError, match=r"is for armlinux\.armv8 \(JNI\)"):
        add_library(jni(system="armlinux"))


def test_soft_float_linux_is_refused(build):
    # There is no soft-float C library here to link: the platform asked for decides.
    path = build("armv7", system=None)
    assert add_library(path).platform == "android.armv7"
    with pytest.raises(ModelError, match=r"is for armv7, expected armlinux\.armv7hf"):
        add_library(path, platform="armlinux.armv7hf")


@pytest.mark.parametrize(
    ("arch", "system", "platform"),
    [
        ("armv8", "armlinux", "armlinux.armv7hf"),
        ("armv7hf", "armlinux", "armlinux.armv8"),
        ("armv8", "armlinux", "android.armv8"),
        ("armv8", "android", "armlinux.armv8"),
        ("armv7", "android", "armlinux.armv7hf"),
    ],
)
def test_wrong_platform(build, home, arch, system, platform):
    with pytest.raises(ModelError, match=rf"is for {system}\.{arch}, expected {platform}$") as caught:
        add_library(build(arch, system=system), platform=platform)
    assert asset_url(platform) in caught.value.hint
    assert_store_empty(home)


def test_system_that_the_library_does_not_tell(build):
    path = build(system=None)
    with pytest.raises(UsageError, match="does not tell its system") as caught:
        add_library(path)
    assert caught.value.hint == "give --platform armlinux.armv8 or android.armv8"
    assert add_library(path, platform="android.armv8").platform == "android.armv8"


def test_archive_of_two_machines(android_files, jni, tmp_path, home):
    android_files["java/so/libpaddle_lite_jni.so"] = jni("armv7").read_bytes()
    with pytest.raises(ModelError, match=r"is for android\.armv7 \(JNI\) and android\.armv8$"):
        add_library(write_archive(tmp_path, android_files))
    assert_store_empty(home)


def test_wrong_library_at_a_place(android_files, build, tmp_path):
    android_files["java/so/libpaddle_lite_jni.so"] = build(system="android").read_bytes()
    with pytest.raises(ModelError, match=r"java/so/libpaddle_lite_jni\.so: is the cxx library, expected the jni one"):
        add_library(write_archive(tmp_path, android_files))


@pytest.mark.parametrize(
    ("jar", "message"),
    [(b"no zip", r"is no readable \.jar"), (make_jar(("Other.class",)), "lacks com/baidu/paddle/lite/PaddlePredictor")],
)
def test_broken_jar(android_files, tmp_path, home, jar, message):
    android_files["java/jar/PaddlePredictor.jar"] = jar
    with pytest.raises(ModelError, match=message):
        add_library(write_archive(tmp_path, android_files))
    assert_store_empty(home)


@pytest.mark.parametrize(
    ("texts", "told", "actual"),
    [
        (("\\0v2.12",), "is of Paddle-Lite v2.12", "v2.12"),
        (("\\0v2.12", "\\0v2.13-rc"), "names several versions: v2.12, v2.13-rc", None),
        ((), "does not tell its version", None),
    ],
)
def test_another_version(build, home, texts, told, actual):
    path = build(texts=(*texts, EXTRA))
    with pytest.raises(ModelError, match=rf"{told}, expected v2\.13-rc$") as caught:
        add_library(path)
    assert "--allow-version-mismatch" in caught.value.hint
    assert asset_url("armlinux.armv8") in caught.value.hint
    assert_store_empty(home)
    library = add_library(path, allow_version_mismatch=True)
    assert (library.version, library.actual_version, library.version_matches) == ("v2.13-rc", actual, False)
    assert library.concerns[0].startswith(f"VERSION MISMATCH: the library is of {actual or 'unknown version'}")
    assert json.loads((library.folder / "source.json").read_text())["version_mismatch_allowed"] is True
    # It was allowed once, for this one, and says so ever after.
    assert find_library("armlinux.armv8") == library


def test_its_own_version(build):
    library = add_library(build(texts=("\\0v2.12", EXTRA)), version="2.12")
    assert library.folder.parent.name == "v2.12"
    assert library.version_matches
    assert find_library("armlinux.armv8") is None
    assert find_library("armlinux.armv8", "2.12") == library


def test_libraries_of_two_versions_in_one_archive(android_files, jni, tmp_path):
    android_files["java/so/libpaddle_lite_jni.so"] = jni(texts=("\\0v2.12", EXTRA)).read_bytes()
    with pytest.raises(ModelError, match=r"names several versions: v2\.12, v2\.13-rc"):
        add_library(write_archive(tmp_path, android_files))


def test_one_that_tells_its_version_speaks_for_both(android_files, jni, tmp_path):
    android_files["java/so/libpaddle_lite_jni.so"] = jni(texts=(EXTRA,)).read_bytes()
    assert add_library(write_archive(tmp_path, android_files)).version_evidence == "library"


def test_concerns(build, jni):
    library = add_library(build(texts=("\\0v2.13-rc", BASIC), page=4096, soname="libother.so", system="android"))
    assert [concern.split(":")[0] for concern in library.concerns] == [
        "libpaddle_light_api_shared.so was built without `with_extra`",
        "libpaddle_light_api_shared.so calls itself libother.so; a program linked with it will look for that name",
        "libpaddle_light_api_shared.so is aligned to 4096 bytes",
        "there is no java/so/libpaddle_lite_jni.so, which an Android app in Java or Kotlin needs",
    ]
    assert "Android 15" in library.concerns[2]
    # No device with 32-bit code has such pages.
    assert not any("aligned" in concern for concern in add_library(jni("armv7", page=4096)).concerns)
    concerns = add_library(build(texts=("\\0v2.13-rc",), page=4096), force=True).concerns
    assert "does not tell whether it was built `with_extra`" in concerns[0]
    assert "Raspberry Pi 5" in concerns[1]


def test_there_is_one_already(build, tmp_path):
    first = add_library(build())
    with pytest.raises(UsageError, match="there is a library already") as caught:
        add_library(build())
    assert caught.value.hint == "--force replaces it"
    with pytest.raises(UsageError, match="there is a library already"):
        add_library(build(), platform="armlinux.armv8")
    second = add_library(build(page=65536), force=True)
    assert second.folder == first.folder
    assert second.info != first.info
    # A failed replacement leaves it.
    with pytest.raises(ModelError):
        add_library(build(texts=(EXTRA,)), force=True)
    assert find_library("armlinux.armv8") == second


@pytest.mark.parametrize("version", ["", "2", "v2.13-rc/..", "../v2.13", "latest", "v2.13-rc\n"])
def test_no_version(version, build):
    with pytest.raises(UsageError, match="is no Paddle-Lite version"):
        normalise_version(version)
    with pytest.raises(UsageError):
        add_library(build(), version=version)


def test_unknown_platform(tmp_path):
    for use in (find_library, open_stored, fetch_library, asset_url):
        with pytest.raises(UsageError, match=r"unknown platform 'armlinux\.armv9'") as caught:
            use("armlinux.armv9")
        assert "armlinux.armv7hf" in caught.value.hint
    with pytest.raises(UsageError, match="unknown platform"):
        add_library(tmp_path, platform="x86")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is neither a .tar.gz nor a shared library: starts with nothing"),
        (b"PK\x03\x04zip", "is neither a .tar.gz nor a shared library: starts with 50 4b 03 04"),
        (b"!<arch>\n", "is a static library"),
        (b"\x1f\x8bnot gzip", "is no readable gzip file"),
        (gzip.compress(b"no tar" * 1000), "is no readable tar"),
        (make_tar({"readme": b"x"}), "holds no Paddle-Lite library"),
    ],
)
def test_what_cannot_be_added(tmp_path, home, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        add_library(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert_store_empty(home)


def test_missing_path(tmp_path):
    with pytest.raises(ModelError, match="there is no such file or folder"):
        add_library(tmp_path / "none.tar.gz")


def make_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (make_member("../evil.so"), "whose path leaves its folder"),
        (make_member("/cxx/include/evil.h"), "whose path leaves its folder"),
        (make_member("top/../../cxx/include/evil.h"), "whose path leaves its folder"),
        (make_member("top/cxx\\include\\evil.h"), "whose path leaves its folder"),
        (make_member("top/link", tarfile.SYMTYPE, "/etc/passwd"), "neither a plain file nor a folder"),
        (make_member("top/cxx/include/link.h", tarfile.LNKTYPE, "top/demo"), "neither a plain file nor a folder"),
        (make_member("top/pipe", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
        (make_member("other/cxx/include/paddle_api.h"), "holds paddle_api.h twice"),
    ],
)
def test_hostile_archives(armlinux_files, tmp_path, home, member, message):
    with pytest.raises(ModelError, match=message):
        add_library(write_archive(tmp_path, armlinux_files, extra=(member,)))
    assert_store_empty(home)
    assert not (tmp_path / "evil.so").exists()


def test_archive_limits(armlinux_files, tmp_path, home, monkeypatch):
    archive = write_archive(tmp_path, armlinux_files)
    monkeypatch.setattr(runtime_libs, "MAX_MEMBERS", 5)
    with pytest.raises(ModelError, match="holds more than 5 members"):
        add_library(archive)
    # As for a small file that unpacks to zeros without end.
    monkeypatch.setattr(model_store, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(ModelError, match="unpacks to more than 1000 bytes"):
        add_library(archive)
    assert_store_empty(home)


def test_truncated_archive(armlinux_files, tmp_path, home):
    data = make_tar(armlinux_files)
    path = tmp_path / "cut.tar.gz"
    for size in range(20, len(data) - 1, len(data) // 12):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError):
            add_library(path)
    assert_store_empty(home)


def test_interrupted(armlinux_files, tmp_path, home, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_store, "write_source", stop)
    with pytest.raises(KeyboardInterrupt):
        add_library(write_archive(tmp_path, armlinux_files))
    assert_store_empty(home)
    assert list_stored() == []


def test_store_that_cannot_be_written(build, home):
    home.write_text("a file")
    with pytest.raises(ModelError, match="cannot write to the model store"):
        add_library(build())


# --- what lies in the store


def test_damaged_store(build):
    library = add_library(build())
    with library.library.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    with pytest.raises(ModelError, match="is damaged: sha256 expected") as caught:
        find_library("armlinux.armv8")
    assert "edge-ocr libs fetch --platform armlinux.armv8" in caught.value.hint
    library.library.unlink()
    with pytest.raises(ModelError, match="is missing"):
        find_library("armlinux.armv8")


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"files": {"a": 1}}', '{"files": []}'])
def test_damaged_record(build, record):
    library = add_library(build())
    (library.folder / "source.json").write_text(record)
    with pytest.raises(ModelError, match=r"source\.json is damaged"):
        find_library("armlinux.armv8")


def test_placed_by_hand(build, home):
    place = home / "libs/v2.13-rc/armlinux.armv8/cxx/lib"
    place.mkdir(parents=True)
    shutil.copy(build(), place / "libpaddle_light_api_shared.so")
    library = find_library("armlinux.armv8")
    assert library.source == "placed by hand"
    shutil.copy(build(texts=("\\0v2.12",)), place / "libpaddle_light_api_shared.so")
    with pytest.raises(ModelError, match=r"is of Paddle-Lite v2\.12, expected v2\.13-rc"):
        find_library("armlinux.armv8")
    shutil.copy(build("armv7hf"), place / "libpaddle_light_api_shared.so")
    with pytest.raises(ModelError, match=r"is for armlinux\.armv7hf, expected armlinux\.armv8"):
        find_library("armlinux.armv8")


def test_library_of_the_environment(build, monkeypatch, tmp_path):
    stored = add_library(build("armv7hf"))
    path = tmp_path / "cxx/lib/mine.so"
    path.parent.mkdir(parents=True)
    shutil.copy(build(), path)
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(path))
    library = find_library("armlinux.armv8")
    assert (library.library, library.folder, library.source) == (path, path.parent, "EDGE_OCR_LITE_LIB")
    assert library.include_dir is None
    (tmp_path / "cxx/include").mkdir()
    (tmp_path / "cxx/include/paddle_api.h").write_text("")
    assert find_library("armlinux.armv8").include_dir == tmp_path / "cxx/include"
    # For another platform, the store counts; this one alone is not in the store.
    assert find_library("armlinux.armv7hf") == stored
    assert find_library("android.armv8") is None
    assert open_stored("armlinux.armv8") is None


def test_unfit_library_of_the_environment(build, monkeypatch, tmp_path):
    add_library(build())
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(build(texts=("\\0v2.12",))))
    with pytest.raises(ModelError, match=r"EDGE_OCR_LITE_LIB=.*: is of Paddle-Lite v2\.12, expected v2\.13-rc"):
        find_library("armlinux.armv8")
    monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(tmp_path / "none.so"))
    with pytest.raises(ModelError, match=r"EDGE_OCR_LITE_LIB=.*none\.so: cannot be read: No such file"):
        find_library("armlinux.armv8")


# --- fetching


class Mirror:
    """A loopback server of archives: path -> body."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.requests: list[str] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                body = mirror.answers.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def mirror(monkeypatch):
    served = Mirror()
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("EDGE_OCR_LITE_URL", served.url + "/")
    yield served
    served.server.shutdown()
    served.server.server_close()
    thread.join()


ASSET = "/v2.13-rc/inference_lite_lib.armlinux.armv8.gcc.with_extra.with_cv.tar.gz"


def test_official_urls():
    base = "https://github.com/PaddlePaddle/Paddle-Lite/releases/download/v2.13-rc/inference_lite_lib."
    assert [asset_url(platform) for platform in PLATFORMS] == [
        base + "armlinux.armv8.gcc.with_extra.with_cv.tar.gz",
        base + "armlinux.armv7hf.gcc.with_extra.with_cv.tar.gz",
        base + "android.armv8.clang.c++_shared.with_extra.with_cv.tar.gz",
        base + "android.armv7.clang.c++_shared.with_extra.with_cv.tar.gz",
    ]
    assert "/v2.12/" in asset_url("android.armv7", "2.12")


def test_fetch(mirror, armlinux_files, home):
    body = mirror.answers[ASSET] = make_tar(armlinux_files)
    reports: list[tuple[int, int | None]] = []
    library = fetch_library("armlinux.armv8", progress=lambda *report: reports.append(report))
    assert reports[-1] == (len(body), len(body))
    assert library.source == mirror.url + ASSET
    record = json.loads((library.folder / "source.json").read_text())
    assert record["url"] == mirror.url + ASSET
    assert record["archive_sha256"] == hashlib.sha256(body).hexdigest()
    # From the store from now on.
    assert fetch_library("armlinux.armv8") == find_library("armlinux.armv8") == library
    assert mirror.requests == [ASSET]
    assert fetch_library("armlinux.armv8", force=True).concerns == ()
    assert len(mirror.requests) == 2


def test_fetched_archive_that_changed(mirror, armlinux_files):
    mirror.answers[ASSET] = make_tar(armlinux_files)
    fetch_library("armlinux.armv8")
    mirror.answers[ASSET] = make_tar({**armlinux_files, "cxx/include/paddle_api.h": b"// changed"})
    library = fetch_library("armlinux.armv8", force=True)
    assert "has changed: sha256 was" in library.concerns[0]
    assert (library.include_dir / "paddle_api.h").read_bytes() == b"// changed"


def test_fetched_library_that_does_not_tell_its_version(mirror, armlinux_files, build):
    armlinux_files["cxx/lib/libpaddle_light_api_shared.so"] = build(texts=(EXTRA,)).read_bytes()
    mirror.answers[ASSET] = make_tar(armlinux_files)
    library = fetch_library("armlinux.armv8")
    assert (library.actual_version, library.version_evidence) == ("v2.13-rc", "release")
    assert library.concerns == (
        "the library does not tell its version; it was fetched as v2.13-rc and is taken for that",
    )
    assert find_library("armlinux.armv8") == library


def test_fetched_library_of_another_version(mirror, armlinux_files, build, home):
    armlinux_files["cxx/lib/libpaddle_light_api_shared.so"] = build(texts=("\\0v2.12", EXTRA)).read_bytes()
    mirror.answers[ASSET] = make_tar(armlinux_files)
    with pytest.raises(ModelError, match=r"http://127.*: is of Paddle-Lite v2\.12, expected v2\.13-rc"):
        fetch_library("armlinux.armv8")
    assert_store_empty(home)


def test_fetched_library_for_another_machine(mirror, armlinux_files, build, home):
    armlinux_files["cxx/lib/libpaddle_light_api_shared.so"] = build("armv7hf").read_bytes()
    mirror.answers[ASSET] = make_tar(armlinux_files)
    with pytest.raises(ModelError, match=r"is for armlinux\.armv7hf, expected armlinux\.armv8"):
        fetch_library("armlinux.armv8")
    assert_store_empty(home)


def test_fetch_fails(mirror, home, monkeypatch):
    with pytest.raises(ModelError, match=r"cannot download http://127.*404") as caught:
        fetch_library("armlinux.armv8")
    assert "edge-ocr libs add FILE" in caught.value.hint
    mirror.answers[ASSET] = b"no archive"
    with pytest.raises(ModelError, match="is no readable tar"):
        fetch_library("armlinux.armv8")
    monkeypatch.setattr(model_store, "MAX_ARCHIVE_BYTES", 5)
    with pytest.raises(ModelError, match="expected at most 5 bytes"):
        fetch_library("armlinux.armv8")
    assert_store_empty(home)


def test_failed_force_keeps_the_old(mirror, armlinux_files):
    mirror.answers[ASSET] = make_tar(armlinux_files)
    library = fetch_library("armlinux.armv8")
    mirror.answers[ASSET] = b"no archive"
    with pytest.raises(ModelError):
        fetch_library("armlinux.armv8", force=True)
    assert find_library("armlinux.armv8") == library
