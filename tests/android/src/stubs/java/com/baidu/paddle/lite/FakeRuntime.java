package com.baidu.paddle.lite;

import java.io.File;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;

/** Stands for the native library, as a test sets it. */
public final class FakeRuntime {
    /** What runs a model; null where that fails. */
    public interface Network {
        Output run(long[] shape, float[] data);
    }

    public static final class Output {
        final long[] shape;
        final float[] data;

        public Output(long[] shape, float[] data) {
            this.shape = shape;
            this.data = data;
        }
    }

    /** What the library says it is. */
    public static String version;

    /** Why the library cannot be loaded; null where it can. */
    public static String linkError;

    /** What loads, by the name of its file. */
    public static final Map<String, Network> networks = new ConcurrentHashMap<>();

    /** How every network was asked for, in turn. */
    public static final List<MobileConfig> asked = new CopyOnWriteArrayList<>();

    /** How many networks hold native memory. */
    public static final AtomicInteger loaded = new AtomicInteger();

    private FakeRuntime() {}

    public static void reset(String version) {
        FakeRuntime.version = version;
        linkError = null;
        networks.clear();
        asked.clear();
        loaded.set(0);
    }

    static Network load(MobileConfig config) {
        if (linkError != null) {
            throw new UnsatisfiedLinkError(linkError);
        }
        asked.add(config);
        Network network = networks.get(new File(config.getModelFromFile()).getName());
        if (network != null) {
            loaded.incrementAndGet();
        }
        return network;
    }
}
