"""Reads models of every format as Paddle programs, and lists their files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from converters.sources.onnx import import_onnx
from converters.sources.onnx_files import list_external_files
from converters.sources.pir import convert_pir
from converters.sources.program import Program, read_program
from converters.text import Report
from edge_ocr.errors import ModelError
from edge_ocr.models.types import Model


def read_model_program(model: Model, *, report: Report = lambda step: None) -> Program:
    """Return a model as a Paddle program in the op set that opt reads.

    A `.pdmodel` is read as it is, ONNX by `converters.sources.onnx`. paddle2onnx first converts Paddle's PIR
    (`inference.json`) to ONNX; `report` receives each step as text if that needs a new environment.

    Raises ModelError for damaged files, ConversionError for models that the op set cannot express, ToolchainError if
    paddle2onnx is needed and cannot be installed.
    """
    if model.format == "onnx":
        return import_onnx(model.program)
    if model.params is None:
        raise ModelError(f"{model.program}: its parameters are missing", "keep all files of one export in one folder")
    if model.format == "pdmodel":
        return read_program(model.program, model.params)
    with tempfile.TemporaryDirectory(prefix="edge-ocr-pir-") as scratch:
        program = import_onnx(convert_pir(model.program, model.params, Path(scratch, "model.onnx"), report=report))
    program.where = str(model.program)
    return program


def list_source_files(model: Model) -> dict[str, Path]:
    """Return a model's files by name, including the external data of ONNX.

    Call it for a model that `read_model_program` has read.
    """
    files = {path.name: path for path in (model.program, model.params) if path is not None}
    if model.format == "onnx":
        files |= list_external_files(model.program)
    return files
