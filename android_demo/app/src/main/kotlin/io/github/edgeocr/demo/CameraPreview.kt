package io.github.edgeocr.demo

import android.content.Context
import android.util.AttributeSet
import android.util.Size
import android.view.Surface
import android.view.SurfaceHolder
import android.view.SurfaceView
import android.widget.FrameLayout

/**
 * A surface for a camera's picture and the views over it: as large as fits, with the picture's aspect ratio.
 *
 * The system rotates what a camera draws on a SurfaceView and mirrors the front camera; only the aspect ratio is set
 * here.
 */
internal class CameraPreview(context: Context, attributes: AttributeSet?) :
    FrameLayout(context, attributes), SurfaceHolder.Callback {
    private val holder = SurfaceView(context).also { addView(it) }.holder.apply { addCallback(this@CameraPreview) }
    private var shown = Size(3, 4)
    private var wanted: Size? = null
    private var onReady: (Surface) -> Unit = {}
    private var surface: Surface? = null
    private var surfaceSize: Size? = null

    /**
     * Sets the surface's size to [size], that of the camera's picture, and passes it to [onReady] when it is ready.
     *
     * [isTurned]: whether the picture is rotated by 90° or 270°.
     */
    fun prepare(size: Size, isTurned: Boolean, onReady: (Surface) -> Unit) {
        this.onReady = onReady
        wanted = size
        shown = if (isTurned) Size(size.height, size.width) else size
        requestLayout()
        holder.setFixedSize(size.width, size.height)
        giveSurface()
    }

    /** Stops passing on the surface. */
    fun forget() {
        wanted = null
    }

    private fun giveSurface() {
        val ready = surface ?: return
        if (wanted == null || wanted != surfaceSize) return
        wanted = null
        onReady(ready)
    }

    override fun surfaceCreated(holder: SurfaceHolder) = Unit

    override fun surfaceChanged(holder: SurfaceHolder, format: Int, width: Int, height: Int) {
        surface = holder.surface
        surfaceSize = Size(width, height)
        giveSurface()
    }

    override fun surfaceDestroyed(holder: SurfaceHolder) {
        surface = null
    }

    override fun onMeasure(widthMeasureSpec: Int, heightMeasureSpec: Int) {
        val (width, height) = MeasureSpec.getSize(widthMeasureSpec) to MeasureSpec.getSize(heightMeasureSpec)
        val fittingWidth = minOf(width.toLong(), height.toLong() * shown.width / shown.height).toInt()
        val fittingHeight = minOf(height.toLong(), width.toLong() * shown.height / shown.width).toInt()
        super.onMeasure(
            MeasureSpec.makeMeasureSpec(fittingWidth, MeasureSpec.EXACTLY),
            MeasureSpec.makeMeasureSpec(fittingHeight, MeasureSpec.EXACTLY),
        )
    }
}
