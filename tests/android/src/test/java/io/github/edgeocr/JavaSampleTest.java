package io.github.edgeocr;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertSame;
import static org.junit.Assert.assertTrue;

import android.app.Application;
import android.graphics.Bitmap;
import com.baidu.paddle.lite.FakeRuntime;
import java.io.File;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.After;
import org.junit.Before;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;

/** What is meant for Java works from Java, and so does the sample of the documentation. */
@RunWith(RobolectricTestRunner.class)
public class JavaSampleTest {
    private static final int LONG_S = 30;

    @Rule public final TemporaryFolder temporary = new TemporaryFolder();

    private final TestBundle bundle = new TestBundle("card");
    private final ExecutorService mainThread = Executors.newSingleThreadExecutor();
    private File folder;

    @Before
    public void writeBundle() {
        FakeRuntime.reset("v2.13-rc");
        bundle.loadNetworks(model -> kotlin.Unit.INSTANCE);
        folder = bundle.write(new File(temporary.getRoot(), "bundle"));
    }

    @After
    public void stop() {
        mainThread.shutdown();
        assertEquals(0, FakeRuntime.loaded.get());
    }

    private static <T> T take(BlockingQueue<T> queue) throws InterruptedException {
        T taken = queue.poll(LONG_S, TimeUnit.SECONDS);
        assertTrue("nothing came", taken != null);
        return taken;
    }

    /** A callback that completes a future. */
    private static final class Outcome<T> extends CompletableFuture<T> implements OcrCallback<T> {
        @Override
        public void onResult(T result) {
            complete(result);
        }

        @Override
        public void onError(Throwable error) {
            completeExceptionally(error);
        }
    }

    @Test
    public void opensAndReads() throws Exception {
        Outcome<EdgeOcr> opened = new Outcome<>();
        AsyncOcr.open(folder, mainThread, opened);
        BlockingQueue<String> shown = new LinkedBlockingQueue<>();
        try (EdgeOcr ocr = opened.get(LONG_S, TimeUnit.SECONDS)) {
            JavaSample.read(ocr, bundle.makeBitmap(), mainThread, shown::add);
            assertEquals(bundle.getTexts().size() + " lines", take(shown));
            Bitmap recycled = bundle.makeBitmap();
            recycled.recycle();
            JavaSample.read(ocr, recycled, mainThread, shown::add);
            assertTrue(take(shown).contains("recycled"));
            JavaSample.read(ocr, bundle.makeBitmap(), mainThread, shown::add).cancel();
            JavaSample.read(ocr, bundle.makeBitmap(), mainThread, shown::add);
            assertEquals(bundle.getTexts().size() + " lines", take(shown));
            assertEquals(0, shown.size());
        }
    }

    @Test
    public void opensTheBundleInTheAssets() throws Exception {
        AppAssetsKt.addAssets(temporary.newFile("assets.apk"), folder);
        Application app = RuntimeEnvironment.getApplication();
        Outcome<EdgeOcr> first = new Outcome<>();
        AsyncOcr.open(app, mainThread, first);
        first.get(LONG_S, TimeUnit.SECONDS).close();
        Outcome<EdgeOcr> second = new Outcome<>();
        AsyncOcr.open(app, new File(folder, "nowhere"), mainThread, second);
        second.get(LONG_S, TimeUnit.SECONDS).close();
    }

    @Test
    public void readsFrames() throws Exception {
        BlockingQueue<FrameReading> readings = new LinkedBlockingQueue<>();
        BlockingQueue<Throwable> errors = new LinkedBlockingQueue<>();
        OcrCallback<FrameReading> listener =
                new OcrCallback<>() {
                    @Override
                    public void onResult(FrameReading result) {
                        readings.add(result);
                    }

                    @Override
                    public void onError(Throwable error) {
                        errors.add(error);
                    }
                };
        try (EdgeOcr ocr = EdgeOcr.open(folder);
                FrameReader reader = new FrameReader(ocr, mainThread, listener)) {
            Bitmap frame = bundle.makeBitmap();
            assertTrue(reader.offer(frame));
            FrameReading reading = take(readings);
            assertSame(frame, reading.getFrame());
            assertEquals(bundle.getTexts().size(), reading.getReading().getLines().size());
            reader.close();
            assertFalse(reader.offer(frame));
        }
        assertEquals(0, errors.size());
    }

    @Test
    public void readsTexts() throws Exception {
        AppAssetsKt.addAssets(temporary.newFile("assets.apk"), folder);
        Application app = RuntimeEnvironment.getApplication();
        assertEquals(bundle.getTexts(), JavaSample.readTexts(app, bundle.makeBitmap()));
    }
}
