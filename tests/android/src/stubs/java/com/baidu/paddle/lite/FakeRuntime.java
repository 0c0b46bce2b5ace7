package com.baidu.paddle.lite;

import java.io.File;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;

/** A replacement for the native library, set up by each test. */
public final class FakeRuntime {
    /** Runs a model; null if that fails. */
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

    /** The library's version. */
    public static String version;

    /** Why the library cannot be loaded; null if it can. */
    public static String linkError;

    /** The models that can be loaded, by file name. */
    public static final Map<String, Network> networks = new ConcurrentHashMap<>();

    /** The requests to load networks, in order. */
    public static final List<MobileConfig> asked = new CopyOnWriteArrayList<>();

    /** How many networks have native memory. */
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
