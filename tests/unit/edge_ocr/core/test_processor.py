"""What a board's processor is, and what Paddle-Lite makes of it, compared with the real library under qemu."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from support import cpuinfo
from support.paddle_programs import build, conv, draw

from converters.lite.libraries.elf import inspect_library
from converters.lite.opt import run_opt
from edge_ocr.core import processor as module
from edge_ocr.core.processor import parse_processor, read_processor

A76 = "Cortex-A76 (part 0xd0b)"


@pytest.mark.parametrize(
    ("text", "cores", "has_dot", "lite_dot", "lite_fp16", "unlisted"),
    [
        (cpuinfo.PI_3_32_BIT, {"Cortex-A53": 4}, None, False, False, ["Cortex-A53 (part 0xd03)"]),
        (cpuinfo.PI_4, {"Cortex-A72": 4}, False, False, False, ["Cortex-A72 (part 0xd08)"]),
        (cpuinfo.PI_5, {"Cortex-A76": 4}, True, False, False, [A76]),
        (cpuinfo.RK3588, {"Cortex-A55": 4, "Cortex-A76": 4}, True, False, True, [A76]),
        (cpuinfo.RK3568, {"Cortex-A55": 4}, True, True, True, []),
        (cpuinfo.SC9863A, {"Cortex-A55": 8}, False, True, True, []),
        (cpuinfo.CORTEX_A75, {"Cortex-A75": 2, "Cortex-A55": 4}, True, False, True, ["Cortex-A75 (part 0xd0a)"]),
        (cpuinfo.CORTEX_A510, {"Cortex-A510": 4}, True, True, False, []),
        (cpuinfo.SNAPDRAGON_855, {"Kryo 4xx Silver": 4, "Kryo 4xx Gold": 4}, True, True, True, []),
        (cpuinfo.JETSON_XAVIER, {"NVIDIA Carmel": 6}, False, False, False, ["NVIDIA Carmel (part 0x004)"]),
        (cpuinfo.JETSON_ORIN, {"Cortex-A78AE": 6}, True, False, False, ["Cortex-A78AE (part 0xd42)"]),
        # Its part is the one that Paddle-Lite takes for Cortex-A76.
        (cpuinfo.GRAVITON_3, {"Neoverse-V1": 2}, True, True, True, []),
        (cpuinfo.OLD_SYSTEM, {"Cortex-A53": 2}, False, False, False, ["Cortex-A53 (part 0xd03)"]),
    ],
)
def test_processors_of_boards(text, cores, has_dot, lite_dot, lite_fp16, unlisted):
    found = parse_processor(text)
    assert found is not None
    assert (found.cores, found.has_dot, found.lite_dot, found.lite_fp16) == (cores, has_dot, lite_dot, lite_fp16)
    assert found.unlisted == unlisted
    assert json.loads(json.dumps(asdict(found))) == asdict(found)


def test_features_are_those_of_every_core():
    assert parse_processor(cpuinfo.GRAVITON_3).features == ["asimddp", "asimdhp", "i8mm", "sve"]
    mixed = cpuinfo.write_cores((1, "0xd05"), features=cpuinfo.DOT)
    mixed += cpuinfo.write_cores((1, "0xd05"), features=cpuinfo.V82)
    found = parse_processor(mixed)
    assert (found.features, found.has_dot) == (["asimdhp"], False)
    # Linux 6.2 and newer say so on 32-bit systems, too.
    assert parse_processor(cpuinfo.write_cores((1, "0xd05"), features=f"{cpuinfo.V7} asimddp")).has_dot is True


def test_unknown_and_damaged_parts_are_unlisted():
    found = parse_processor("CPU implementer : 0x61\nCPU part : 0x022\nCPU part :\nCPU part : 0xd0g\nCPU part\n")
    name = "unknown core of implementer 0x61"
    assert found.cores == {name: 4}
    assert found.unlisted == [f"{name} (part 0x022)", f"{name} (part 0x000)"]
    assert not found.lite_dot
    assert found.has_dot is None


@pytest.mark.parametrize("text", ["", "\0\xff:\n::\n", cpuinfo.X86, "processor\t: 0\nFeatures\t: neon asimddp\n"])
def test_what_names_no_arm_core_is_no_processor(text):
    assert parse_processor(text) is None


def test_a_system_that_does_not_describe_its_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "cpuinfo")
    assert read_processor() is None
    (tmp_path / "cpuinfo").write_bytes(b"\xff\n" + cpuinfo.PI_5.encode())
    assert read_processor().cores == {"Cortex-A76": 4}


def test_the_description_names_what_keeps_dot_products_from_being_used():
    assert parse_processor(cpuinfo.RK3588).describe() == (
        "processor: 4 × Cortex-A55, 4 × Cortex-A76; dot products, fp16",
        f"Paddle-Lite 2.13: no dot products in int8 kernels, because its list lacks {A76}; "
        "fp16 only in a library built for it",
    )
    assert parse_processor(cpuinfo.PI_4).describe() == (
        "processor: 4 × Cortex-A72; no dot products",
        "Paddle-Lite 2.13: no dot products in int8 kernels; no fp16",
    )
    assert parse_processor(cpuinfo.RK3568).describe()[1].startswith("Paddle-Lite 2.13: int8 kernels use dot products;")
    assert "lacks: models that compute in int8 crash" in parse_processor(cpuinfo.SC9863A).describe()[1]
    assert parse_processor(cpuinfo.PI_3_32_BIT).describe()[0].endswith("; dot products unknown")


# --- the real library

PROBE = """
#include <cstdio>
#include "paddle_api.h"
using namespace paddle::lite_api;
int main(int, char** argv) {
  MobileConfig config;
  config.set_model_from_file(argv[1]);
  auto predictor = CreatePaddlePredictor<MobileConfig>(config);
  std::printf("fp16 %d\\n", config.check_fp16_valid());
  std::fflush(stdout);
  auto input = predictor->GetInput(0);
  input->Resize({1, 16, 8, 8});
  for (int i = 0; i < 1024; ++i) input->mutable_data<float>()[i] = (i % 17) / 8.f - 1;
  predictor->Run();
  std::printf("ran %.9g\\n", predictor->GetOutput(0)->data<float>()[200]);
}
"""


class Probe(NamedTuple):
    """A program that runs an int8 convolution on the real library."""

    program: Path
    model: Path
    qemu: str
    folder: Path

    def run(self, cpu: str, text: str) -> subprocess.CompletedProcess[str]:
        """Run it on qemu's `cpu` with `text` as /proc/cpuinfo."""
        root = self.folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        (root / "lib").symlink_to("/usr/aarch64-linux-gnu/lib")
        (root / "proc").mkdir()
        (root / "proc" / "cpuinfo").write_text(text)
        # The library counts these; it aborts if the text has more cores.
        for core in range(len(re.findall("^processor", text, re.MULTILINE))):
            folder = root / f"sys/devices/system/cpu/cpu{core}"
            folder.mkdir(parents=True)
            (folder / "uevent").touch()
        command = [self.qemu, "-cpu", cpu, "-L", str(root), str(self.program), str(self.model)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def probe(opt, tmp_path_factory) -> Probe:
    chosen = os.environ.get("EDGE_OCR_LITE_LIB")
    if not chosen:
        pytest.skip("no Paddle-Lite library: EDGE_OCR_LITE_LIB names none")
    library = Path(chosen).resolve()
    headers = library.parent.parent / "include"
    if not (headers / "paddle_api.h").is_file():
        pytest.skip(f"no Paddle-Lite headers: {headers} has no paddle_api.h")
    if inspect_library(library).arch != "armv8":
        pytest.skip(f"{library} is not for armv8")
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if qemu is None or compiler is None:
        pytest.skip(f"{'qemu-aarch64' if qemu is None else 'aarch64-linux-gnu-g++'} is not installed")
    said = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version (\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) >= (8, 1):
        pytest.skip("qemu 8.1 and newer make /proc/cpuinfo themselves")
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.cpp").write_text(PROBE)
    command = [compiler, "-std=c++11", "-w", "-I", str(headers), str(folder / "probe.cpp"), "-o", str(folder / "probe")]
    command += [str(library), f"-Wl,-rpath,{library.parent}", "-Wl,--allow-shlib-undefined"]
    subprocess.run(command, check=True)
    weight = draw(16, 16, 1, 1)
    scales = np.abs(weight).max(axis=(1, 2, 3))
    rounds = [
        (
            "fake_quantize_dequantize_moving_average_abs_max",
            "X=x InScale=scale",
            "Out=x8 OutScale=scale",
            {"bit_length": 8, "is_test": True, "moving_rate": 0.9},
        ),
        (
            "fake_channel_wise_quantize_dequantize_abs_max",
            "X=w",
            "Out=w8 OutScale=scales",
            {"bit_length": 8, "quant_axis": 0},
        ),
    ]
    params = {"w": weight, "scale": [1.0], "scales": scales}
    program = build([*rounds, conv("x8", "out", "w8")], params, shape=(-1, 16, -1, -1))
    for name, content in zip(("m.pdmodel", "m.pdiparams"), program.to_bytes(), strict=True):
        (folder / name).write_bytes(content)
    model = run_opt(opt.python, folder / "m.pdmodel", folder / "m.pdiparams", folder / "m", valid_places="arm")
    return Probe(folder / "probe", model, qemu, folder)


@pytest.mark.parametrize("text", cpuinfo.ALL.values(), ids=cpuinfo.ALL)
def test_the_library_does_what_is_said(probe, text):
    found = parse_processor(text)
    uses = (False, False) if found is None else (found.lite_dot, found.lite_fp16)
    # Cortex-A72 has no dot products: one is an illegal instruction.
    without = probe.run("cortex-a72", text)
    assert without.returncode in (0, -signal.SIGILL), without.stderr
    assert (without.returncode == -signal.SIGILL, "fp16 1\n" in without.stdout) == uses
    assert ("ran " in without.stdout) != uses[0]


@pytest.mark.parametrize("text", [cpuinfo.PI_5, cpuinfo.RK3588])
def test_the_workaround_of_the_manual_makes_the_library_use_dot_products(probe, text):
    assert probe.run("cortex-a72", text.replace("0xd0b", "0xd40")).returncode == -signal.SIGILL


def test_results_are_the_same_with_and_without_dot_products(probe):
    results = [probe.run("max", text) for text in (cpuinfo.RK3568, cpuinfo.PI_5)]
    assert [done.returncode for done in results] == [0, 0]
    ran = [done.stdout.partition("ran ")[2] for done in results]
    assert ran[0] == ran[1] != ""
