"""Runs programs before and after passes."""

import warnings

import pytest

from converters.sources.program import read_program


@pytest.fixture(scope="module")
def inference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle.inference
    return paddle.inference


@pytest.fixture
def run(inference, tmp_path):
    def run(program, array):
        program.write(tmp_path / "p.pdmodel", tmp_path / "p.pdiparams")
        read_program(tmp_path / "p.pdmodel", tmp_path / "p.pdiparams")
        config = inference.Config(str(tmp_path / "p.pdmodel"), str(tmp_path / "p.pdiparams"))
        config.disable_glog_info()
        config.switch_ir_optim(False)
        config.disable_mkldnn()
        predictor = inference.create_predictor(config)
        predictor.get_input_handle("x").copy_from_cpu(array)
        predictor.run()
        return {name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()}

    return run
