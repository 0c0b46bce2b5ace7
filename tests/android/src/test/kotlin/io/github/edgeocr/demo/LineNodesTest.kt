package io.github.edgeocr.demo

import android.app.Activity
import android.content.Context
import android.graphics.Rect
import android.view.InputDevice
import android.view.MotionEvent
import android.view.View
import android.view.accessibility.AccessibilityEvent
import android.view.accessibility.AccessibilityManager
import android.view.accessibility.AccessibilityNodeInfo
import android.view.accessibility.AccessibilityNodeInfo.AccessibilityAction
import android.view.accessibility.AccessibilityNodeProvider
import android.widget.FrameLayout
import android.widget.ScrollView
import io.github.edgeocr.core.TextLine
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.robolectric.Shadows.shadowOf

class LineNodesTest : DemoTest() {
    /** Type and text of each event that a screen reader received. */
    private val events = ArrayList<Pair<Int, String>>()
    private val copied = ArrayList<String>()
    private lateinit var view: OverlayView

    private val nodes get() = view.accessibilityNodeProvider
    private val host get() = nodes.createAccessibilityNodeInfo(AccessibilityNodeProvider.HOST_VIEW_ID)!!
    private val manager get() = app.getSystemService(Context.ACCESSIBILITY_SERVICE) as AccessibilityManager

    private fun makeLine(text: String, top: Float) =
        TextLine(floatArrayOf(10f, top, 90f, top, 90f, top + 20, 10f, top + 20), 1.0, text, 1.0)

    private val lines = listOf(makeLine("second on the page, read first", 50f), makeLine("then this", 10f))

    /** An activity with the view, 100 × 100 pixels in a ScrollView at 30, 40. */
    class Screen : Activity()

    @Before
    fun makeView() {
        shadowOf(manager).setEnabled(true)
        shadowOf(manager).setTouchExplorationEnabled(true)
        val activity = start<Screen>().get()
        view = OverlayView(activity, null)
        view.onTextChosen = { copied += it }
        val scroll = ScrollView(activity).apply { addView(view) }
        val frame = object : FrameLayout(activity) {
            override fun requestSendAccessibilityEvent(child: View, event: AccessibilityEvent): Boolean {
                events += event.eventType to event.text.joinToString()
                return true
            }
        }
        scroll.isFillViewport = true
        frame.addView(scroll, FrameLayout.LayoutParams(100, 100).apply { setMargins(30, 40, 0, 0) })
        activity.setContentView(frame)
        show(100)
    }

    private fun show(height: Int) {
        view.show(null, lines, 100, height)
        waitUntil("it is laid out") { !view.isLayoutRequested && view.width == 100 }
        events.clear()
    }

    private fun findBounds(id: Int) = Rect().also { nodes.createAccessibilityNodeInfo(id)!!.getBoundsInScreen(it) }

    private fun findCorner() = IntArray(2).also(view::getLocationOnScreen).let { (x, y) -> x to y }

    @Test
    fun `each line is a node, in reading order`() {
        assertEquals(2, host.childCount)
        assertNull(host.contentDescription)
        assertEquals(lines.map { it.text }, hear(view))
        assertEquals(listOf("then this"), nodes.findAccessibilityNodeInfosByText("THIS", -1)!!.map { "${it.text}" })
        for (id in 0..1) {
            val node = nodes.createAccessibilityNodeInfo(id)!!
            assertEquals(lines[id].text, "${node.text}")
            assertEquals(app.packageName, node.packageName)
            assertTrue(node.isClickable && node.isEnabled && node.isVisibleToUser)
            val click = node.actionList.first { it.id == AccessibilityNodeInfo.ACTION_CLICK }
            assertEquals(app.getString(R.string.copy), click.label)
        }
        val (x, y) = findCorner()
        assertEquals(Rect(x + 10, y + 50, x + 90, y + 70), findBounds(0))
        assertEquals(Rect(x + 10, y + 10, x + 90, y + 30), findBounds(1))
        assertNull(nodes.createAccessibilityNodeInfo(2))
    }

    @Test
    fun `a double tap copies the line`() {
        assertTrue(nodes.performAction(1, AccessibilityNodeInfo.ACTION_CLICK, null))
        assertEquals(listOf("then this"), copied)
        assertEquals(listOf(AccessibilityEvent.TYPE_VIEW_CLICKED to "then this"), events)
        assertFalse(nodes.performAction(2, AccessibilityNodeInfo.ACTION_CLICK, null))
        assertFalse(nodes.performAction(1, AccessibilityNodeInfo.ACTION_COPY, null))
    }

    @Test
    fun `the focus moves from line to line`() {
        val focus = AccessibilityNodeInfo.ACTION_ACCESSIBILITY_FOCUS
        assertNull(nodes.findFocus(AccessibilityNodeInfo.FOCUS_ACCESSIBILITY))
        assertTrue(nodes.performAction(0, focus, null))
        assertFalse(nodes.performAction(0, focus, null))
        assertTrue(nodes.createAccessibilityNodeInfo(0)!!.isAccessibilityFocused)
        assertTrue(nodes.performAction(1, focus, null))
        assertFalse(nodes.createAccessibilityNodeInfo(0)!!.isAccessibilityFocused)
        assertEquals("then this", "${nodes.findFocus(AccessibilityNodeInfo.FOCUS_ACCESSIBILITY)?.text}")
        assertNull(nodes.findFocus(AccessibilityNodeInfo.FOCUS_INPUT))
        val clear = AccessibilityNodeInfo.ACTION_CLEAR_ACCESSIBILITY_FOCUS
        assertFalse(nodes.performAction(0, clear, null))
        assertTrue(nodes.performAction(1, clear, null))
        val focused = AccessibilityEvent.TYPE_VIEW_ACCESSIBILITY_FOCUSED
        val cleared = AccessibilityEvent.TYPE_VIEW_ACCESSIBILITY_FOCUS_CLEARED
        assertEquals(
            listOf(focused to 0, cleared to 0, focused to 1, cleared to 1).map { (type, id) -> type to lines[id].text },
            events,
        )
    }

    @Test
    fun `a line of a video keeps the focus while it is shown`() {
        view.show(null, lines, 100, 100, listOf(7, 8))
        nodes.performAction(8, AccessibilityNodeInfo.ACTION_ACCESSIBILITY_FOCUS, null)
        view.show(null, listOf(makeLine("then that", 12f)), 100, 100, listOf(8))
        assertEquals("then that", "${nodes.findFocus(AccessibilityNodeInfo.FOCUS_ACCESSIBILITY)?.text}")
        assertEquals(AccessibilityEvent.TYPE_WINDOW_CONTENT_CHANGED, events.last().first)
        view.show(null, lines, 100, 100, listOf(9, 10))
        assertNull(nodes.findFocus(AccessibilityNodeInfo.FOCUS_ACCESSIBILITY))
        view.show(null, emptyList(), 100, 100)
        assertEquals(0, host.childCount)
    }

    private fun hover(action: Int, x: Float, y: Float) =
        view.dispatchGenericMotionEvent(
            MotionEvent.obtain(0, 0, action, x, y, 0).apply { source = InputDevice.SOURCE_TOUCHSCREEN },
        )

    @Test
    fun `a finger that explores the screen finds the line under it`() {
        assertTrue(hover(MotionEvent.ACTION_HOVER_ENTER, 20f, 60f))
        assertTrue(hover(MotionEvent.ACTION_HOVER_MOVE, 21f, 60f))
        assertTrue(hover(MotionEvent.ACTION_HOVER_MOVE, 20f, 20f))
        assertTrue(hover(MotionEvent.ACTION_HOVER_EXIT, 20f, 20f))
        val (enter, exit) = AccessibilityEvent.TYPE_VIEW_HOVER_ENTER to AccessibilityEvent.TYPE_VIEW_HOVER_EXIT
        assertEquals(
            listOf(enter to 0, enter to 1, exit to 0, exit to 1).map { (type, id) -> type to lines[id].text },
            events,
        )
        events.clear()
        hover(MotionEvent.ACTION_HOVER_ENTER, 20f, 95f)
        assertEquals(emptyList<Pair<Int, String>>(), events.filter { it.second.isNotEmpty() })
        shadowOf(manager).setTouchExplorationEnabled(false)
        hover(MotionEvent.ACTION_HOVER_ENTER, 20f, 60f)
        assertEquals(emptyList<Pair<Int, String>>(), events.filter { it.second.isNotEmpty() })
    }

    @Test
    fun `a line that is scrolled out of view is found and scrolled to`() {
        show(1000)
        view.show(null, listOf(lines[0], makeLine("far below", 900f)), 100, 1000)
        assertEquals(1000, view.height)
        assertFalse(nodes.createAccessibilityNodeInfo(1)!!.isVisibleToUser)
        assertTrue(nodes.createAccessibilityNodeInfo(0)!!.isVisibleToUser)
        nodes.performAction(1, AccessibilityAction.ACTION_SHOW_ON_SCREEN.id, null)
        waitUntil("it is scrolled to") { nodes.createAccessibilityNodeInfo(1)!!.isVisibleToUser }
        assertFalse(nodes.createAccessibilityNodeInfo(0)!!.isVisibleToUser)
        nodes.performAction(0, AccessibilityNodeInfo.ACTION_ACCESSIBILITY_FOCUS, null)
        waitUntil("it is scrolled to") { nodes.createAccessibilityNodeInfo(0)!!.isVisibleToUser }
    }
}
