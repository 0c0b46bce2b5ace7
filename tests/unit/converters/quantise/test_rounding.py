"""Weights rounded by the statistics of their inputs."""

import numpy as np
import pytest

from converters.lite.nb.rounded import Rounded
from converters.quantise.rounding import round_calibrated
from converters.quantise.statistics import BINS, LayerStatistics


def gather(windows):
    """Return the statistics of groups × windows × size."""
    count = windows.shape[1]
    gram = windows.transpose(0, 2, 1) @ windows / count
    largest = float(np.abs(windows).max())
    return LayerStatistics(gram, windows.mean(axis=1), count, largest, np.zeros(BINS, np.int64), 2 * largest + 1)


def round_nearest(weights, bits=8):
    """Round rows, each by its largest weight."""
    limit = 2 ** (bits - 1) - 1
    scales = (np.abs(weights).max(axis=1) / limit).astype(np.float32)
    scales[scales == 0] = 1
    return Rounded(np.rint(weights / scales[:, None]).astype(f"int{bits}"), scales, 0)


def measure_errors(weights, rounded, correction, windows):
    """Return, by channel, the mean square of the output's error, after correction."""
    lost = windows @ (weights - rounded.to_float()).reshape(len(weights), -1).T.astype(np.float64)
    return ((lost - correction) ** 2).mean(axis=0)


def draw_correlated(rng, count, size):
    """Return windows that vary in a quarter of their dimensions, mostly, and are positive on average."""
    return rng.normal(size=(count, size // 4)) @ rng.normal(size=(size // 4, size)) + rng.normal(
        0.5, 0.1, (count, size)
    )


def test_correlated_inputs_gain():
    rng = np.random.default_rng(1)
    windows, weights = draw_correlated(rng, 4000, 96), rng.normal(size=(24, 96)).astype(np.float32)
    rounded, correction = round_calibrated(weights, 0, 8, gather(windows[None]))
    assert rounded.bits == 8
    nearest = round_nearest(weights)
    fresh = draw_correlated(np.random.default_rng(1), 4000, 96)
    found = measure_errors(weights, rounded, correction, fresh)
    wanted = measure_errors(weights, nearest, 0, fresh)
    assert found.sum() < 0.2 * wanted.sum()
    assert (found <= wanted).all()


def test_independent_inputs_stay():
    # Nothing can make up for an error, so nearest integers are best.
    rng = np.random.default_rng(2)
    weights = rng.uniform(-1, 1, (8, 32)).astype(np.float32)
    statistics = LayerStatistics(np.eye(32)[None], np.zeros((1, 32)), 1000, 1.0, np.zeros(BINS, np.int64), 2.0)
    rounded, correction = round_calibrated(weights, 0, 8, statistics)
    assert not correction.any()
    np.testing.assert_array_equal(rounded.values, round_nearest(weights).values)


def test_without_a_bias_the_mean_counts():
    rng = np.random.default_rng(3)
    weights, windows = rng.normal(size=(16, 64)).astype(np.float32), rng.normal(3.0, 0.2, (2000, 64))
    statistics = gather(windows[None])
    rounded, correction = round_calibrated(weights, 0, 8, statistics, has_bias=False)
    assert not correction.any()
    found = measure_errors(weights, rounded, 0, windows).sum()
    assert found < 0.1 * measure_errors(weights, round_nearest(weights), 0, windows).sum()
    assert found < 0.5 * measure_errors(weights, round_calibrated(weights, 0, 8, statistics)[0], 0, windows).sum()


@pytest.mark.parametrize("bits", [8, 16])
def test_axes_agree(bits):
    rng = np.random.default_rng(4)
    windows, weights = draw_correlated(rng, 500, 36), rng.normal(size=(10, 36)).astype(np.float32)
    statistics = gather(windows[None])
    filters, first = round_calibrated(weights.reshape(10, 4, 3, 3), 0, bits, statistics)
    products, second = round_calibrated(np.ascontiguousarray(weights.T), 1, bits, statistics)
    assert filters.values.shape == (10, 4, 3, 3)
    assert filters.values.dtype == products.values.dtype == f"int{bits}"
    assert products.values.shape == (36, 10)
    assert (filters.axis, products.axis) == (0, 1)
    np.testing.assert_array_equal(filters.values.reshape(10, 36), products.values.T)
    np.testing.assert_array_equal(filters.scales, products.scales)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(filters.to_float().reshape(10, 36), weights, rtol=0, atol=0.5 if bits == 8 else 2e-3)
    assert np.abs(filters.values.astype(int)).max() <= 2 ** (bits - 1) - 1


def test_groups_are_rounded_alone():
    rng = np.random.default_rng(5)
    windows = np.stack([draw_correlated(rng, 400, 12) for _ in range(3)])
    weights = rng.normal(size=(6, 12, 1, 1)).astype(np.float32)
    together, correction = round_calibrated(weights, 0, 8, gather(windows))
    for group in range(3):
        rows = slice(2 * group, 2 * group + 2)
        alone, part = round_calibrated(weights[rows], 0, 8, gather(windows[group : group + 1]))
        np.testing.assert_array_equal(together.values[rows], alone.values)
        np.testing.assert_allclose(correction[rows], part, rtol=1e-6, atol=1e-9)


def test_zero_channels_and_constant_inputs():
    rng = np.random.default_rng(6)
    weights = rng.normal(size=(4, 20)).astype(np.float32)
    weights[2] = 0
    windows = np.broadcast_to(rng.normal(size=20), (1, 50, 20))
    rounded, correction = round_calibrated(weights, 0, 8, gather(windows))
    assert not rounded.values[2].any()
    assert (rounded.scales[2], correction[2]) == (1, 0)
    # All of the error is its mean.
    assert measure_errors(weights, rounded, correction, windows[0]).max() < 1e-10


def test_weights_too_small_for_a_scale():
    rounded, correction = round_calibrated(np.full((2, 3), 1e-44, np.float32), 0, 8, gather(np.ones((1, 5, 3))))
    assert not rounded.values.any()
    np.testing.assert_array_equal(rounded.scales, 1)
    assert np.abs(correction).max() < 1e-40


def test_inputs_of_zero_round_to_nearest():
    weights = np.random.default_rng(7).normal(size=(4, 20)).astype(np.float32)
    rounded, correction = round_calibrated(weights, 0, 8, gather(np.zeros((1, 9, 20))))
    np.testing.assert_array_equal(rounded.values, round_nearest(weights).values)
    assert not correction.any()


def test_fewer_windows_than_inputs():
    rng = np.random.default_rng(8)
    weights, windows = rng.normal(size=(16, 200)).astype(np.float32), rng.normal(2.0, 1.0, (1, 4, 200))
    rounded, correction = round_calibrated(weights, 0, 8, gather(windows))
    fresh = rng.normal(2.0, 1.0, (1000, 200))
    found = measure_errors(weights, rounded, correction, fresh)
    nearest = round_nearest(weights)
    own = (weights - nearest.to_float()) @ windows[0].mean(axis=0)
    # Four windows must not spoil the weights for others.
    assert found.sum() < 1.5 * measure_errors(weights, nearest, own, fresh).sum()


def test_single_weight():
    rounded, correction = round_calibrated(np.float32([[-0.3]]), 1, 8, gather(np.ones((1, 3, 1))))
    assert np.abs(rounded.to_float()[0, 0] + np.float32(0.3)) < 1e-6
    assert abs(correction[0]) < 1e-6


def test_repeats_are_equal():
    rng = np.random.default_rng(9)
    statistics, weights = gather(draw_correlated(rng, 300, 40)[None]), rng.normal(size=(7, 40)).astype(np.float32)
    first, second = (round_calibrated(weights, 0, 8, statistics) for _ in range(2))
    np.testing.assert_array_equal(first[0].values, second[0].values)
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize(("shape", "axis"), [((5, 11), 0), ((5, 12, 3, 3), 0), ((12, 5), 0), ((5, 12), 1)])
def test_statistics_of_another_layer(shape, axis):
    statistics = gather(np.ones((1, 3, 12)))
    with pytest.raises(ValueError, match="1 groups of 12 inputs"):
        round_calibrated(np.ones(shape, np.float32), axis, 8, statistics)
    with pytest.raises(ValueError, match="2 groups of 12 inputs"):
        round_calibrated(np.ones((5, 12), np.float32), 0, 8, gather(np.ones((2, 3, 12))))
