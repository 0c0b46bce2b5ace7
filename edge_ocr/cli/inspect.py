"""`edge-ocr inspect`: what is in a converted model, and what it costs to run."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_ocr.cli.output import print_json, print_line, report
from edge_ocr.core.errors import escape_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from converters.lite.nb.cost import CostTable, OpCost
    from converters.lite.nb.read import NbModel, NbOp, NbVar

# Usual input shapes of PP-OCR's networks, by the rank of their output.
_USUAL_SHAPES = {4: (1, 3, 960, 960), 3: (1, 3, 48, 320), 2: (1, 3, 48, 192)}

_MAX_SIZE = 2**31 - 1

_FIGURES = {"madds": "M madds", "param_bytes": "Params\nMB", "read_bytes": "Read\nMB", "written_bytes": "Written\nMB"}


def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE.nb|DIR", help="Model, bundle or Android project.")],
    shape: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N,N,...", help="Input shape for the cost: x=1,3,960,960.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="How many of the costliest ops to list.")] = 10,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also list how each layer's weights are stored, and why.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the cost of every op.")] = False,
    onnx: Annotated[Path | None, typer.Option(metavar="OUT.onnx", help="Also write the graph as ONNX.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.onnx.")] = False,
) -> None:
    """Show what is in a converted model and what it costs to run.

    Shows version, ops and kernels, parameters, quantization, and the cost at an input shape: a table on a terminal,
    else tab-separated lines of file, topic and values. Netron and host engines read OUT.onnx.
    """
    from converters.bundle.android.record import locate_bundle
    from converters.bundle.reader import read_choices
    from converters.lite.nb.read import read_nb
    from edge_ocr.errors import UsageError

    files = _list_files(path)
    choices = read_choices(locate_bundle(path) if path.is_dir() else path.parent.parent)
    if shape and len(files) > 1:
        raise UsageError(f"--shape is for one model, but {path} has {len(files)}", f"name one, such as {files[0]}")
    if onnx is not None and len(files) > 1:
        raise UsageError(f"--onnx is for one model, but {path} has {len(files)}", f"name one, such as {files[0]}")
    if onnx is not None:
        _check_onnx(onnx, files[0], force)
    elif force:
        raise UsageError("--force needs --onnx", "add --onnx OUT.onnx")
    described = []
    for file in files:
        model = read_nb(file)
        shapes = _parse_shapes(shape, model.inputs) if shape else _guess_shapes(model)
        described.append(_describe(file, model, shapes, choices.get(file.name, {})))
        if onnx is not None:
            _write_onnx(onnx, file, model, force)
    if as_json:
        print_json(described)
    elif sys.stdout.isatty():
        from rich.console import Console

        # Names in the file may look like markup.
        console = Console(markup=False, highlight=False, emoji=False)
        for index, one in enumerate(described):
            if index:
                console.print()
            _print_tables(one, top, console)
            if layers:
                _print_layers(one, console)
    else:
        for one in described:
            rows = [*_list_rows(one, top), *(_list_layer_rows(one) if layers else ())]
            for cells in rows:
                print_line("\t".join(str(cell) for cell in (escape_text(one["file"]), *cells)))


def _list_files(path: Path) -> list[Path]:
    from converters.bundle.android.record import locate_bundle
    from edge_ocr.errors import ModelError

    if not path.is_dir():
        return [path]
    bundle = locate_bundle(path)
    files = sorted((bundle / "models").rglob("*.nb")) or sorted(bundle.glob("*.nb"))
    if not files:
        raise ModelError(f"no .nb file in {bundle} or {bundle / 'models'}", "name a .nb file or the folder of a bundle")
    return files


def _check_onnx(out: Path, file: Path, force: bool) -> None:
    from edge_ocr.errors import UsageError

    hint = "give another --onnx"
    try:
        if not out.exists():
            return
        if not out.is_file():
            raise UsageError(f"--onnx {out}: is not a file", hint)
        if file.exists() and out.samefile(file):
            raise UsageError(f"--onnx {out}: is the model itself", hint)
    except OSError as error:
        raise UsageError(f"--onnx {out}: cannot be written: {error.strerror}", hint) from None
    if not force:
        raise UsageError(f"--onnx {out}: exists", "add --force to overwrite it")


def _write_onnx(out: Path, file: Path, model: NbModel, force: bool) -> None:
    """Write the graph to a temporary file and rename it, so that a half-written file is never seen."""
    from converters.lite.nb.to_onnx import OPSET, build_graph
    from edge_ocr.errors import UsageError

    graph = build_graph(model, escape_text(file.name)).model
    data = graph.SerializeToString()
    # Replace the target of a link, not the link.
    place = Path(os.path.realpath(out))
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_bytes(data)
        # Check again: another process may have written the file by now.
        _check_onnx(out, file, force)
        partial.replace(place)
    except OSError as error:
        raise UsageError(f"--onnx {out}: cannot be written: {error.strerror}", "give another --onnx") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    figures = f"opset {OPSET}, {len(graph.graph.node)} nodes, {len(data) / 1e6:.2f} MB"
    report(f"wrote {out}: {figures}")


def _parse_shapes(texts: list[str], inputs: tuple[NbVar, ...]) -> dict[str, tuple[int, ...]]:
    from edge_ocr.errors import UsageError

    hint = "give one for each input: " + ", ".join(
        f"{escape_text(port.name)} {_format_shape(port.shape)}" for port in inputs
    )
    known = {port.name: port for port in inputs}
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes_text = text.rpartition("=")
        sizes = sizes_text.split(",")
        if not name or not all(re.fullmatch(r"[0-9]{1,10}", size) and 0 < int(size) <= _MAX_SIZE for size in sizes):
            raise UsageError(f"--shape {text}: expected NAME=N,N,... with N from 1 to {_MAX_SIZE}", hint)
        if name not in known or name in shapes:
            raise UsageError(f"--shape {text}: {'no such input' if name not in known else 'given twice'}", hint)
        shapes[name] = tuple(int(size) for size in sizes)
        wanted = known[name].shape
        if wanted is not None and (
            len(wanted) != len(sizes)
            or any(want not in (-1, size) for want, size in zip(wanted, shapes[name], strict=True))
        ):
            raise UsageError(f"--shape {text}: expected {_format_shape(wanted)}, ? being any size", hint)
    missing = [name for name in known if name not in shapes]
    if missing:
        raise UsageError(f"no --shape for the input {', '.join(map(escape_text, missing))}", hint)
    return shapes


def _guess_shapes(model: NbModel) -> dict[str, tuple[int, ...]] | None:
    """Return the fixed input shapes of a model, or the usual ones of PP-OCR's if it looks like one; else None."""
    shapes = {}
    for port in model.inputs:
        if port.shape is None:
            return None
        shape = (1, *port.shape[1:])
        usual = _USUAL_SHAPES.get(len(model.outputs[0].shape or ())) if model.outputs else None
        if -1 in shape and usual is not None and len(model.inputs) == 1 and len(shape) == len(usual):
            shape = tuple(use if size == -1 else size for size, use in zip(shape, usual, strict=True))
        if -1 in shape:
            return None
        shapes[port.name] = shape
    return shapes


def _describe(
    file: Path, model: NbModel, shapes: dict[str, tuple[int, ...]] | None, choices: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    from converters.lite.nb.cost import compute_cost
    from edge_ocr.errors import ModelError

    cost, reason = None, "give the input shape with --shape"
    if shapes is not None:
        try:
            cost = compute_cost(model, shapes, escape_text(file.name))
        except ModelError as error:
            reason = error.message
    ops = [op for block in model.blocks for op in block.ops]
    kernels: dict[str, Counter[str]] = {}
    targets: Counter[str] = Counter()
    quantised: Counter[tuple[int, str]] = Counter()
    for op in ops:
        kernel, quantisation = op.kernel, op.quantisation
        target = kernel.target if kernel else "unknown"
        targets[target] += 1
        place = f"{target}/{kernel.precision}/{kernel.layout}" if kernel else target
        kernels.setdefault(op.type, Counter())[place] += 1
        if quantisation:
            quantised[quantisation.bits, quantisation.method] += 1
    params: dict[str, list[int]] = {}
    for param in model.params.values():
        sums = params.setdefault(param.dtype, [0, 0, 0])
        for index, value in enumerate((1, param.count, len(param.data))):
            sums[index] += value
    return {
        "file": str(file),
        "size_bytes": model.size_bytes,
        "meta_version": model.header.meta_version,
        "opt_version": model.header.opt_version,
        "paddle_version": _format_version(model.program_version),
        "inputs": [_describe_port(port) for port in model.inputs],
        "outputs": [_describe_port(port) for port in model.outputs],
        "op_count": len(ops),
        "ops": [
            {"type": op_type, "count": count, "kernels": dict(kernels[op_type].most_common())}
            for op_type, count in model.op_histogram().items()
        ],
        "targets": dict(targets.most_common()),
        "params": [
            {"dtype": dtype, "count": count, "elements": elements, "size_bytes": size_bytes}
            for dtype, (count, elements, size_bytes) in sorted(params.items(), key=lambda item: -item[1][2])
        ],
        "quantisation": [
            {"bits": bits, "method": method, "ops": count} for (bits, method), count in quantised.most_common()
        ],
        "layers": list(_describe_layers(ops, model, choices)),
        "cost": None if cost is None else _describe_cost(cost),
        "cost_missing": reason if cost is None else None,
    }


def _describe_layers(
    ops: list[NbOp], model: NbModel, choices: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield how the weights of each layer are stored; with divergence and reason, if the manifest has them."""
    for index, op in enumerate(ops):
        for name in (*op.inputs.get("Filter", ()), *op.inputs.get("W", ())):
            if name not in model.params:
                continue
            chosen = choices.get(name, {})
            divergence = chosen.get("divergence")
            yield {
                "index": index,
                "type": op.type,
                "weights": name,
                "stored": model.params[name].dtype,
                "compute": "int8" if op.attrs.get("enable_int8") is True else "fp32",
                "size_bytes": len(model.params[name].data),
                "divergence": divergence if isinstance(divergence, int | float) else None,
                "reason": str(chosen["reason"]) if "reason" in chosen else None,
            }


def _describe_port(port: NbVar) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": None if port.shape is None else list(port.shape)}


def _describe_cost(cost: CostTable) -> dict[str, Any]:
    def take_figures(source: CostTable | OpCost) -> dict[str, int]:
        return {name: getattr(source, name) for name in _FIGURES}

    return {
        "input_shapes": dict(cost.input_shapes),
        "output_shapes": dict(cost.output_shapes),
        **take_figures(cost),
        "ops": [
            {
                "index": op.index,
                "type": op.type,
                "is_int8": op.is_int8,
                **take_figures(op),
                "output_shapes": op.output_shapes,
            }
            for op in cost.ops
        ],
    }


def _list_costliest(cost: dict[str, Any], top: int) -> list[dict[str, Any]]:
    ops = sorted(cost["ops"], key=lambda op: (-op["madds"], -op["read_bytes"] - op["written_bytes"]))
    return ops[:top]


def _list_rows(one: dict[str, Any], top: int) -> Iterator[tuple[object, ...]]:
    """Yield rows of a topic and its values; sizes are in bytes."""
    for key in ("size_bytes", "meta_version", "opt_version", "paddle_version"):
        yield key, one[key] or "-"
    for key, ports in (("input", one["inputs"]), ("output", one["outputs"])):
        for port in ports:
            yield key, escape_text(port["name"]), port["dtype"] or "-", _join_shape(port["shape"])
    for target, count in one["targets"].items():
        yield "target", target, count
    for op in one["ops"]:
        yield "op", escape_text(op["type"]), op["count"], _format_kernels(op["kernels"])
    yield "ops", one["op_count"]
    for param in one["params"]:
        yield "params", param["dtype"], param["count"], param["elements"], param["size_bytes"]
    for quantised in one["quantisation"]:
        yield "quantised", quantised["bits"], escape_text(quantised["method"]), quantised["ops"]
    cost = one["cost"]
    if cost is None:
        yield "cost_missing", escape_text(one["cost_missing"])
        return
    for key in ("input", "output"):
        for name, shape in cost[f"{key}_shapes"].items():
            yield f"cost_{key}", escape_text(name), _join_shape(shape)
    for op in _list_costliest(cost, top):
        shapes = " ".join(map(_join_shape, op["output_shapes"][:1]))
        yield "cost_op", op["index"], _name_op(op), *(op[name] for name in _FIGURES), shapes
    for name in _FIGURES:
        yield f"cost_{name}", cost[name]


def _list_layer_rows(one: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    for layer in one["layers"]:
        divergence = "-" if layer["divergence"] is None else f"{layer['divergence']:g}"
        yield (
            "layer", layer["index"], escape_text(layer["type"]), escape_text(layer["weights"]), layer["stored"],
            layer["compute"], layer["size_bytes"], divergence, escape_text(layer["reason"] or "-"),
        )  # fmt: skip


def _print_layers(one: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    table = Table(title="Layers", title_justify="left")
    for name in ("#", "Weights", "Stored", "Computes"):
        table.add_column(name, justify="right" if name == "#" else "left", overflow="fold")
    table.add_column("kB", justify="right")
    table.add_column("Moves by", justify="right")
    table.add_column("Why", overflow="fold", min_width=16)
    for layer in one["layers"]:
        divergence = "" if layer["divergence"] is None else f"{layer['divergence']:.2g}"
        cells = [str(layer["index"]), *(escape_text(layer[key]) for key in ("weights", "stored", "compute"))]
        table.add_row(*cells, f"{layer['size_bytes'] / 1e3:,.1f}", divergence, escape_text(layer["reason"] or ""))
    console.print(table)


def _sum_up_layers(one: dict[str, Any]) -> str:
    stored = Counter(layer["stored"] for layer in one["layers"])
    text = ", ".join(f"{name} in {count} layers" for name, count in stored.most_common()) or "none"
    computing = sum(layer["compute"] == "int8" for layer in one["layers"])
    return text + (f"; {computing} layers compute in int8" if computing else "")


def _print_tables(one: dict[str, Any], top: int, console: Console) -> None:
    from rich.table import Table

    summary = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    summary.add_column(style="bold", no_wrap=True)
    summary.add_column(overflow="fold")
    summary.add_row("File", escape_text(one["file"]))
    summary.add_row("Size", f"{one['size_bytes'] / 1e6:.2f} MB")
    summary.add_row("Written by", f"opt {one['opt_version']} (meta version {one['meta_version']})")
    summary.add_row("Source", f"saved by Paddle {one['paddle_version'] or 'of unknown version'}")
    for title, ports in (("Input", one["inputs"]), ("Output", one["outputs"])):
        for port in ports:
            shape = _format_shape(port["shape"])
            summary.add_row(title, f"{escape_text(port['name'])}: {port['dtype'] or 'no tensor'} {shape}")
    summary.add_row("Targets", ", ".join(f"{target}: {count} ops" for target, count in one["targets"].items()))
    quantised = [
        f"{each['bits']} bits in {each['ops']} ops ({escape_text(each['method'])})" for each in one["quantisation"]
    ]
    summary.add_row("Quantised", "; ".join(quantised) or "no")
    summary.add_row("Weights", _sum_up_layers(one))
    console.print(summary)

    ops = Table("Op", title=f"{one['op_count']} ops", title_justify="left")
    ops.add_column("Count", justify="right")
    ops.add_column("Kernels", overflow="fold")
    for op in one["ops"]:
        ops.add_row(escape_text(op["type"]), str(op["count"]), _format_kernels(op["kernels"]))
    console.print(ops)

    params = Table("Type", title="Parameters", title_justify="left")
    for name in ("Tensors", "Elements", "MB"):
        params.add_column(name, justify="right")
    for param in one["params"]:
        params.add_row(
            param["dtype"], str(param["count"]), f"{param['elements']:,}", f"{param['size_bytes'] / 1e6:.3f}"
        )
    console.print(params)

    cost = one["cost"]
    if cost is None:
        console.print(f"Cost: not counted: {escape_text(one['cost_missing'])}\n", soft_wrap=True)
        return
    given = ", ".join(f"{escape_text(name)}={_format_shape(shape)}" for name, shape in cost["input_shapes"].items())
    listed = _list_costliest(cost, top)
    costs = Table(title=f"Cost at {given}: the {len(listed)} costliest of {len(cost['ops'])} ops", title_justify="left")
    costs.show_footer = True
    costs.add_column("#", justify="right")
    costs.add_column("Op", footer="all ops")
    for name, title in _FIGURES.items():
        costs.add_column(title, justify="right", footer=f"{cost[name] / 1e6:,.2f}")
    costs.add_column("Output", overflow="fold")
    for op in listed:
        shapes = " ".join(map(_format_shape, op["output_shapes"][:1]))
        cells = [f"{op[name] / 1e6:,.2f}" for name in _FIGURES]
        costs.add_row(str(op["index"]), _name_op(op), *cells, shapes)
    console.print(costs)


def _name_op(op: dict[str, Any]) -> str:
    return escape_text(op["type"]) + (" (int8)" if op["is_int8"] else "")


def _format_shape(shape: tuple[int, ...] | list[int] | None) -> str:
    return "-" if shape is None else "×".join("?" if size == -1 else str(size) for size in shape)


def _join_shape(shape: list[int] | None) -> str:
    """Return a shape in the form of `--shape`."""
    return "-" if shape is None else ",".join(map(str, shape))


def _format_kernels(kernels: dict[str, int]) -> str:
    if len(kernels) == 1:
        return next(iter(kernels))
    return ", ".join(f"{place}: {count}" for place, count in kernels.items())


def _format_version(version: int) -> str | None:
    """Return 2004001 as 2.4.1."""
    if version <= 0:
        return None
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
