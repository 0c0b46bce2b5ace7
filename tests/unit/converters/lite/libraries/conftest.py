"""Paddle-Lite libraries made by cross compilers from a few lines of C++, and archives of them."""

from __future__ import annotations

import functools
import gzip
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.libraries import COMPILERS, CXX, JNI

CXX_RUNTIME = 'extern "C" { void _ZNSt6__ndk16thread4joinEv() {} }'


EXTRA = "\\nError: This model is not supported, because operator '"


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Compile a library and return its path, which tests share: copy it before changing it."""
    folder = tmp_path_factory.mktemp("libraries")

    @functools.cache
    def compile_library(
        arch: str = "armv8",
        *,
        system: str | None = "armlinux",
        source: str = CXX,
        more: str = "",
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
        code.write_text(source + more + "\n".join(constants))
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
    """Compile an imitation of the libc++_shared.so of an Android NDK."""
    return functools.partial(build, system=None, source=CXX_RUNTIME, soname="libc++_shared.so", texts=())


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EDGE_OCR_LITE_LIB", raising=False)
    monkeypatch.delenv("EDGE_OCR_LITE_URL", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


def _make_jar(classes: tuple[str, ...] = ("com/baidu/paddle/lite/PaddlePredictor.class",)) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in classes:
            archive.writestr(name, b"class")
    return out.getvalue()


def _make_tar(files: dict[str, bytes], *, top: str = "inference_lite_lib/", extra: tuple[tarfile.TarInfo, ...] = ()):
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
    """The content of an archive for armlinux.armv8, including files that are skipped."""
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
        "java/jar/PaddlePredictor.jar": _make_jar(),
    }


def _write_archive(tmp_path: Path, files: dict[str, bytes], name: str = "lite.tar.gz", **options) -> Path:
    path = tmp_path / name
    path.write_bytes(_make_tar(files, **options))
    return path


def _list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _assert_store_empty(home: Path) -> None:
    assert _list_files(home) == []


@pytest.fixture
def make_jar() -> Callable[..., bytes]:
    return _make_jar


@pytest.fixture
def make_tar() -> Callable[..., bytes]:
    return _make_tar


@pytest.fixture
def write_archive() -> Callable[..., Path]:
    return _write_archive


@pytest.fixture
def list_files() -> Callable[..., list[str]]:
    return _list_files


@pytest.fixture
def assert_store_empty() -> Callable[..., None]:
    return _assert_store_empty
