package io.github.edgeocr;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;

import com.baidu.paddle.lite.FakeRuntime;
import io.github.edgeocr.core.EdgeOcrException;
import io.github.edgeocr.core.Reading;
import io.github.edgeocr.core.ReturnWords;
import io.github.edgeocr.core.TextLine;
import io.github.edgeocr.core.UntrustedException;
import io.github.edgeocr.core.Word;
import java.io.File;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import org.junit.Before;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;

/** Java can call the library like a Java library. */
@RunWith(RobolectricTestRunner.class)
public class JavaCallerTest {
    @Rule public final TemporaryFolder temporary = new TemporaryFolder();

    // RFC 8410, 10.1.
    private static final String PUBLIC_KEY =
            "-----BEGIN PUBLIC KEY-----\n"
                    + "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
                    + "-----END PUBLIC KEY-----\n";

    private final TestBundle bundle = new TestBundle("card");
    private File folder;

    @Before
    public void writeBundle() {
        FakeRuntime.reset("v2.13-rc");
        bundle.loadNetworks(model -> kotlin.Unit.INSTANCE);
        folder = bundle.write(new File(temporary.getRoot(), "bundle"));
    }

    @Test
    public void readsBitmap() throws EdgeOcrException {
        try (EdgeOcr ocr = EdgeOcr.open(folder)) {
            Reading reading = ocr.recognize(bundle.makeBitmap());
            List<String> texts = new ArrayList<>();
            for (TextLine line : reading.getLines()) {
                texts.add(line.getText());
            }
            assertEquals(bundle.getTexts(), texts);
        }
    }

    @Test
    public void readsWords() throws EdgeOcrException {
        OcrOptions options = new OcrOptions(2, PowerMode.FULL, settings -> settings, null, ReturnWords.WORDS);
        try (EdgeOcr ocr = EdgeOcr.open(folder, options)) {
            for (TextLine line : ocr.recognize(bundle.makeBitmap()).getLines()) {
                StringBuilder text = new StringBuilder();
                for (Word word : line.getWords()) {
                    assertEquals(8, word.getPolygon().length);
                    text.append(word.getText());
                }
                assertEquals(line.getText().replace(" ", ""), text.toString());
            }
            for (TextLine line : ocr.recognize(bundle.makeBitmap(), () -> false, ReturnWords.NONE).getLines()) {
                assertNull(line.getWords());
            }
        }
    }

    @Test
    public void cancels() throws EdgeOcrException {
        try (EdgeOcr ocr = EdgeOcr.open(folder, new OcrOptions(2, PowerMode.FULL))) {
            assertThrows(CancellationException.class, () -> ocr.recognize(bundle.makeBitmap(), () -> true));
        }
    }

    @Test
    public void trusts() throws EdgeOcrException {
        FileCounterStore counters = new FileCounterStore(new File(temporary.getRoot(), "seen.json"));
        Trust trust = new Trust(Map.of("ours.pem", PUBLIC_KEY), counters);
        OcrOptions options = new OcrOptions(2, PowerMode.FULL, settings -> settings, trust);
        assertThrows(UntrustedException.class, () -> EdgeOcr.open(folder, options));
        assertThrows(UntrustedException.class, () -> Trust.fromAssets(RuntimeEnvironment.getApplication()));
    }

    @Test
    public void catchesWhatIsThrown() {
        FakeRuntime.version = "v2.9";
        try {
            EdgeOcr.open(folder).close();
        } catch (VersionMismatchException error) {
            assertEquals("v2.9", error.getLibraryVersion());
            return;
        } catch (EdgeOcrException error) {
            throw new AssertionError(error.getHint(), error);
        }
        throw new AssertionError("nothing was thrown");
    }
}
