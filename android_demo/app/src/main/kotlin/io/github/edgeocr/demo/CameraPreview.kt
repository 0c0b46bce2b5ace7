package io.github.edgeocr.demo

import android.content.Context
import android.util.AttributeSet
import android.util.Size
import android.view.Surface
import android.view.SurfaceHolder
import android.view.SurfaceView
import android.widget.FrameLayout

/**
 * A surface for a camera's picture, and what else is laid over it: as large as fits, in the ratio of the picture.
 *
 * The system itself turns what a camera draws on a SurfaceView to stand upright, and mirrors it if it comes from the
 * front; only the ratio is left to us.
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
     * Makes the surface one for a camera's picture of [size], and gives it to [onReady] as soon as it is that.
     *
     * [isTurned]: whether the picture stands turned by a quarter.
     */
    fun prepare(size: Size, isTurned: Boolean, onReady: (Surface) -> Unit) {
        this.onReady = onReady
        wanted = size
        shown = if (isTurned) Size(size.height, size.width) else size
        requestLayout()
        holder.setFixedSize(size.width, size.height)
        giveSurface()
    }

    /** Gives the surface to nobody any more. */
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
