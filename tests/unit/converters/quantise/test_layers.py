"""Which layers of a .nb can be stored as integers."""

from support.nb_programs import build_model, draw, feed, fetch, make_op

from converters.quantise.layers import list_layers

CONV = {"strides": (1, 1), "paddings": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}


def build(params, *ops):
    return build_model([feed("x"), *ops, fetch("y")], {"x": (-1, 3, -1, -1)}, params)


def test_layers_in_order_with_their_biases():
    nb = build(
        {"w": draw(4, 3, 1, 1), "c": draw(4), "v": draw(4, 5), "b": draw(5)},
        make_op("conv2d", {"Input": "x", "Filter": "w", "Bias": "c"}, {"Output": "a"}, **CONV),
        make_op("transpose2", {"X": "a"}, {"Out": "r"}, axis=(0, 2, 3, 1)),
        make_op("fc", {"Input": "r", "W": "v", "Bias": "b"}, {"Out": "y"}, op_type="matmul_v2"),
    )
    first, second = list_layers(nb)
    assert (first.name, first.op_type, first.axis, first.bias, first.groups, first.index) == (
        "w",
        "conv2d",
        0,
        "c",
        1,
        0,
    )
    assert (second.name, second.axis, second.bias, second.index, second.count) == ("v", 1, "b", 1, 20)


def test_shared_weights_and_shared_biases_are_left_alone():
    conv = {"Filter": "w", "Bias": "c"}
    nb = build(
        {"w": draw(3, 3, 1, 1), "u": draw(3, 3, 1, 1, seed=1), "c": draw(3)},
        make_op("conv2d", {"Input": "x", **conv}, {"Output": "a"}, **CONV),
        make_op("conv2d", {"Input": "a", **conv}, {"Output": "b"}, **CONV),
        make_op("conv2d", {"Input": "b", "Filter": "u", "Bias": "c"}, {"Output": "y"}, **CONV),
    )
    (layer,) = list_layers(nb)
    assert (layer.name, layer.bias) == ("u", None)


def test_layers_that_are_integers_already_are_left_alone():
    quantised = {"quantization_type": "post_weight_channel_wise_abs_max", "quantize_weight_bits": 8}
    nb = build(
        {"w": draw(3, 3, 1, 1), "v": draw(3, 3, 1, 1)},
        make_op(
            "conv2d", {"Input": "x", "Filter": "w"}, {"Output": "a"}, **CONV, **quantised, w_quant_scale=(1.0,) * 3
        ),
        make_op("conv2d", {"Input": "a", "Filter": "v"}, {"Output": "y"}, **CONV, enable_int8=True),
    )
    assert list_layers(nb) == ()
