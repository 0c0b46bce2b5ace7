package com.baidu.paddle.lite;

public class Tensor {
    private final boolean isReadOnly;
    private long[] shape = {};
    private float[] data;

    protected Tensor(boolean isReadOnly) {
        this.isReadOnly = isReadOnly;
    }

    void fill(long[] shape, float[] data) {
        this.shape = shape;
        this.data = data;
    }

    public boolean isReadOnly() {
        return isReadOnly;
    }

    public boolean resize(long[] dims) {
        if (isReadOnly) {
            return false;
        }
        shape = dims.clone();
        return true;
    }

    public boolean setData(float[] values) {
        long size = 1;
        for (long side : shape) {
            size *= side;
        }
        if (isReadOnly || values.length != size) {
            return false;
        }
        data = values.clone();
        return true;
    }

    public long[] shape() {
        return shape.clone();
    }

    public float[] getFloatData() {
        return data.clone();
    }
}
