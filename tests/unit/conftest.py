"""Shared by the tests of the export and of boards: small Paddle-Lite libraries, made by compilers."""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.libraries import COMPILERS, CXX, JNI

from converters.export import export_bundle
from converters.lite.libraries.store import add_library
from converters.plan import ExportOptions, ExportReport
from edge_ocr.config import load_config

STAND_IN = Path(__file__).with_name("stand_in")
EXTRA = "Error: This model is not supported, because operator '"


@pytest.fixture(scope="session")
def headers(tmp_path_factory) -> Path:
    """A folder with Paddle-Lite's header, reduced to what our programs need."""
    folder = tmp_path_factory.mktemp("include")
    shutil.copy(STAND_IN / "paddle_api.h", folder)
    return folder


@pytest.fixture(scope="session")
def compile_stand_in(headers, tmp_path_factory) -> Callable[..., Path]:
    """Compile a library that does what a model's file says."""

    @functools.cache
    def compile_library(
        compiler: str, *, version: str = "v2.13-rc", soname: str = "libpaddle_light_api_shared.so"
    ) -> Path:
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        out = tmp_path_factory.mktemp("library") / "libpaddle_light_api_shared.so"
        command = [compiler, "-O1", "-fPIC", "-shared", "-I", headers, f'-DVERSION="{version}"']
        command += [*([f"-Wl,-soname,{soname}"] if soname else []), STAND_IN / "paddle_lite.cpp", "-o", out]
        subprocess.run(command, check=True)
        return out

    return compile_library


@pytest.fixture(scope="session")
def lite_library(tmp_path_factory) -> Callable[..., Path]:
    """Compile a library with Paddle-Lite's functions, for boards or for Android's Java."""
    folder = tmp_path_factory.mktemp("lite")

    @functools.cache
    def compile_library(
        arch: str,
        *,
        version: str = "v2.13-rc",
        jni: bool = False,
        android: bool = False,
        needs: tuple[str, ...] = ("libc.so",),
        page: int = 16384,
    ) -> Path:
        compiler = COMPILERS[arch]
        if shutil.which(compiler[0]) is None:
            pytest.skip(f"{compiler[0]} is not installed")
        out = folder / str(len(list(folder.iterdir()))) / f"libpaddle_{'lite_jni' if jni else 'light_api_shared'}.so"
        out.parent.mkdir()
        texts = (
            f'extern "C" const char text_0[] = "\\0{version}\\0abc1234"; extern "C" const char text_1[] = "{EXTRA}";'
        )
        command = [
            *compiler,
            "-Os",
            "-fPIC",
            "-shared",
            "-nostdlib",
            "-w",
            "-Wl,--no-as-needed",
            f"-Wl,-soname,{out.name}",
        ]
        command += [f"-Wl,-z,max-page-size={page}", "-o", str(out), "-x", "c++", "-", "-x", "none"]
        if jni or android:
            # Android's C library is known by its name, which has no number.
            for name in needs:
                empty = [*compiler, "-shared", "-nostdlib", f"-Wl,-soname,{name}", "-o", out.with_name(name)]
                subprocess.run([*empty, "-x", "c++", os.devnull], check=True)
                command.append(str(out.with_name(name)))
        else:
            command.append("-lc")
        subprocess.run(command, input=((JNI if jni else CXX) + texts).encode(), check=True)
        return out

    return compile_library


@pytest.fixture(scope="session")
def android_folder(lite_library, tmp_path_factory) -> Callable[[str], Path]:
    """Arrange a JNI library and its .jar as in Paddle-Lite's archive for Android."""

    def lay_out(arch: str, **options: object) -> Path:
        folder = tmp_path_factory.mktemp("inference_lite_lib")
        (folder / "java" / "so").mkdir(parents=True)
        (folder / "java" / "jar").mkdir()
        shutil.copy(lite_library(arch, jni=True, **options), folder / "java" / "so")
        jar = io.BytesIO()
        with zipfile.ZipFile(jar, "w") as archive:
            archive.writestr(zipfile.ZipInfo("com/baidu/paddle/lite/PaddlePredictor.class"), b"class")
        (folder / "java" / "jar" / "PaddlePredictor.jar").write_bytes(jar.getvalue())
        return folder

    return lay_out


@pytest.fixture(scope="session")
def android_export(opt, make_home, android_folder, tmp_path_factory) -> ExportReport:
    """An Android project with libraries for both ABIs, the first of which is aligned to 4 KB; do not change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_OCR_HOME", str(make_home()))
        patch.delenv("EDGE_OCR_LITE_LIB", raising=False)
        for folder in (android_folder("armv8", page=4096), android_folder("armv7")):
            add_library(folder)
        options = ExportOptions(
            precision="int8", abis=("arm64-v8a", "armeabi-v7a"), engine="paddle_lite", verify=False, zip=True
        )
        return export_bundle("android", tmp_path_factory.mktemp("android") / "project", load_config("OCR"), options)


@pytest.fixture
def project(android_export, tmp_path) -> Path:
    """A copy of that project; its files are hard links: replace them, do not write to them."""
    return shutil.copytree(android_export.out_dir, tmp_path / "project", copy_function=os.link)
