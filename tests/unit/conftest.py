"""Shared by the tests of the export: opt, bundles that are made once, and Paddle-Lite libraries of a few functions."""

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

from converters.export import ExportOptions, ExportReport, export_bundle
from edge_ocr.config import load_config
from edge_ocr.models import store_root

COMPILERS = {
    "armv8": ["aarch64-linux-gnu-g++"],
    "armv7hf": ["arm-linux-gnueabihf-g++"],
    "armv7": ["arm-linux-gnueabihf-g++", "-mfloat-abi=softfp"],
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
void MobileConfig::set_model_from_file(const std::string&) {}
void Tensor::Resize(const std::string&) {}
int Tensor::shape() const { return 0; }
template <typename C> __attribute__((visibility("default"))) std::shared_ptr<PaddlePredictor>
CreatePaddlePredictor(const C&);
template <> __attribute__((visibility("default"))) std::shared_ptr<PaddlePredictor>
CreatePaddlePredictor(const MobileConfig&) { return std::shared_ptr<PaddlePredictor>(); }
} }
"""
JNI = """
extern "C" {
void Java_com_baidu_paddle_lite_PaddlePredictor_newCppPaddlePredictor__Lcom_baidu_paddle_lite_MobileConfig_2() {}
void Java_com_baidu_paddle_lite_PaddlePredictor_run() {}
void Java_com_baidu_paddle_lite_Tensor_nativeResize() {}
void Java_com_baidu_paddle_lite_Tensor_getFloatData() {}
}
"""
EXTRA = "Error: This model is not supported, because operator '"


@pytest.fixture(scope="session")
def make_home(default_models, tmp_path_factory) -> Callable[[], Path]:
    """Make a store with the models and the tools of this machine's own, and with no libraries."""

    def make() -> Path:
        home = tmp_path_factory.mktemp("home")
        for area in ("models", "opt"):
            (store_root() / area).mkdir(parents=True, exist_ok=True)
            (home / area).symlink_to(store_root().absolute() / area, target_is_directory=True)
        return home

    return make


@pytest.fixture(scope="session")
def export(opt, make_home, tmp_path_factory) -> Callable[..., ExportReport]:
    """Export the default models, or return the bundle that was made with the same arguments; do not change it."""
    home = make_home()

    @functools.cache
    def make(target: str = "arm", *, with_cls: bool = False, **options: object) -> ExportReport:
        config = load_config("OCR", {"Pipeline.use_text_line_orientation": with_cls})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGE_OCR_HOME", str(home))
            patch.delenv("EDGE_OCR_LITE_LIB", raising=False)
            out = tmp_path_factory.mktemp("export") / "bundle"
            # Tests of verification ask for it; the others would pay a second each.
            return export_bundle(target, out, config, ExportOptions(**{"verify": False, **options}))

    return make


@pytest.fixture(scope="session")
def lite_library(tmp_path_factory) -> Callable[..., Path]:
    """Compile a library with the functions that Paddle-Lite's has, for boards or for Android's Java."""
    folder = tmp_path_factory.mktemp("lite")

    @functools.cache
    def compile_library(arch: str, *, version: str = "v2.13-rc", jni: bool = False, page: int = 16384) -> Path:
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
        if jni:
            # Android's C library is known by its name, which has no number.
            bionic = out.with_name("libc.so")
            empty = [*compiler, "-shared", "-nostdlib", "-Wl,-soname,libc.so", "-o", bionic, "-x", "c++", os.devnull]
            subprocess.run(empty, check=True)
            command.append(str(bionic))
        else:
            command.append("-lc")
        subprocess.run(command, input=((JNI if jni else CXX) + texts).encode(), check=True)
        return out

    return compile_library


@pytest.fixture(scope="session")
def android_folder(lite_library, tmp_path_factory) -> Callable[[str], Path]:
    """Lay a JNI library and its .jar out as Paddle-Lite's archive for Android does."""

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
