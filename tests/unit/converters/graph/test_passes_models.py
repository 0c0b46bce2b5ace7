"""The passes on the shipped models, as they are and as Paddle 3 saves them, by Paddle and by the real opt."""

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from converters.graph.passes import PASSES, PassReport, run_passes
from converters.graph.passes.restore_attributes import restore_attributes
from converters.lite.nb.read import read_nb
from converters.lite.opt import run_opt
from converters.sources.program import get_attr, get_input, get_output, read_program, read_signature
from edge_ocr.errors import ConversionError
from edge_ocr.models.resolve import resolve_model

NAMES = {"det": "PP-OCRv4_mobile_det", "rec": "PP-OCRv4_mobile_rec", "cls": "ch_ppocr_mobile_v2_cls"}
RECEIPT = Path(__file__).parents[4] / "examples" / "images" / "receipt.jpg"

# Re-saves models in the old format: argv is the folder to save into, and the models without suffix.
RESAVE = """
import sys, paddle
paddle.enable_static()
for source in sys.argv[2:]:
    exe = paddle.static.Executor(paddle.CPUPlace())
    with paddle.static.scope_guard(paddle.static.Scope()):
        program, feeds, fetches = paddle.static.load_inference_model(source.split("=")[1], exe)
        feeds = [program.global_block().var(name) for name in feeds]
        out = sys.argv[1] + "/" + source.split("=")[0]
        paddle.static.save_inference_model(out, feeds, fetches, exe, program=program)
"""

# matmul, sigmoid and gelu cannot be traced in the old format by Paddle 3.3; the re-saved models have them.
EXPORT = """
import sys, paddle
from paddle import nn
from paddle.nn import functional as F


class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2D(3, 8, 3, stride=2, padding=1), nn.BatchNorm2D(8)
        self.deep, self.point = nn.Conv2D(8, 8, 3, padding=1, groups=8), nn.Conv2D(8, 8, 1)
        self.gate, self.up = nn.Conv2D(8, 8, 1), nn.Conv2DTranspose(8, 8, 2, stride=2)
        self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.7))
        self.shift = self.create_parameter([1], default_initializer=nn.initializer.Constant(0.3))
        self.hidden, self.out, self.drop = nn.Linear(8, 8), nn.Linear(8, 5), nn.Dropout(0.1)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = self.scale * F.hardswish(self.deep(x)) + self.shift
        x = F.swish(self.point(x))
        x = x * F.hardsigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        x = F.max_pool2d(x, 2)
        x = self.up(F.interpolate(x, scale_factor=2, mode="nearest"))
        x = paddle.concat([x, x], 1)[:, :8] * 0.5
        x = x.flatten(2).transpose([0, 2, 1])
        x = self.drop(F.relu(self.hidden(x))).reshape([0, -1, 8])
        return F.softmax(self.out(x), -1)


paddle.seed(5)
net = Net()
for value in net.norm._mean, net.norm._variance:
    value.set_value(paddle.rand([8]) + 0.5)
net.eval()
spec = [paddle.static.InputSpec([-1, 3, -1, -1], "float32", "x")]
paddle.jit.save(net, sys.argv[1] + "/cnn", input_spec=spec)
"""


@pytest.fixture(scope="module")
def models():
    return {kind: resolve_model(name, kind) for kind, name in NAMES.items()}


@pytest.fixture(scope="module")
def convert(opt):
    def convert(program, params, out):
        return read_nb(run_opt(opt.python, program, params, out, valid_places="arm"))

    return convert


@pytest.fixture(scope="module")
def run():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle.inference as inference

    def run(program, params, array, *, onednn=False):
        config = inference.Config(str(program), str(params))
        config.disable_glog_info()
        config.switch_ir_optim(onednn)
        config.enable_mkldnn() if onednn else config.disable_mkldnn()
        predictor = inference.create_predictor(config)
        predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(array)
        predictor.run()
        return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()

    return run


@pytest.fixture(scope="module")
def saved_by_paddle_3(models, tmp_path_factory):
    """The shipped models and a small network, re-saved by the installed Paddle as `<kind>.pdmodel` in one folder."""
    folder = tmp_path_factory.mktemp("paddle3")
    environment = os.environ | {"FLAGS_enable_pir_api": "0"}
    sources = [f"{kind}={models[kind].program.with_suffix('')}" for kind in NAMES]
    for script, arguments in ((RESAVE, sources), (EXPORT, [])):
        # A file, because tracing reads the source of what it traces.
        file = folder / "save.py"
        file.write_text(script, encoding="utf-8")
        command = [sys.executable, str(file), str(folder), *arguments]
        ended = subprocess.run(command, capture_output=True, env=environment, timeout=300, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
    return folder


def make_inputs(kind):
    """Return a piece of a real photo, and noise."""
    image = cv2.imread(str(RECEIPT))
    size = {"det": (480, 320), "rec": (320, 48), "cls": (192, 48), "cnn": (64, 48)}[kind]
    piece = image[:320, 120:600] if kind == "det" else cv2.resize(image[176:208, 260:470], size)
    photo = np.ascontiguousarray((piece.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[np.newaxis])
    return photo, np.random.default_rng(3).normal(0, 1, photo.shape).astype(np.float32)


def edit(program, params, out, **options):
    """Run the passes; return the reports and the two files written."""
    loaded = read_program(program, params)
    reports = run_passes(loaded, **options)
    files = out.with_suffix(".pdmodel"), out.with_suffix(".pdiparams")
    loaded.write(*files)
    return reports, files


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("kind", ["det", "rec", "cls"])
def test_results_stay(models, run, tmp_path, kind, onednn):
    model = models[kind]
    reports, files = edit(model.program, model.params, tmp_path / kind)
    assert [report.name for report in reports] == [run.__name__ for run in PASSES]
    assert read_signature(files[0]) == read_signature(model.program)
    for array in make_inputs(kind):
        before = run(model.program, model.params, array, onednn=onednn)
        after = run(*files, array, onednn=onednn)
        assert np.isfinite(after).all()
        assert before.shape == after.shape
        assert np.abs(after - before).max() <= 1e-4
        # A second shape and a batch, because the shapes are now attributes.
        larger = np.repeat(np.concatenate([array, array[..., ::-1]], axis=3), 2, axis=0)
        if kind != "cls":
            before = run(model.program, model.params, larger, onednn=onednn)
            assert np.abs(run(*files, larger, onednn=onednn) - before).max() <= 1e-4


def test_a_wrong_weight_would_be_seen(models, run, tmp_path):
    model = models["rec"]
    _, files = edit(model.program, model.params, tmp_path / "rec")
    program = read_program(*files)
    name = next(get_input(op, "Filter") for op in program.ops if op.type == "depthwise_conv2d")
    program.set_param(name, program.params[name] * np.float32(1.01))
    program.write(*files)
    array = make_inputs("rec")[0]
    assert np.abs(run(*files, array) - run(model.program, model.params, array)).max() > 1e-4


# Ops in the .nb with feed and fetch, by opt alone and after the passes, and conv2d with hard_swish fused.
EVIDENCE = {"det": (243, 157, 14), "rec": (266, 153, 14), "cls": (104, 101, 10)}


@pytest.mark.parametrize("kind", ["det", "rec", "cls"])
def test_ops_after_opt(models, convert, tmp_path, kind):
    model = models[kind]
    _, files = edit(model.program, model.params, tmp_path / kind)
    alone = convert(model.program, model.params, tmp_path / "alone")
    folded = convert(*files, tmp_path / "folded")
    counts = [sum(nb.op_histogram().values()) for nb in (alone, folded)]
    fused = [op for op in folded.blocks[0].ops if op.type == "conv2d" and op.attrs.get("act_type") == "hard_swish"]
    assert (*counts, len(fused)) == EVIDENCE[kind]
    assert folded.size_bytes < alone.size_bytes
    assert not {"fill_constant", "shape", "dropout", "batch_norm", "assign"} & folded.op_histogram().keys()
    if kind == "det":
        # The merged convolutions.
        assert alone.size_bytes - folded.size_bytes > 540_000


def test_passes_take_well_below_a_second(models):
    started = time.process_time()
    for kind in ("det", "rec"):
        program = read_program(models[kind].program, models[kind].params)
        run_passes(program)
        program.to_bytes()
    assert time.process_time() - started < 1.0


def test_passes_find_nothing_the_second_time(models):
    for model in models.values():
        program = read_program(model.program, model.params)
        run_passes(program)
        content = program.to_bytes()
        assert all(report.changed == 0 for report in run_passes(program))
        assert program.to_bytes() == content


def test_two_runs_give_the_same_bytes(models, tmp_path):
    model = models["det"]
    files = [edit(model.program, model.params, tmp_path / name)[1] for name in "ab"]
    first, second = [[path.read_bytes() for path in pair] for pair in files]
    assert first == second


def test_pruned_recogniser(models, run, convert, tmp_path):
    model = models["rec"]
    kept = [0, *(1 + model.dictionary.index(text) for text in "0123456789."), 6624]
    reports, files = edit(model.program, model.params, tmp_path / "rec", kept_classes=kept)
    assert reports[-1] == PassReport("prune_charset", 222, 222, 6625 - len(kept))
    assert read_signature(files[0]).outputs[0].shape == (-1, -1, len(kept))
    for array in make_inputs("rec"):
        chosen = run(model.program, model.params, array)[..., kept]
        pruned = run(*files, array)
        assert np.isfinite(pruned).all()
        # If the kept classes had almost no probability, the original has lost precision.
        clear = chosen.sum(-1) > 1e-3
        expected = chosen[clear] / chosen[clear].sum(-1, keepdims=True)
        assert np.abs(pruned[clear] - expected).max() <= 1e-4
        assert clear.any()
    nb = convert(*files, tmp_path / "pruned")
    assert nb.outputs[0].name == read_signature(model.program).outputs[0].name
    assert nb.size_bytes < 7_800_000


def test_without_optimize_a_shipped_model_stays_as_it_is(models, tmp_path):
    model = models["det"]
    reports, files = edit(model.program, model.params, tmp_path / "det", optimize=False)
    assert [(report.name, report.changed) for report in reports] == [("restore_attributes", 0), ("keep_scales", 0)]
    assert files[1].read_bytes() == model.params.read_bytes()


@pytest.mark.parametrize(("kind", "alone"), [("det", True), ("rec", False), ("cls", True), ("cnn", False)])
@pytest.mark.parametrize("optimize", [False, True])
def test_models_saved_by_paddle_3_convert(saved_by_paddle_3, run, convert, tmp_path, kind, alone, optimize):
    program, params = saved_by_paddle_3 / f"{kind}.pdmodel", saved_by_paddle_3 / f"{kind}.pdiparams"
    reports, files = edit(program, params, tmp_path / kind, optimize=optimize)
    assert (reports[0].changed > 0) == (kind in ("rec", "cnn"))
    for array in make_inputs(kind):
        before, after = run(program, params, array), run(*files, array)
        assert np.abs(after - before).max() <= 1e-4
    nb = convert(*files, tmp_path / "converted")
    assert all(op.attrs["beta"] == 1.0 for op in nb.blocks[0].ops if op.type == "swish")
    if kind in EVIDENCE:
        assert sum(nb.op_histogram().values()) == EVIDENCE[kind][1 if optimize else 0]
    if kind == "cnn" and optimize:
        # Bias and batch norm are in the convolutions, so relu can be fused, too.
        assert not {"batch_norm", "relu", "dropout"} & nb.op_histogram().keys()
    if optimize or alone:
        return
    with pytest.raises(ConversionError, match="killed by SIG"):
        convert(program, params, tmp_path / "raw")


def test_restored_rec_is_the_one_that_paddle_2_saved(saved_by_paddle_3, models, convert, tmp_path):
    files = saved_by_paddle_3 / "rec.pdmodel", saved_by_paddle_3 / "rec.pdiparams"
    _, restored = edit(*files, tmp_path / "restored")
    _, original = edit(models["rec"].program, models["rec"].params, tmp_path / "original")
    assert restored[1].read_bytes() == original[1].read_bytes()
    blocks = [convert(*pair, pair[0]).blocks[0] for pair in (restored, original)]
    ops = [[(op.type, dict(op.inputs)) for op in block.ops] for block in blocks]
    assert ops[0] == ops[1]


@pytest.mark.parametrize(
    ("op_type", "slot"),
    [
        ("flatten_contiguous_range", "XShape"),
        ("reshape2", "XShape"),
        ("squeeze2", "XShape"),
        ("transpose2", "XShape"),
        ("dropout", "Mask"),
    ],
)
def test_an_output_that_is_missing_is_restored(models, convert, tmp_path, op_type, slot):
    model = models["rec"]
    program = read_program(model.program, model.params)
    stripped = [op for op in program.ops if op.type == op_type]
    for op in stripped:
        next(entry for entry in op.outputs if entry.parameter == slot).arguments[:] = []
    files = tmp_path / "m.pdmodel", tmp_path / "m.pdiparams"
    program.write(*files)
    if op_type == "dropout":
        assert convert(*files, tmp_path / "raw").op_histogram()["dropout"] == len(stripped)
    else:
        with pytest.raises(ConversionError, match="killed by SIG"):
            convert(*files, tmp_path / "raw")
    reports, files = edit(*files, tmp_path / "restored", optimize=False)
    assert reports[0].changed == len(stripped)
    assert sum(convert(*files, tmp_path / "restored").op_histogram().values()) == EVIDENCE["rec"][0]


def test_each_restored_thing(saved_by_paddle_3):
    program = read_program(saved_by_paddle_3 / "rec.pdmodel", saved_by_paddle_3 / "rec.pdiparams")
    swishes = [op for op in program.ops if op.type == "swish"]
    dropouts = [op for op in program.ops if op.type == "dropout"]
    flat = next(op for op in program.ops if op.type == "flatten_contiguous_range")
    assert not any(get_attr(op, "beta") for op in swishes)
    report = restore_attributes(program)
    assert report.changed >= len(swishes) + len(dropouts) + 1
    assert {get_attr(op, "beta") for op in swishes} == {1.0}
    assert program.find_shape(get_output(flat, "XShape")) == (0, -1, 120, 1, -1)
    masks = [get_output(op, "Mask") for op in dropouts]
    assert len({*masks}) == len(dropouts)
    # An existing value is the model's own.
    swishes[0].attrs[-1].f = 1.5
    assert restore_attributes(program).changed == 0
