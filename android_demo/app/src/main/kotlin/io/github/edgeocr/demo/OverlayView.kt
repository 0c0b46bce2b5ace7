package io.github.edgeocr.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Matrix
import android.graphics.Paint
import android.graphics.Path
import android.graphics.Rect
import android.graphics.RectF
import android.util.AttributeSet
import android.view.GestureDetector
import android.view.HapticFeedbackConstants
import android.view.MotionEvent
import android.view.View
import android.view.accessibility.AccessibilityNodeProvider
import io.github.edgeocr.core.TextLine
import kotlin.math.hypot
import kotlin.math.round

/**
 * A picture, scaled to fit, with the boxes and texts of its lines and the outlines of their words on top.
 *
 * In a ScrollView, a picture that is more than three times higher than wide has the view's width.
 */
internal class OverlayView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    /**
     * Receives the text of the word that was tapped; of its line the second time, or if the line has no words.
     *
     * After a long press, a finger draws a rectangle: then the text in it.
     */
    var onTextChosen: (String) -> Unit = {}

    /** Whether texts are drawn over the picture; boxes always are. */
    var showsTexts = true
        set(value) {
            field = value
            invalidate()
        }

    private var strips = emptyList<Bitmap>()
    private var lines = emptyList<TextLine>()
    private var ids = emptyList<Int>()
    private val imageArea = RectF()
    private val shownArea = RectF()
    private val toView = Matrix()
    private var boxes = emptyList<LineBox>()
    private var tapped: Box? = null

    /** The polygons of what was chosen last. */
    private var selected = emptyList<FloatArray>()

    /** The rectangle that was drawn last, from its first corner to the finger. */
    private var region: Region? = null
    private var isDrawing = false
    private val nodes = LineNodes(this) { choose(boxes[it].line) }
    private val gestures = GestureDetector(
        context,
        object : GestureDetector.SimpleOnGestureListener() {
            override fun onLongPress(event: MotionEvent) = startRegion(event.x, event.y)
        },
    )

    private val density = resources.displayMetrics.density
    private val imagePaint = Paint(Paint.FILTER_BITMAP_FLAG)
    private val boxPaint = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        style = Paint.Style.STROKE
        strokeWidth = BOX_DP * density
        color = context.getColor(R.color.box)
    }
    private val wordPaint = Paint(boxPaint).apply {
        strokeWidth = WORD_DP * density
        alpha = WORD_ALPHA
    }
    private val regionPaint = Paint(boxPaint).apply { color = context.getColor(R.color.region) }
    private val selectionPaint = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = context.getColor(R.color.selection) }
    private val paperPaint = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = context.getColor(R.color.paper) }

    // Linear, so that stretched letters are as wide as measured.
    private val textPaint = Paint(Paint.ANTI_ALIAS_FLAG or Paint.LINEAR_TEXT_FLAG).apply {
        color = context.getColor(R.color.ink)
    }

    /**
     * Shows [lines] over a picture of [imageWidth] × [imageHeight] pixels, in which their polygons are.
     *
     * [bitmap] may have another size, or be null if a view below this one shows the picture. [ids]: one for each line,
     * by which screen readers follow it to the next picture of a video.
     */
    fun show(
        bitmap: Bitmap?,
        lines: List<TextLine>,
        imageWidth: Int,
        imageHeight: Int,
        ids: List<Int> = lines.indices.toList(),
    ) = show(listOfNotNull(bitmap), lines, imageWidth, imageHeight, ids)

    /** The same for a picture in parts, from top to bottom. */
    fun show(
        strips: List<Bitmap>,
        lines: List<TextLine>,
        imageWidth: Int,
        imageHeight: Int,
        ids: List<Int> = lines.indices.toList(),
    ) {
        this.strips = strips
        this.ids = ids
        if (lines !== this.lines && !isDrawing) region = null
        this.lines = lines
        if (imageWidth.toFloat() != imageArea.width() || imageHeight.toFloat() != imageArea.height()) requestLayout()
        imageArea.set(0f, 0f, imageWidth.toFloat(), imageHeight.toFloat())
        place()
    }

    override fun onMeasure(widthMeasureSpec: Int, heightMeasureSpec: Int) {
        val width = MeasureSpec.getSize(widthMeasureSpec)
        val isTall = imageArea.height() > TALL * imageArea.width()
        val wanted = if (isTall) imageArea.height() * minOf(width / imageArea.width(), MOST_ENLARGED) else 0f
        setMeasuredDimension(width, resolveSize(wanted.toInt(), heightMeasureSpec))
    }

    override fun onSizeChanged(width: Int, height: Int, oldWidth: Int, oldHeight: Int) {
        region = null
        place()
    }

    private fun place() {
        val view = RectF(0f, 0f, width.toFloat(), height.toFloat())
        boxes = if (toView.setRectToRect(imageArea, view, Matrix.ScaleToFit.CENTER)) {
            lines.map { line ->
                val words = line.words.orEmpty().map { Box(it.text, it.polygon, toView) }
                LineBox(Box(line.text, line.polygon, toView), words)
            }
        } else {
            emptyList()
        }
        toView.mapRect(shownArea, imageArea)
        nodes.show(boxes.zip(ids) { (line), id -> LineNode(id, line.text, line.bounds) })
        invalidate()
    }

    override fun getAccessibilityNodeProvider(): AccessibilityNodeProvider = nodes

    override fun dispatchHoverEvent(event: MotionEvent): Boolean = nodes.hover(event) || super.dispatchHoverEvent(event)

    override fun onDraw(canvas: Canvas) {
        drawPicture(canvas)
        for ((line, words) in boxes) {
            if (showsTexts) {
                canvas.drawPath(line.outline, paperPaint)
                drawText(canvas, line)
            }
            for (word in words) canvas.drawPath(word.outline, wordPaint)
            canvas.drawPath(line.outline, boxPaint)
            for (box in words + line) {
                if (selected.any { it === box.polygon }) canvas.drawPath(box.outline, selectionPaint)
            }
        }
        region?.let { canvas.drawRect(it.toRect(), regionPaint) }
    }

    private fun drawPicture(canvas: Canvas) {
        val scale = shownArea.height() / strips.sumOf { it.height }
        var (rows, top) = 0 to shownArea.top
        for (strip in strips) {
            rows += strip.height
            // Whole pixels avoid a seam.
            val bottom = if (strip === strips.last()) shownArea.bottom else round(shownArea.top + rows * scale)
            canvas.drawBitmap(strip, null, RectF(shownArea.left, top, shownArea.right, bottom), imagePaint)
            top = bottom
        }
    }

    private fun drawText(canvas: Canvas, box: Box) {
        canvas.save()
        canvas.concat(box.toView)
        textPaint.textSize = TEXT_SHARE * box.height
        textPaint.textScaleX = 1f
        textPaint.textScaleX = LENGTH_SHARE * box.width / textPaint.measureText(box.text)
        canvas.drawText(box.text, (1 - LENGTH_SHARE) / 2 * box.width, BASELINE_SHARE * box.height, textPaint)
        canvas.restore()
    }

    override fun onTouchEvent(event: MotionEvent): Boolean {
        if (event.actionMasked == MotionEvent.ACTION_DOWN) {
            isDrawing = false
            // A refused touch gets no end, so that the detector would take it for a long press.
            if (boxes.isEmpty()) return false
        }
        gestures.onTouchEvent(event)
        when (event.actionMasked) {
            MotionEvent.ACTION_MOVE -> if (isDrawing) stretchRegion(event.x, event.y)
            MotionEvent.ACTION_UP -> if (isDrawing) {
                endRegion()
            } else {
                tapped = findBox(event.x, event.y)
                performClick()
            }
            MotionEvent.ACTION_CANCEL -> if (isDrawing) {
                isDrawing = false
                select(emptyList(), null)
            }
        }
        return true
    }

    private fun startRegion(x: Float, y: Float) {
        if (boxes.isEmpty()) return
        isDrawing = true
        performHapticFeedback(HapticFeedbackConstants.LONG_PRESS)
        // Otherwise the finger would scroll.
        parent?.requestDisallowInterceptTouchEvent(true)
        select(emptyList(), Region(x, y, x, y))
    }

    private fun stretchRegion(x: Float, y: Float) {
        val (startX, startY) = region ?: return
        val stretched = Region(startX, startY, x, y)
        select(findSelection(stretched).polygons, stretched)
        // Scrolls if the finger reaches an edge.
        val reach = FINGER_DP * density
        requestRectangleOnScreen(Rect().also { RectF(x - reach, y - reach, x + reach, y + reach).round(it) }, true)
    }

    private fun endRegion() {
        isDrawing = false
        val selection = region?.let(::findSelection)
        if (selection == null || selection.text.isEmpty()) return select(emptyList(), null)
        select(selection.polygons, region)
        onTextChosen(selection.text)
    }

    private fun findSelection(region: Region): Selection {
        val toImage = Matrix().also { toView.invert(it) }
        val area = region.toRect().also { toImage.mapRect(it) }
        return lines.select(area.left, area.top, area.right, area.bottom)
    }

    private fun select(polygons: List<FloatArray>, drawn: Region?) {
        selected = polygons
        region = drawn
        invalidate()
    }

    override fun performClick(): Boolean {
        super.performClick()
        tapped?.let(::choose)
        tapped = null
        return true
    }

    private fun choose(box: Box) {
        select(listOf(box.polygon), null)
        onTextChosen(box.text)
    }

    /** The word at a point, or its line if the word is selected; the nearest one within the reach of a finger. */
    private fun findBox(x: Float, y: Float): Box? {
        val (line, words) = boxes.minByOrNull { it.line.measureDistance(x, y) } ?: return null
        if (line.measureDistance(x, y) > FINGER_DP * density) return null
        val word = words.minByOrNull { it.measureDistance(x, y) }
        return if (word == null || selected.singleOrNull() === word.polygon) line else word
    }

    /** Two opposite corners in the view. */
    private data class Region(val startX: Float, val startY: Float, val endX: Float, val endY: Float) {
        fun toRect() = RectF(startX, startY, endX, endY).apply { sort() }
    }

    private data class LineBox(val line: Box, val words: List<Box>)

    /** A line or a word in coordinates of the view; [polygon] is in those of the picture. */
    private class Box(val text: String, val polygon: FloatArray, imageToView: Matrix) {
        private val corners = FloatArray(8).also { imageToView.mapPoints(it, polygon) }

        // Boxes taller than wide are read from top to bottom: the first corner is the top right one.
        private val turn = if (text.length > 1 && measureSide(0, 3) > measureSide(0, 1)) 1 else 0
        val width = measureSide(turn, turn + 1)
        val height = measureSide(turn, turn + 3)

        /** Maps upright text of [width] × [height] pixels to the line. */
        val toView = Matrix().apply {
            val upright = floatArrayOf(0f, 0f, width, 0f, 0f, height)
            val placed = intArrayOf(turn, turn + 1, turn + 3).flatMap { listOf(getX(it), getY(it)) }.toFloatArray()
            setPolyToPoly(upright, 0, placed, 0, 3)
        }

        val outline = Path().apply {
            moveTo(getX(0), getY(0))
            for (i in 1..3) lineTo(getX(i), getY(i))
            close()
        }

        val bounds = Rect().also { bounds ->
            val (left, right) = (0..3).map(::getX).run { min() to max() }
            val (top, bottom) = (0..3).map(::getY).run { min() to max() }
            RectF(left, top, right, bottom).round(bounds)
        }

        private fun getX(corner: Int) = corners[corner % 4 * 2]

        private fun getY(corner: Int) = corners[corner % 4 * 2 + 1]

        private fun measureSide(from: Int, to: Int) = hypot(getX(to) - getX(from), getY(to) - getY(from))

        /** Distance in pixels of the view; 0 inside. */
        fun measureDistance(x: Float, y: Float): Float {
            var isInside = true
            var least = Float.MAX_VALUE
            for (i in 0..3) {
                val (alongX, alongY) = getX(i + 1) - getX(i) to getY(i + 1) - getY(i)
                val (toX, toY) = x - getX(i) to y - getY(i)
                // Corners are clockwise, so the inside is to the right of each side.
                if (alongX * toY - alongY * toX < 0) isInside = false
                val share = (alongX * toX + alongY * toY) / maxOf(alongX * alongX + alongY * alongY, Float.MIN_VALUE)
                val nearest = share.coerceIn(0f, 1f)
                least = minOf(least, hypot(toX - nearest * alongX, toY - nearest * alongY))
            }
            return if (isInside) 0f else least
        }
    }

    private companion object {
        /** A picture this many times higher than wide would be too narrow as a whole. */
        const val TALL = 3f

        /** Pixels of the view per pixel of a narrow picture. */
        const val MOST_ENLARGED = 2f

        const val BOX_DP = 2f
        const val WORD_DP = 1f
        const val WORD_ALPHA = 160

        /** How far from a line a tap may be. */
        const val FINGER_DP = 16f

        /** Text size and baseline, as shares of a line's height. */
        const val TEXT_SHARE = 0.8f
        const val BASELINE_SHARE = 0.8f

        /** Text width, as a share of a line's width. */
        const val LENGTH_SHARE = 0.97f
    }
}
