"""What the inputs of layers look like, against plain NumPy."""

import numpy as np
import pytest
from support.nb_programs import build_model, draw, feed, fetch, list_windows, make_op, pad

from converters.bundle.pictures import find_pictures_folder
from converters.bundle.reader import inspect_bundle
from converters.lite.graph_engines import open_graph_engines
from converters.quantise.statistics import BINS, _Probe, _spread, measure_statistics
from edge_ocr.core.pictures import decode_picture
from edge_ocr.engines import FAST_ENGINES, is_installed

CONV = {"strides": (2, 1), "paddings": (1, 1, 0, 2), "dilations": (1, 2), "groups": 1}
DEPTHWISE = {"strides": (1, 1), "paddings": (1, 1), "dilations": (1, 1), "groups": 4}
SAME = {"strides": (2, 2), "paddings": (0, 0), "dilations": (1, 1), "groups": 2, "padding_algorithm": "SAME"}


def make_network():
    return build_model(
        [
            feed("x"),
            make_op("conv2d", {"Input": "x", "Filter": "w"}, {"Output": "a"}, **CONV),
            make_op("depthwise_conv2d", {"Input": "a", "Filter": "d"}, {"Output": "b"}, **DEPTHWISE),
            make_op("conv2d", {"Input": "b", "Filter": "s"}, {"Output": "c"}, **SAME),
            make_op("transpose2", {"X": "c"}, {"Out": "r"}, axis=(0, 2, 3, 1)),
            make_op("fc", {"Input": "r", "W": "v", "Bias": "k"}, {"Out": "y"}, op_type="matmul_v2"),
            fetch("y"),
        ],
        {"x": (-1, 3, -1, -1)},
        {
            "w": draw(4, 3, 3, 2),
            "d": draw(4, 1, 3, 3, seed=1),
            "s": draw(6, 2, 2, 3, seed=2),
            "v": draw(6, 5, seed=3),
            "k": draw(5, seed=4),
        },
    )


def gather(arrays, nb):
    """Return, by name of the weights, all windows of `arrays`: groups × windows × size, and the inputs' elements."""
    found = {name: ([], []) for name in "wdsv"}
    params = {name: param.to_array().astype(np.float64) for name, param in nb.params.items()}

    def take(name, array, kernel, strides, dilations, paddings, groups):
        windows = list_windows(pad(array, paddings), kernel, strides, dilations)  # N × C × H × W × kh × kw
        n, channels, *places = windows.shape
        rows = windows.reshape(n, groups, channels // groups, *places).transpose(1, 0, 3, 4, 2, 5, 6)
        rows = rows.reshape(groups, -1, channels // groups * kernel[0] * kernel[1])
        found[name][0].append(rows)
        found[name][1].append(array.ravel())
        weights = params[name].reshape(groups, -1, rows.shape[-1])
        out = np.einsum("gps,gos->pgo", rows, weights).reshape(len(array), *windows.shape[2:4], -1)
        return out.transpose(0, 3, 1, 2)

    for array in arrays:
        a = take("w", array.astype(np.float64), (3, 2), (2, 1), (1, 2), (1, 1, 0, 2), 1)
        b = take("d", a, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 4)
        height, width = b.shape[2:]
        down, across = ((-(-size // 2) - 1) * 2 + k - size for size, k in ((height, 2), (width, 3)))
        down, across = max(down, 0), max(across, 0)
        paddings = (down // 2, down - down // 2, across // 2, across - across // 2)
        c = take("s", b, (2, 3), (2, 2), (1, 1), paddings, 2)
        rows = c.transpose(0, 2, 3, 1).reshape(1, -1, 6)
        found["v"][0].append(rows)
        found["v"][1].append(rows.ravel())
    return {name: (np.concatenate(rows, axis=1), np.concatenate(flat)) for name, (rows, flat) in found.items()}


@pytest.mark.parametrize("engine", FAST_ENGINES)
def test_windows_of_all_layers(monkeypatch, engine):
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    monkeypatch.setattr(
        "converters.lite.graph_engines.is_installed", lambda name: name == engine and is_installed(name)
    )
    nb = make_network()
    probe = _Probe(nb, 10_000)
    arrays = draw(1, 3, 8, 11, seed=5), draw(2, 3, 9, 6, seed=6, low=-7)
    with open_graph_engines({"rec": nb}, 1, lambda kind, graph: probe.extend(graph)) as opened:
        assert probe.collect() == {}
        for array in arrays:
            probe.add(opened.engines["rec"].run(array))
    found = probe.collect()
    wanted = gather(arrays, nb)
    assert list(found) == ["w", "d", "s", "v"]
    for name, (rows, flat) in wanted.items():
        statistics = found[name]
        gram = rows.transpose(0, 2, 1) @ rows / rows.shape[1]
        assert statistics.windows == rows.shape[1]
        np.testing.assert_allclose(statistics.gram, gram, rtol=0, atol=1e-5 * gram.max())
        np.testing.assert_allclose(statistics.mean, rows.mean(axis=1), rtol=0, atol=1e-5 * np.abs(rows).max())
        np.testing.assert_allclose(statistics.absmax, np.abs(flat).max(), rtol=1e-5)
        assert statistics.absmax < statistics.span <= 2 * statistics.absmax
        assert statistics.histogram.sum() == flat.size
        shares = np.histogram(np.abs(flat), BINS // 64, (0, statistics.span))[0]
        # Elements on the edge of a bin may fall on either side.
        assert np.abs(statistics.histogram.reshape(-1, 64).sum(axis=1) - shares).sum() <= 4


def test_shared_weights_count_for_both_ops():
    conv = {"strides": (1, 1), "paddings": (0, 0), "dilations": (1, 1), "groups": 1}
    nb = build_model(
        [
            feed("x"),
            make_op("conv2d", {"Input": "x", "Filter": "w"}, {"Output": "a"}, **conv),
            make_op("conv2d", {"Input": "a", "Filter": "w"}, {"Output": "y"}, **conv),
            fetch("y"),
        ],
        {"x": (-1, 3, -1, -1)},
        {"w": draw(3, 3, 1, 1)},
    )
    probe = _Probe(nb, 10_000)
    array = draw(1, 3, 4, 5, seed=1)
    with open_graph_engines({"rec": nb}, 1, lambda kind, graph: probe.extend(graph)) as opened:
        probe.add(opened.engines["rec"].run(array))
    rows = array[0].reshape(3, -1).T
    both = np.concatenate([rows, rows @ nb.params["w"].to_array()[:, :, 0, 0].T])
    statistics = probe.collect()["w"]
    assert statistics.windows == 40
    np.testing.assert_allclose(statistics.gram[0], both.T @ both / 40, rtol=1e-4)
    assert statistics.histogram.sum() == both.size


def test_large_inputs_are_sampled_evenly():
    places = _spread(1_000_000, 1000)
    assert len(places) == 1000
    assert np.diff(places).max() < 2000
    for width in (160, 240, 1000):
        counts = np.bincount(places % width * 8 // width, minlength=8)
        assert counts.min() > 90, width
    np.testing.assert_array_equal(_spread(7, 7), range(7))


def test_pictures_through_both_networks(export):
    bundle = inspect_bundle(export().out_dir).bundle
    sign = find_pictures_folder() / "sign.png"
    picture = decode_picture(sign.read_bytes(), sign.name)
    first, second = (
        measure_statistics(bundle.models, bundle.config, bundle.charset, pictures)
        for pictures in ([picture], iter([picture]))
    )
    for kind, nb in bundle.models.items():
        ops = [op for op in nb.blocks[0].ops if op.type in ("conv2d", "depthwise_conv2d", "fc")]
        assert len(first[kind]) == len(ops) > 40
        for op in ops:
            name = op.inputs["W" if op.type == "fc" else "Filter"][0]
            mine, other = first[kind][name], second[kind][name]
            shape = nb.params[name].shape
            size = shape[0] if op.type == "fc" else shape[1] * shape[2] * shape[3]
            assert mine.gram.shape == (op.attrs.get("groups", 1) if op.type != "fc" else 1, size, size)
            np.testing.assert_array_equal(mine.gram, other.gram)
            np.testing.assert_array_equal(mine.histogram, other.histogram)
            assert (mine.absmax, mine.span) == (other.absmax, other.span)


def test_a_blank_picture_gives_no_lines(export):
    bundle = inspect_bundle(export().out_dir).bundle
    blank = np.full((64, 64, 3), 255, np.uint8)
    found = measure_statistics(bundle.models, bundle.config, bundle.charset, [blank])
    assert found["det"]
    assert found["rec"] == {}
