package io.github.edgeocr;

import android.content.Context;
import android.graphics.Bitmap;
import io.github.edgeocr.core.EdgeOcrException;
import io.github.edgeocr.core.Reading;
import io.github.edgeocr.core.TextLine;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executor;
import java.util.function.Consumer;

/** An app's use of the library in Java; docs/howto/phone.md shows the parts between the marks. */
final class JavaSample {
    private JavaSample() {}

    // shown: blocking
    static List<String> readTexts(Context context, Bitmap bitmap) throws EdgeOcrException {
        try (EdgeOcr ocr = EdgeOcr.open(context)) {
            List<String> texts = new ArrayList<>();
            for (TextLine line : ocr.recognize(bitmap).getLines()) {
                texts.add(line.getText());
            }
            return texts;
        }
    }
    // end

    // shown: callback
    static final class Show implements OcrCallback<Reading> {
        private final Consumer<String> view;

        Show(Consumer<String> view) {
            this.view = view;
        }

        @Override
        public void onResult(Reading reading) {
            view.accept(reading.getLines().size() + " lines");
        }

        @Override
        public void onError(Throwable error) {
            view.accept(String.valueOf(error.getMessage()));
        }
    }

    static OcrJob read(EdgeOcr ocr, Bitmap bitmap, Executor mainThread, Consumer<String> view) {
        return AsyncOcr.recognize(ocr, bitmap, mainThread, new Show(view));
    }
    // end
}
