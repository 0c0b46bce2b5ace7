"""Converts one model: from its files, through the passes and opt, to a normalised `.nb`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from converters.graph.passes import PassReport, run_passes
from converters.graph.passes.mark_int8 import mark_int8
from converters.lite.nb.read import NbModel, normalise, parse_nb
from converters.lite.nb.rounded import Rounded
from converters.lite.nb.write import edit_nb
from converters.lite.opt import check_support, run_opt
from converters.lite.toolchain import OptToolchain
from converters.plan import ExportedModel, ExportOptions, FileEntry, SourceModel
from converters.quantise.choice import ModelChoice
from converters.sources import list_source_files, read_model_program
from converters.sources.program import read_signature
from converters.text import Report
from edge_ocr.errors import ConversionError, ModelError, UsageError
from edge_ocr.models.kinds import check_output
from edge_ocr.models.store import hash_file
from edge_ocr.models.types import Model


def read_source(model: Model, report: Report) -> SourceModel:
    """Read a model's program and check that its output fits the model's kind.

    Raises ModelError if it does not fit, or a file cannot be read.
    """
    report(f"{model.kind}: {model.name} ({model.source})")
    program = read_model_program(model, report=report)
    check_output(model, program.signature.outputs[0].shape)
    files = {name: _describe_file(path) for name, path in list_source_files(model).items()}
    return SourceModel(model, program.signature, files, program)


def _describe_file(path: Path) -> FileEntry:
    try:
        return FileEntry(hash_file(path), path.stat().st_size)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None


@dataclass
class Conversion:
    """The conversion of one model."""

    source: SourceModel
    valid_places: str
    toolchain: OptToolchain
    options: ExportOptions
    kept: tuple[int, ...] | None
    scratch: Path
    report: Report
    stop: threading.Event
    """Set if the export fails or is interrupted."""
    passes: tuple[PassReport, ...] = ()
    seconds: float = 0.0
    _plain: tuple[bytes, NbModel] = field(init=False)

    @property
    def _program(self) -> Path:
        return self.scratch / f"{self.source.model.kind}.pdmodel"

    @property
    def _params(self) -> Path:
        return self.scratch / f"{self.source.model.kind}.pdiparams"

    @property
    def _where(self) -> str:
        return f"the .nb of {self.source.model.name}"

    def prepare(self) -> None:
        """Run the passes and check that opt supports the result; convert nothing yet."""
        with self._timed():
            model, program = self.source.model, self.source.program
            kept = self.kept if model.kind == "rec" else None
            self.passes = tuple(run_passes(program, kept_classes=kept, optimize=self.options.optimize))
            self._write()
            if self.passes:
                before, after = self.passes[0].ops_before, self.passes[-1].ops_after
                self.report(f"{model.kind}: passes, {before} ops → {after}")
            with self._name_source():
                check_support(
                    self.toolchain.python,
                    self._program,
                    self._params,
                    valid_places=self.valid_places,
                    stop=self.stop,
                )

    def convert(self) -> NbModel:
        """Run opt; return the .nb with float32 weights."""
        with self._timed():
            self._plain = self._run_opt()
        return self._plain[1]

    def finish(self, choice: ModelChoice | None) -> ExportedModel:
        """Return the model with weights stored, and layers computing, as chosen; None keeps float32."""
        with self._timed():
            data = self._plain[0]
            rounded = {} if choice is None else dict(choice.rounded)
            biases = {} if choice is None else choice.biases
            if choice is not None and choice.inputs:
                computed = {name: rounded.pop(name) for name in choice.inputs}
                data = self._compute_in_int8(choice.inputs, computed)
            # Without rounded weights, too, the program becomes smaller.
            data = edit_nb(data, rounded, biases, where=self._where)
            nb = parse_nb(data, self._where)
        ops = sum(nb.op_histogram().values())
        self.report(f"{self.source.model.kind}: opt, {ops} ops, {len(data) / 1e6:.2f} MB")
        return ExportedModel(self.source, read_signature(self._program), self.passes, nb, data, self.seconds)

    def _compute_in_int8(self, inputs: Mapping[str, float], computed: Mapping[str, Rounded]) -> bytes:
        """Run opt again, with layers marked to compute in int8."""
        program = self.source.program
        for name, rounded in computed.items():
            program.set_param(name, rounded.to_float())
        # A channel of zeros may have the scale 0.
        scales = {name: np.where(one.scales > 0, one.scales, np.float32(1)) for name, one in computed.items()}
        self.passes += (mark_int8(program, inputs, scales),)
        self._write()
        data, nb = self._run_opt()
        found = {name: op for op in nb.blocks[0].ops for names in op.inputs.values() for name in names}
        for name, rounded in computed.items():
            stored, op = nb.params.get(name), found.get(name)
            wanted = {"Filter0_scale": scales[name], "W0_scale": scales[name], "Input0_scale": inputs[name] / 127}
            if (
                stored is None
                or op is None
                or not np.array_equal(stored.to_array(), rounded.values)
                or not all(_is_near(op.attrs[key], value) for key, value in wanted.items() if key in op.attrs)
            ):
                raise ConversionError(
                    f"opt stored {name} of {self.source.model.name} as other integers than chosen",
                    "export with --compute fp32",
                )
        return data

    def _run_opt(self) -> tuple[bytes, NbModel]:
        """Return the normalised .nb with float32 weights, and what it holds."""
        model = self.source.model
        with self._name_source():
            written = run_opt(
                self.toolchain.python,
                self._program,
                self._params,
                self.scratch / model.kind,
                valid_places=self.valid_places,
                stop=self.stop,
            )
        try:
            data = normalise(written.read_bytes(), self._where)
            nb = parse_nb(data, self._where)
        except ModelError as error:
            raise ConversionError(f"opt wrote an invalid file: {error.message}") from None
        if nb.header.opt_version != self.toolchain.opt_version:
            raise ConversionError(
                f"{self._where} names opt {nb.header.opt_version}, expected {self.toolchain.opt_version}"
            )
        return data, nb

    def _write(self) -> None:
        try:
            self.source.program.write(self._program, self._params)
        except OSError as error:
            raise UsageError(
                f"cannot write the edited {self.source.model.name} to {self.scratch}: {error.strerror}",
                "free some space there, or set TMPDIR to another folder",
            ) from None

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started

    @contextmanager
    def _name_source(self) -> Iterator[None]:
        # opt names files in a scratch folder that no longer exists when the user reads this.
        if self.stop.is_set():
            raise CancelledError
        try:
            yield
        except ConversionError as error:
            message = error.message.replace(str(self._program), str(self.source.model.program))
            message = message.replace(str(self._params), str(self.source.model.params))
            raise ConversionError(message, error.hint) from None


def _is_near(found: Any, wanted: Any) -> bool:
    """Return whether scales are those wanted, as float32 and back leaves them."""
    return np.shape(np.ravel(found)) == np.shape(np.ravel(wanted)) and bool(
        np.allclose(np.ravel(found), np.ravel(wanted), rtol=1e-4, atol=0)
    )
