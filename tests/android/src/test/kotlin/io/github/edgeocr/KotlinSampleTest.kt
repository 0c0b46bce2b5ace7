package io.github.edgeocr

import kotlinx.coroutines.flow.flowOf
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import java.io.File

/** The sample of the documentation works. */
@RunWith(RobolectricTestRunner::class)
class KotlinSampleTest : BackgroundTest() {
    @Test
    fun `reads texts`() = run {
        addAssets(temporary.newFile("assets.apk"), folder)
        assertEquals(bundle.texts, readTexts(RuntimeEnvironment.getApplication(), bundle.makeBitmap()))
    }

    @Test
    fun `reads with the bundle in the assets if a folder has none`() = run {
        addAssets(temporary.newFile("assets.apk"), folder)
        val nowhere = File(temporary.root, "nowhere")
        EdgeOcr.openSuspending(RuntimeEnvironment.getApplication(), nowhere).use {
            assertReads(it.recognizeSuspending(bundle.makeBitmap()))
        }
    }

    @Test
    fun `shows frames or the error`() = run {
        val shown = ArrayList<String>()
        showFrames(ocr, flowOf(bundle.makeBitmap())) { shown += it }
        isBroken = true
        showFrames(ocr, flowOf(bundle.makeBitmap())) { shown += it }
        assertEquals(bundle.texts.joinToString("\n"), shown[0])
        assertEquals(2, shown.size)
        assertTrue(shown[1], "rec.nb" in shown[1])
    }
}
