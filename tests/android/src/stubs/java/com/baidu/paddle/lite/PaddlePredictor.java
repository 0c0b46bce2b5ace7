package com.baidu.paddle.lite;

/** Runs what FakeRuntime has for the name of the model's file. */
public class PaddlePredictor {
    private final FakeRuntime.Network network;
    private final Tensor input = new Tensor(false);
    private final Tensor output = new Tensor(true);
    private boolean isFreed;

    public PaddlePredictor(ConfigBase config) {
        network = FakeRuntime.load((MobileConfig) config);
        isFreed = network == null;
    }

    public static PaddlePredictor createPaddlePredictor(ConfigBase config) {
        PaddlePredictor predictor = new PaddlePredictor(config);
        return predictor.isFreed ? null : predictor;
    }

    public Tensor getInput(int offset) {
        return isFreed || offset != 0 ? null : input;
    }

    public Tensor getOutput(int offset) {
        return isFreed || offset != 0 ? null : output;
    }

    public boolean run() {
        if (isFreed) {
            return false;
        }
        FakeRuntime.Output made = network.run(input.shape(), input.getFloatData());
        if (made == null) {
            return false;
        }
        output.fill(made.shape, made.data);
        return true;
    }

    public String getVersion() {
        return isFreed ? "" : FakeRuntime.version;
    }

    protected boolean clear() {
        if (isFreed) {
            return false;
        }
        isFreed = true;
        FakeRuntime.loaded.decrementAndGet();
        return true;
    }
}
