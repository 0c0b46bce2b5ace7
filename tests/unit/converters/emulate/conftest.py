"""What counting needs: an emulator that loads plugins, two compilers, and a stand-in for Paddle-Lite."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.emulate.plugin import find_emulator
from edge_ocr.errors import NotVerifiedError

COMPILER = "aarch64-linux-gnu-g++"


@pytest.fixture(scope="session")
def emulator() -> str:
    for name in ("cc", COMPILER):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    try:
        return find_emulator()
    except NotVerifiedError as error:
        pytest.skip(error.message)


@pytest.fixture
def use_stand_in(emulator, compile_stand_in, headers, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Make EDGE_OCR_LITE_LIB name a stand-in, laid out as in Paddle-Lite's archive."""

    def use(**options: str) -> Path:
        folder = tmp_path / "cxx"
        (folder / "lib").mkdir(parents=True)
        library = Path(shutil.copy(compile_stand_in(COMPILER, **options), folder / "lib"))
        shutil.copytree(headers, folder / "include")
        monkeypatch.setenv("EDGE_OCR_LITE_LIB", str(library))
        return library

    return use
