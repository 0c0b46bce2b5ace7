"""Reads a model's folder as it is: program, parameters and, if present, `inference.yml` and a dictionary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from edge_ocr.errors import ModelError
from edge_ocr.models.inference_yml import read_inference_yml
from edge_ocr.models.input_size import read_input_size
from edge_ocr.models.types import Kind, Model, ModelFormat


def read_dictionary(path: Path) -> tuple[str, ...]:
    """Read a dictionary: UTF-8, one character per line, in class order.

    Each line is a class, also a space, an empty line or a repeated character. `Charset.fit` handles empty lines at the
    end.

    Raises ModelError if the file is missing, not UTF-8 or empty.
    """
    hint = "give a UTF-8 text file with one character per line, in class order"
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ModelError(f"cannot read the dictionary {path}: {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"the dictionary {path} is not UTF-8: {error}", hint) from error
    characters = _split_lines(text)
    if not characters:
        raise ModelError(f"the dictionary {path} is empty", hint)
    return characters


def _split_lines(text: str) -> tuple[str, ...]:
    # splitlines() would also split at U+2028 and the like, which are characters here.
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return tuple(lines[:-1] if lines[-1] == "" else lines)


def open_folder(
    folder: Path,
    kind: Kind,
    *,
    name: str | None,
    source: str,
    find_default: Callable[[], tuple[str, ...] | None],
    dictionary: tuple[str, ...] | None = None,
) -> Model:
    """Return the model in `folder`; `name` and `dictionary` replace its own, `find_default` is the last resort.

    Raises ModelError if files are missing, ambiguous or unreadable.
    """
    program, params, model_format = find_program(folder)
    described = read_inference_yml(folder / "inference.yml", kind)
    if kind == "rec" and dictionary is None:
        dictionary = described.characters or _read_dictionary_in(folder)
        if dictionary is None and model_format == "onnx":
            dictionary = _read_onnx_characters(program)
        if dictionary is None:
            dictionary = find_default()
    return Model(
        name=name or described.name or folder.resolve().name,
        kind=kind,
        format=model_format,
        program=program,
        params=params,
        dictionary=dictionary,
        settings=MappingProxyType(described.settings),
        source=source,
        input_size=read_input_size(program, model_format) if kind == "rec" else (None, None),
    )


def find_program(folder: Path) -> tuple[Path, Path | None, ModelFormat]:
    """Return program, parameters and format. Prefers .pdmodel, and `inference.*` over a single file of another name.

    Raises ModelError if there is no program, more than one, or no parameters.
    """
    hint = "expected inference.pdmodel or inference.json with inference.pdiparams, or inference.onnx"
    formats: tuple[ModelFormat, ...] = ("pdmodel", "json", "onnx")
    for model_format in formats:
        program = folder / f"inference.{model_format}"
        if not program.is_file():
            others = sorted(folder.glob(f"*.{model_format}"))
            if model_format == "json":
                # Only JSON next to parameters of the same name is a program.
                others = [path for path in others if path.with_suffix(".pdiparams").is_file()]
            if len(others) > 1:
                names = ", ".join(path.name for path in others)
                raise ModelError(f"{folder} contains several .{model_format} files: {names}", hint)
            if not others:
                continue
            program = others[0]
        if model_format == "onnx":
            return program, None, model_format
        params = program.with_suffix(".pdiparams")
        if not params.is_file():
            if model_format == "json" and list(folder.glob("*.onnx")):
                # PaddlePaddle leaves the program of Paddle in its archives of ONNX.
                continue
            raise ModelError(f"{folder} contains {program.name}, but no {params.name}", hint)
        return program, params, model_format
    raise ModelError(f"{folder} contains no model", hint)


def _read_dictionary_in(folder: Path) -> tuple[str, ...] | None:
    if (folder / "dict.txt").is_file():
        return read_dictionary(folder / "dict.txt")
    found = [path for path in sorted(folder.glob("*.txt")) if "dict" in path.name or "keys" in path.name]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ModelError(f"{folder} contains several dictionaries: {names}", "rename the right one to dict.txt")
    return read_dictionary(found[0]) if found else None


def _read_onnx_characters(program: Path) -> tuple[str, ...] | None:
    import onnx

    try:
        model = onnx.load(program, load_external_data=False)
    # protobuf's DecodeError and OSError share no base but Exception.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"cannot read {program}: {reason}", "export the model to ONNX again") from error
    characters = next((entry.value for entry in model.metadata_props if entry.key == "character"), "")
    return _split_lines(characters) if characters else None
