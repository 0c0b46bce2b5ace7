package io.github.edgeocr

import android.graphics.Bitmap
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.emptyFlow
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.flowOf
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import java.util.concurrent.CompletableFuture
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread

@RunWith(RobolectricTestRunner::class)
class FrameReaderTest : BackgroundTest() {
    private val bitmaps = List(6) { bundle.makeBitmap() }

    private fun find(reading: FrameReading) = bitmaps.indexOfFirst { it === reading.frame }

    /** Emits the first bitmap, waits until it is read, then emits the others at once. */
    private fun emitBurst(emitted: CompletableDeferred<Unit>) = flow {
        emit(bitmaps[0])
        awaitDetector()
        for (bitmap in bitmaps.drop(1)) emit(bitmap)
        emitted.complete(Unit)
    }

    @Test
    fun `only the newest frame waits and the camera does not`() = run {
        holdDetector()
        val emitted = CompletableDeferred<Unit>()
        val readings = async(Dispatchers.Default) { ocr.recognizeFrames(emitBurst(emitted)).toList() }
        // The first frame is still being read.
        emitted.await()
        hold.countDown()
        assertEquals(listOf(0, 5), readings.await().map(::find))
        readings.await().forEach { assertReads(it.reading) }
        assertEquals(1, runs.count { it.first == "det" })
    }

    @Test
    fun `frames wait for the collector too`() = run {
        val frames = flow {
            for (bitmap in bitmaps) {
                emit(bitmap)
                delay(20)
            }
        }
        val read = ocr.recognizeFrames(frames).onEach { delay(500) }.toList().map(::find)
        assertEquals(listOf(0, 5), read)
    }

    @Test
    fun `no frames give no readings`() = run {
        assertEquals(emptyList<FrameReading>(), ocr.recognizeFrames(emptyFlow()).toList())
    }

    @Test
    fun `the first error ends the flow`() = run {
        isBroken = true
        val error = runCatching { ocr.recognizeFrames(flowOf(bitmaps[0])).toList() }.exceptionOrNull()
        assertTrue("$error", error is EngineException)
        isBroken = false
        val broken = flow<Bitmap> { throw ArithmeticException("of the camera") }
        assertTrue(runCatching { ocr.recognizeFrames(broken).toList() }.exceptionOrNull() is ArithmeticException)
    }

    @Test
    fun `a collector that is cancelled ends the reading`() = run {
        holdDetector()
        val collecting = launch(Dispatchers.Default) { ocr.recognizeFrames(flowOf(bitmaps[0])).collect { error("read") } }
        awaitDetector()
        collecting.cancel()
        hold.countDown()
        collecting.join()
        assertTrue(runs.none { it.first == "rec" })
        assertEquals(0, ocr.recognizeFrames(flowOf(bitmaps[0])).map(::find).first())
    }

    @Test
    fun `closing is an error of the flow and not its end`() = run {
        holdDetector()
        val reading = async(Dispatchers.Default) { runCatching { ocr.recognizeFrames(flowOf(bitmaps[0])).toList() } }
        awaitDetector()
        val closing = thread { ocr.close() }
        while (closing.state != Thread.State.WAITING) Thread.sleep(1)
        hold.countDown()
        val error = reading.await().exceptionOrNull()
        assertTrue("$error", error is IllegalStateException && error !is CancellationException)
        closing.join()
    }

    @Test
    fun `a listener gets the newest frames in order on its thread`() {
        val calls = Calls<FrameReading>()
        FrameReader(ocr, mine, calls).use { reader ->
            holdDetector()
            assertTrue(reader.offer(bitmaps[0]))
            awaitDetector()
            for (bitmap in bitmaps.drop(1)) assertTrue(reader.offer(bitmap))
            hold.countDown()
            for (expected in listOf(0, 5)) {
                val (result, thread) = take(calls.all)
                assertEquals(expected, find(result.getOrThrow()))
                assertReads(result.getOrThrow().reading)
                assertEquals(MINE, thread.substringBefore(" @"))
            }
            assertTrue(reader.offer(bitmaps[1]))
            assertEquals(1, find(calls.takeResult()))
        }
        assertTrue(runs.none { it.second.startsWith(MINE) })
        assertEquals(0, calls.all.size)
    }

    @Test
    fun `a busy listener holds up no camera`() {
        val (begun, finish) = CountDownLatch(1) to CountDownLatch(1)
        val read = Calls<FrameReading>()
        val busy = object : OcrCallback<FrameReading> by read {
            override fun onResult(result: FrameReading) {
                begun.countDown()
                finish.await()
                read.onResult(result)
            }
        }
        FrameReader(ocr, mine, busy).use { reader ->
            reader.offer(bitmaps[0])
            begun.await()
            for (bitmap in bitmaps.drop(1)) assertTrue(reader.offer(bitmap))
            finish.countDown()
            assertEquals(listOf(0, 5), List(2) { find(read.takeResult()) })
        }
    }

    @Test
    fun `the first error ends the listener`() {
        val calls = Calls<FrameReading>()
        FrameReader(ocr, mine, calls).use { reader ->
            isBroken = true
            reader.offer(bitmaps[0])
            assertTrue(calls.takeError() is EngineException)
            isBroken = false
            assertFalse(reader.offer(bitmaps[1]))
            assertReads(ocr.recognize(bitmaps[1]))
            assertEquals(0, calls.all.size)
        }
    }

    @Test
    fun `a closed EdgeOcr ends the listener with an error`() {
        val calls = Calls<FrameReading>()
        FrameReader(ocr, mine, calls).use { reader ->
            ocr.close()
            reader.offer(bitmaps[0])
            assertEquals(IllegalStateException::class.java, calls.takeError().javaClass)
        }
    }

    @Test
    fun `nothing is called after closing`() {
        val calls = Calls<FrameReading>()
        for (fails in listOf(false, true)) {
            holdDetector()
            isBroken = fails
            val reader = FrameReader(ocr, mine, calls)
            reader.offer(bitmaps[0])
            awaitDetector()
            reader.offer(bitmaps[1])
            reader.close()
            reader.close()
            assertFalse(reader.offer(bitmaps[2]))
            hold.countDown()
            isBroken = false
            assertReads(ocr.recognize(bitmaps[3]))
            mine.submit {}.get(LONG_S, TimeUnit.SECONDS)
            assertEquals(0, calls.all.size)
            runs.clear()
        }
    }

    @Test
    fun `nothing is called after closing though the reading has ended`() {
        val late = LateExecutor()
        val calls = Calls<FrameReading>()
        for (fails in listOf(false, true)) {
            isBroken = fails
            val reader = FrameReader(ocr, late, calls)
            reader.offer(bitmaps[0])
            late.runNext()
            // The reading has ended once its outcome is on the executor.
            val outcome = late.takeNext()
            reader.close()
            outcome.run()
            assertEquals(0, calls.all.size)
        }
    }

    @Test
    fun `what a listener throws reaches the handler of uncaught exceptions`() {
        val before = Thread.getDefaultUncaughtExceptionHandler()
        val uncaught = CompletableFuture<Throwable>()
        Thread.setDefaultUncaughtExceptionHandler { _, error -> uncaught.complete(error) }
        try {
            val calls = Calls<FrameReading>()
            val broken = object : OcrCallback<FrameReading> by calls {
                override fun onResult(result: FrameReading) = throw ArithmeticException("of the app")
            }
            FrameReader(ocr, mine, broken).use { reader ->
                reader.offer(bitmaps[0])
                assertEquals("of the app", uncaught.get(LONG_S, TimeUnit.SECONDS).message)
                assertEquals(0, calls.all.size)
            }
        } finally {
            Thread.setDefaultUncaughtExceptionHandler(before)
        }
    }
}
