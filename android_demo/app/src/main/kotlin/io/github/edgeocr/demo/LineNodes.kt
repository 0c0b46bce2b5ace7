package io.github.edgeocr.demo

import android.content.Context
import android.graphics.Rect
import android.os.Bundle
import android.view.MotionEvent
import android.view.View
import android.view.accessibility.AccessibilityEvent
import android.view.accessibility.AccessibilityManager
import android.view.accessibility.AccessibilityNodeInfo
import android.view.accessibility.AccessibilityNodeInfo.AccessibilityAction
import android.view.accessibility.AccessibilityNodeProvider

/** A line for screen readers: [id] stays the same while it is shown; [bounds] are in the view. */
internal class LineNode(val id: Int, val text: String, val bounds: Rect)

/**
 * What screen readers find in [host]: its lines, in reading order, instead of a single view.
 *
 * A double tap on a line calls [onClick] with its index.
 */
internal class LineNodes(private val host: View, private val onClick: (index: Int) -> Unit) :
    AccessibilityNodeProvider() {
    private val manager = host.context.getSystemService(Context.ACCESSIBILITY_SERVICE) as AccessibilityManager
    private var nodes = emptyList<LineNode>()

    // Ids, or NONE: where the screen reader is, and the finger that explores the screen.
    private var focused = NONE
    private var hovered = NONE

    fun show(nodes: List<LineNode>) {
        this.nodes = nodes
        if (nodes.none { it.id == focused }) focused = NONE
        if (nodes.none { it.id == hovered }) hovered = NONE
        send(View.NO_ID, AccessibilityEvent.TYPE_WINDOW_CONTENT_CHANGED)
    }

    // The replacement of `obtain`, here and below, needs Android 11.
    @Suppress("DEPRECATION")
    override fun createAccessibilityNodeInfo(virtualViewId: Int): AccessibilityNodeInfo? {
        if (virtualViewId == HOST_VIEW_ID) {
            val info = AccessibilityNodeInfo.obtain(host)
            host.onInitializeAccessibilityNodeInfo(info)
            for (node in nodes) info.addChild(host, node.id)
            return info
        }
        val index = nodes.indexOfFirst { it.id == virtualViewId }
        val node = nodes.getOrNull(index) ?: return null
        return AccessibilityNodeInfo.obtain(host, node.id).apply {
            packageName = host.context.packageName
            className = View::class.java.name
            text = node.text
            isEnabled = true
            isClickable = true
            isAccessibilityFocused = node.id == focused
            setParent(host)
            if (index > 0) setTraversalAfter(host, nodes[index - 1].id)
            place(this, node.bounds)
            addAction(AccessibilityAction(AccessibilityNodeInfo.ACTION_CLICK, host.context.getString(R.string.copy)))
            addAction(AccessibilityAction.ACTION_SHOW_ON_SCREEN)
            addAction(
                if (node.id == focused) {
                    AccessibilityAction.ACTION_CLEAR_ACCESSIBILITY_FOCUS
                } else {
                    AccessibilityAction.ACTION_ACCESSIBILITY_FOCUS
                },
            )
        }
    }

    /** Sets the bounds in the screen, without what is scrolled out of view unless that is all. */
    private fun place(info: AccessibilityNodeInfo, bounds: Rect) {
        val visible = Rect()
        val shown = Rect(bounds)
        info.isVisibleToUser = host.isShown && host.getLocalVisibleRect(visible) && shown.intersect(visible)
        val corner = IntArray(2).also(host::getLocationOnScreen)
        shown.offset(corner[0], corner[1])
        info.setBoundsInScreen(shown)
    }

    override fun findAccessibilityNodeInfosByText(text: String, virtualViewId: Int): List<AccessibilityNodeInfo> =
        nodes.filter { (virtualViewId == HOST_VIEW_ID || virtualViewId == it.id) && it.text.contains(text, true) }
            .mapNotNull { createAccessibilityNodeInfo(it.id) }

    override fun findFocus(focus: Int): AccessibilityNodeInfo? =
        if (focus == AccessibilityNodeInfo.FOCUS_ACCESSIBILITY && focused != NONE) {
            createAccessibilityNodeInfo(focused)
        } else {
            null
        }

    override fun performAction(virtualViewId: Int, action: Int, arguments: Bundle?): Boolean {
        if (virtualViewId == HOST_VIEW_ID) return host.performAccessibilityAction(action, arguments)
        val index = nodes.indexOfFirst { it.id == virtualViewId }
        val node = nodes.getOrNull(index) ?: return false
        when (action) {
            AccessibilityNodeInfo.ACTION_CLICK -> {
                onClick(index)
                send(node.id, AccessibilityEvent.TYPE_VIEW_CLICKED)
            }
            AccessibilityNodeInfo.ACTION_ACCESSIBILITY_FOCUS -> {
                if (focused == node.id) return false
                moveFocus(node.id)
                host.requestRectangleOnScreen(Rect(node.bounds))
            }
            AccessibilityNodeInfo.ACTION_CLEAR_ACCESSIBILITY_FOCUS -> {
                if (focused != node.id) return false
                moveFocus(NONE)
            }
            AccessibilityAction.ACTION_SHOW_ON_SCREEN.id -> return host.requestRectangleOnScreen(Rect(node.bounds))
            else -> return false
        }
        return true
    }

    private fun moveFocus(to: Int) {
        val from = focused
        focused = to
        if (from != NONE) send(from, AccessibilityEvent.TYPE_VIEW_ACCESSIBILITY_FOCUS_CLEARED)
        if (to != NONE) send(to, AccessibilityEvent.TYPE_VIEW_ACCESSIBILITY_FOCUSED)
        host.invalidate()
    }

    /** Passes on where the finger of a user is who explores the screen by touch; false if no line is there. */
    fun hover(event: MotionEvent): Boolean {
        if (!manager.isTouchExplorationEnabled) return false
        val (x, y) = event.x.toInt() to event.y.toInt()
        val isOver = event.actionMasked != MotionEvent.ACTION_HOVER_EXIT
        val node = if (isOver) nodes.firstOrNull { it.bounds.contains(x, y) } else null
        val (from, to) = hovered to (node?.id ?: NONE)
        if (from == to) return node != null
        hovered = to
        if (to != NONE) send(to, AccessibilityEvent.TYPE_VIEW_HOVER_ENTER)
        if (from != NONE) send(from, AccessibilityEvent.TYPE_VIEW_HOVER_EXIT)
        return true
    }

    /** Sends an event of a line, or of all if [id] is [View.NO_ID]. */
    @Suppress("DEPRECATION")
    private fun send(id: Int, type: Int) {
        val parent = host.parent
        if (!manager.isEnabled || parent == null) return
        val event = AccessibilityEvent.obtain(type)
        event.packageName = host.context.packageName
        event.className = View::class.java.name
        if (type == AccessibilityEvent.TYPE_WINDOW_CONTENT_CHANGED) {
            event.contentChangeTypes = AccessibilityEvent.CONTENT_CHANGE_TYPE_SUBTREE
            event.setSource(host)
        } else {
            nodes.find { it.id == id }?.let { event.text += it.text }
            event.setSource(host, id)
        }
        parent.requestSendAccessibilityEvent(host, event)
    }

    private companion object {
        const val NONE = Int.MIN_VALUE
    }
}
