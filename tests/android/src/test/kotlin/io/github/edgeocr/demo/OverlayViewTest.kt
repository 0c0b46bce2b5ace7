package io.github.edgeocr.demo

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.os.Looper
import android.os.SystemClock
import android.view.MotionEvent
import android.view.View.MeasureSpec.EXACTLY
import android.view.View.MeasureSpec.UNSPECIFIED
import android.view.View.MeasureSpec.makeMeasureSpec
import android.view.ViewConfiguration
import io.github.edgeocr.core.TextLine
import io.github.edgeocr.core.Word
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import java.util.concurrent.TimeUnit
import kotlin.math.abs

class OverlayViewTest : DemoTest() {
    // The picture is twice as wide as high and the view is square: scale 2, 100 free pixels above and below.
    private val picture = Bitmap.createBitmap(200, 100, Bitmap.Config.ARGB_8888).apply { eraseColor(Color.BLUE) }
    private val line = makeLine("wide", 20f, 20f, 120f, 40f)
    private val other = makeLine("竖排文字", 150f, 10f, 170f, 90f)

    private fun makeLine(text: String, left: Float, top: Float, right: Float, bottom: Float) =
        TextLine(floatArrayOf(left, top, right, top, right, bottom, left, bottom), 1.0, text, 1.0)

    private fun makeView() = OverlayView(app, null).apply {
        measure(makeMeasureSpec(400, EXACTLY), makeMeasureSpec(400, EXACTLY))
        layout(0, 0, 400, 400)
    }

    private fun draw(view: OverlayView): Bitmap =
        Bitmap.createBitmap(400, 400, Bitmap.Config.ARGB_8888).also { view.draw(Canvas(it)) }

    private fun assertColor(expected: Int, bitmap: Bitmap, x: Int, y: Int) {
        val found = bitmap.getPixel(x, y)
        val parts = listOf<(Int) -> Int>(Color::alpha, Color::red, Color::green, Color::blue)
        val isNear = parts.all { abs(it(expected) - it(found)) <= 2 }
        assertTrue("at $x, $y %08x, expected %08x".format(found, expected), isNear)
    }

    /** Bounds of the dark letters in the view: left, top, right, bottom. */
    private fun findInk(bitmap: Bitmap, left: Int, top: Int, right: Int, bottom: Int): List<Int> {
        val dark = (left..right).flatMap { x -> (top..bottom).map { x to it } }.filter { (x, y) ->
            bitmap.getPixel(x, y).let { maxOf(Color.red(it), Color.green(it), Color.blue(it)) < 100 }
        }
        assertTrue("there are no letters", dark.isNotEmpty())
        val (xs, ys) = dark.unzip()
        return listOf(xs.min(), ys.min(), xs.max(), ys.max())
    }

    @Test
    fun `the picture is scaled to fit, the boxes are on the lines`() {
        val view = makeView()
        view.showsTexts = false
        view.show(picture, listOf(line), 200, 100)
        val drawn = draw(view)
        assertColor(Color.TRANSPARENT, drawn, 200, 98)
        assertColor(Color.BLUE, drawn, 200, 102)
        assertColor(Color.BLUE, drawn, 2, 297)
        assertColor(Color.TRANSPARENT, drawn, 2, 302)
        val box = app.getColor(R.color.box)
        for ((x, y) in listOf(100 to 140, 100 to 180, 40 to 160, 240 to 160)) assertColor(box, drawn, x, y)
        // The picture inside the box is not covered.
        assertColor(Color.BLUE, drawn, 100, 160)
    }

    @Test
    fun `a downsampled picture replaces the full one`() {
        val view = makeView()
        view.showsTexts = false
        view.show(picture, listOf(makeLine("wide", 200f, 200f, 1200f, 400f)), 2000, 1000)
        val drawn = draw(view)
        assertColor(Color.BLUE, drawn, 2, 297)
        assertColor(app.getColor(R.color.box), drawn, 100, 140)
    }

    @Test
    fun `strips are one picture without a seam`() {
        val view = makeView()
        val parts = List(3) { Bitmap.createBitmap(picture, 0, 33 * it, 200, if (it < 2) 33 else 34) }
        view.show(parts, emptyList(), 200, 100)
        val drawn = draw(view)
        for (y in 102..298) assertColor(Color.BLUE, drawn, 200, y)
        for (y in listOf(98, 302)) assertColor(Color.TRANSPARENT, drawn, 200, y)
    }

    /** Height in a ScrollView that is 400 pixels wide. */
    private fun measureHeight(imageWidth: Int, imageHeight: Int): Int {
        val view = OverlayView(app, null)
        view.show(null, emptyList(), imageWidth, imageHeight)
        view.measure(makeMeasureSpec(400, EXACTLY), makeMeasureSpec(0, UNSPECIFIED))
        return view.measuredHeight
    }

    @Test
    fun `a tall picture is as wide as the view, others fit into it`() {
        assertEquals(4444, measureHeight(1080, 12000))
        // Not enlarged more than twofold.
        assertEquals(2000, measureHeight(100, 1000))
        assertEquals(listOf(0, 0, 0), listOf(measureHeight(1080, 2400), measureHeight(9000, 1080), measureHeight(0, 0)))
        val view = OverlayView(app, null)
        view.show(picture, listOf(makeLine("below", 20f, 900f, 80f, 920f)), 100, 1000)
        val tapped = ArrayList<String>()
        view.onTextChosen = { tapped += it }
        view.measure(makeMeasureSpec(400, EXACTLY), makeMeasureSpec(0, UNSPECIFIED))
        view.layout(0, 0, 400, view.measuredHeight)
        assertTrue(tap(view, 200f, 1820f))
        assertEquals(listOf("below"), tapped)
    }

    @Test
    fun `texts fill their boxes`() {
        val view = makeView()
        view.show(picture, listOf(line, other), 200, 100)
        val drawn = draw(view)
        val (left, top, right, bottom) = findInk(drawn, 44, 144, 236, 176)
        assertTrue("$left..$right", left < 60 && right > 220)
        assertTrue("$top..$bottom", bottom - top in 10..32)
        // The vertical line is read from top to bottom.
        val vertical = findInk(drawn, 304, 124, 336, 276)
        assertTrue("$vertical", vertical[1] < 140 && vertical[3] > 260)
        view.showsTexts = false
        assertColor(Color.BLUE, draw(view), 100, 160)
    }

    @Test
    fun `without a bitmap only boxes and texts are drawn`() {
        val view = makeView()
        view.show(null, listOf(line), 200, 100)
        val drawn = draw(view)
        assertColor(Color.TRANSPARENT, drawn, 200, 250)
        assertColor(app.getColor(R.color.box), drawn, 100, 140)
        view.show(null, emptyList(), 0, 0)
        assertTrue(draw(view).sameAs(Bitmap.createBitmap(400, 400, Bitmap.Config.ARGB_8888)))
    }

    @Test
    fun `a degenerate line is ignored`() {
        val view = makeView()
        val point = TextLine(FloatArray(8) { 50f }, 1.0, "", 1.0)
        view.show(picture, listOf(point, makeLine("x", 5f, 5f, 5f, 9f)), 200, 100)
        assertColor(Color.BLUE, draw(view), 300, 250)
    }

    private fun tap(view: OverlayView, x: Float, y: Float): Boolean {
        val isTaken = view.dispatchTouchEvent(MotionEvent.obtain(0, 0, MotionEvent.ACTION_DOWN, x, y, 0))
        if (isTaken) view.dispatchTouchEvent(MotionEvent.obtain(0, 9, MotionEvent.ACTION_UP, x, y, 0))
        return isTaken
    }

    @Test
    fun `a tap finds the line under it or near it`() {
        val view = makeView()
        val tapped = ArrayList<String>()
        view.onTextChosen = { tapped += it }
        view.show(picture, listOf(line, other), 200, 100)
        assertTrue(tap(view, 100f, 160f))
        assertTrue(tap(view, 320f, 200f))
        assertTrue(tap(view, 100f, 186f))
        // Between two lines, the nearer one.
        assertTrue(tap(view, 292f, 160f))
        assertEquals(listOf("wide", "竖排文字", "wide", "竖排文字"), tapped)
        assertTrue(tap(view, 100f, 250f))
        view.performClick()
        assertEquals(4, tapped.size)
    }

    private val words = listOf(makeWord("wi", 24f, 60f), makeWord("de", 70f, 116f))
    private val lineOfWords = TextLine(line.polygon, 1.0, "wi de", 1.0, words)

    private fun makeWord(text: String, left: Float, right: Float) =
        Word(text, 1.0, makeLine(text, left, 24f, right, 36f).polygon, emptyList())

    @Test
    fun `a tap finds the word under it or nearest in its line, the second one the line`() {
        val view = makeView()
        val tapped = ArrayList<String>()
        view.onTextChosen = { tapped += it }
        view.show(picture, listOf(lineOfWords, other), 200, 100)
        for (x in listOf(100f, 100f, 100f, 134f, 320f, 238f, 238f)) assertTrue(tap(view, x, 182f))
        assertEquals(listOf("wi", "wi de", "wi", "de", "竖排文字", "de", "wi de"), tapped)
    }

    @Test
    fun `words are outlined and the one that was tapped is marked`() {
        val view = makeView()
        view.showsTexts = false
        view.show(picture, listOf(lineOfWords), 200, 100)
        val before = draw(view)
        assertNotEquals(Color.BLUE, before.getPixel(48, 160))
        assertColor(Color.BLUE, before, 80, 160)
        tap(view, 80f, 160f)
        val word = draw(view)
        assertNotEquals(Color.BLUE, word.getPixel(80, 160))
        assertColor(Color.BLUE, word, 130, 160)
        // The same lines again, as after a cancelled reading.
        view.show(picture, listOf(lineOfWords), 200, 100)
        assertTrue(word.sameAs(draw(view)))
        tap(view, 80f, 160f)
        assertNotEquals(Color.BLUE, draw(view).getPixel(130, 160))
    }

    private fun touch(view: OverlayView, action: Int, x: Float, y: Float) =
        view.dispatchTouchEvent(MotionEvent.obtain(pressed, SystemClock.uptimeMillis(), action, x, y, 0))

    private var pressed = 0L

    /** Holds a finger down, then moves it along [path]; it stays there. */
    private fun drag(view: OverlayView, vararg path: Pair<Float, Float>) {
        pressed = SystemClock.uptimeMillis()
        touch(view, MotionEvent.ACTION_DOWN, path[0].first, path[0].second)
        shadowOf(Looper.getMainLooper()).idleFor(ViewConfiguration.getLongPressTimeout() * 2L, TimeUnit.MILLISECONDS)
        for ((x, y) in path.drop(1)) touch(view, MotionEvent.ACTION_MOVE, x, y)
    }

    private fun lift(view: OverlayView, x: Float, y: Float) = touch(view, MotionEvent.ACTION_UP, x, y)

    @Test
    fun `a rectangle that is drawn after a long press chooses what is in it`() {
        val view = makeView()
        val chosen = ArrayList<String>()
        view.onTextChosen = { chosen += it }
        view.show(picture, listOf(lineOfWords, other), 200, 100)
        val before = draw(view)
        // From the lower right to the upper left; everything is chosen only on the way.
        drag(view, 380f to 290f, 20f to 105f, 130f to 120f)
        assertEquals(emptyList<String>(), chosen)
        val drawn = draw(view)
        assertColor(app.getColor(R.color.region), drawn, 130, 250)
        assertNotEquals(before.getPixel(180, 160), drawn.getPixel(180, 160))
        assertEquals(before.getPixel(80, 160), drawn.getPixel(80, 160))
        lift(view, 130f, 120f)
        assertEquals(listOf("de\n竖排文字"), chosen)
        assertTrue(drawn.sameAs(draw(view)))
        drag(view, 20f to 105f, 390f to 295f)
        lift(view, 390f, 295f)
        assertEquals("wi de\n竖排文字", chosen.last())
        // A tap replaces it.
        tap(view, 80f, 160f)
        assertEquals("wi", chosen.last())
        assertColor(Color.BLUE, draw(view), 390, 250)
    }

    @Test
    fun `a finger that was down before there was text draws nothing`() {
        val view = makeView()
        val chosen = ArrayList<String>()
        view.onTextChosen = { chosen += it }
        pressed = SystemClock.uptimeMillis()
        // The system sends nothing more of a touch that the view refuses.
        assertFalse(touch(view, MotionEvent.ACTION_DOWN, 80f, 160f))
        view.show(picture, listOf(lineOfWords, other), 200, 100)
        val before = draw(view)
        shadowOf(Looper.getMainLooper()).idleFor(ViewConfiguration.getLongPressTimeout() * 2L, TimeUnit.MILLISECONDS)
        assertTrue(before.sameAs(draw(view)))
    }

    @Test
    fun `a long press or a rectangle without text in it chooses nothing`() {
        val view = makeView()
        val chosen = ArrayList<String>()
        view.onTextChosen = { chosen += it }
        view.show(picture, listOf(lineOfWords, other), 200, 100)
        val before = draw(view)
        drag(view, 80f to 160f)
        lift(view, 80f, 160f)
        drag(view, 80f to 220f, 200f to 280f)
        lift(view, 200f, 280f)
        drag(view, 20f to 105f, 390f to 295f)
        touch(view, MotionEvent.ACTION_CANCEL, 390f, 295f)
        assertEquals(emptyList<String>(), chosen)
        assertTrue(before.sameAs(draw(view)))
        // A finger that moves at once draws nothing: it scrolls.
        pressed = SystemClock.uptimeMillis()
        touch(view, MotionEvent.ACTION_DOWN, 20f, 105f)
        touch(view, MotionEvent.ACTION_MOVE, 200f, 295f)
        shadowOf(Looper.getMainLooper()).idleFor(9, TimeUnit.SECONDS)
        touch(view, MotionEvent.ACTION_MOVE, 390f, 295f)
        touch(view, MotionEvent.ACTION_CANCEL, 390f, 295f)
        assertEquals(emptyList<String>(), chosen)
    }

    @Test
    fun `a new frame does not end a rectangle that is being drawn`() {
        val view = makeView()
        val chosen = ArrayList<String>()
        view.onTextChosen = { chosen += it }
        view.show(picture, listOf(lineOfWords, other), 200, 100)
        drag(view, 20f to 105f, 280f to 295f)
        view.show(picture, listOf(makeLine("new", 20f, 20f, 120f, 40f), other), 200, 100)
        lift(view, 280f, 295f)
        assertEquals(listOf("new"), chosen)
        view.show(picture, listOf(other), 200, 100)
        assertColor(Color.BLUE, draw(view), 280, 250)
    }
}
