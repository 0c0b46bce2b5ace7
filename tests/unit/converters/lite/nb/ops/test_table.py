import pytest

from converters.lite.nb.ops import OPS
from converters.sources.onnx_ops import RULES
from converters.sources.ops import PADDLE_OPS


@pytest.mark.parametrize("name", [name for name, op in PADDLE_OPS.items() if op.onnx])
def test_an_op_with_an_onnx_form_is_imported_and_built(name):
    assert PADDLE_OPS[name].onnx in RULES
    assert name in OPS


def test_activations_that_ops_fuse_are_known_ops():
    fused = {name for rule in OPS.values() for name in rule.activations}
    assert fused == {"relu", "relu6", "hard_swish"}
    assert fused <= PADDLE_OPS.keys()
