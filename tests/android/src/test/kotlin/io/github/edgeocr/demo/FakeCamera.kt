package io.github.edgeocr.demo

import android.graphics.ImageFormat
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraCaptureSession.CaptureCallback
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureRequest
import android.hardware.camera2.impl.CameraCaptureSessionImpl
import android.hardware.camera2.impl.CameraDeviceImpl
import android.hardware.camera2.impl.CameraMetadataNative
import android.hardware.camera2.params.SessionConfiguration
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.util.Size
import android.view.Surface
import android.view.SurfaceHolder
import io.github.edgeocr.core.BgrImage
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.annotation.RealObject
import org.robolectric.shadow.api.Shadow
import org.robolectric.shadows.ShadowCameraManager
import java.lang.reflect.Proxy
import java.nio.ByteBuffer
import java.util.concurrent.CopyOnWriteArrayList

/** What a test's cameras do, and what was done with them. */
internal object FakeCamera {
    /** The exception when a camera is opened. */
    var refusal: Exception? = null

    /** The error that a camera reports instead of opening, a `CameraDevice.StateCallback.ERROR_…`. */
    var error: Int? = null

    /** The exception when a frame is acquired. */
    @Volatile
    var frameError: RuntimeException? = null

    /** Cameras that were opened and not closed. */
    val open = CopyOnWriteArrayList<FakeDevice>()

    /** Image readers that were not closed. */
    val readers = CopyOnWriteArrayList<FakeReader>()

    /** How many surfaces the newest camera draws on; 0 before it does. */
    @Volatile
    var drawnOn = 0

    /** Receives the state of the newest camera. */
    var tell: (CameraDevice.StateCallback.(CameraDevice) -> Unit) -> Unit = {}

    fun reset() {
        refusal = null
        error = null
        frameError = null
        open.clear()
        readers.clear()
        drawnOn = 0
    }
}

@Implements(CameraManager::class)
internal class FakeManager : ShadowCameraManager() {
    @Implementation
    @Suppress("UNUSED_PARAMETER") // The system's signatures, here and below.
    fun openCamera(id: String, callback: CameraDevice.StateCallback, handler: Handler) {
        FakeCamera.refusal?.let { throw it }
        FakeCamera.drawnOn = 0
        val device = Shadow.newInstanceOf(CameraDeviceImpl::class.java)
        FakeCamera.tell = { event -> handler.post { callback.event(device) } }
        FakeCamera.open += Shadow.extract<FakeDevice>(device)
        val error = FakeCamera.error
        FakeCamera.tell { if (error == null) onOpened(it) else onError(it, error) }
    }
}

@Implements(CameraDeviceImpl::class)
internal class FakeDevice {
    @Implementation
    @Suppress("UNUSED_PARAMETER")
    fun createCaptureRequest(template: Int) = CaptureRequest.Builder(CameraMetadataNative(), false, -1, "0", null)

    @Implementation
    fun createCaptureSession(config: SessionConfiguration) {
        check(this in FakeCamera.open) { "the camera is closed" }
        check(config.outputConfigurations.size == 2) { "not a preview and frames" }
        val session = Shadow.newInstanceOf(CameraCaptureSessionImpl::class.java)
        config.executor.execute { config.stateCallback.onConfigured(session) }
    }

    @Implementation
    fun close() {
        FakeCamera.open -= this
    }
}

@Implements(CameraCaptureSessionImpl::class)
internal class FakeSession {
    @Implementation
    @Suppress("UNUSED_PARAMETER")
    fun setRepeatingRequest(request: CaptureRequest, callback: CaptureCallback?, handler: Handler?): Int {
        FakeCamera.drawnOn = request.targets.size
        return 0
    }
}

/** Delivers the frames of a test. */
@Implements(ImageReader::class)
internal class FakeReader {
    private val ownSurface = Surface(SurfaceTexture(0))
    private var listener: ImageReader.OnImageAvailableListener? = null
    private var handler: Handler? = null
    private var newest: FakeFrame? = null

    @RealObject
    private lateinit var real: ImageReader

    /** Delivers a frame, like a camera. */
    fun give(frame: FakeFrame) {
        checkNotNull(handler) { "nobody listens" }.post {
            newest?.close()
            newest = frame
            listener?.onImageAvailable(real)
        }
    }

    @Implementation
    fun getSurface() = ownSurface

    @Implementation
    fun setOnImageAvailableListener(listener: ImageReader.OnImageAvailableListener?, handler: Handler?) {
        this.listener = listener
        this.handler = handler
        FakeCamera.readers += this
    }

    @Implementation
    fun acquireLatestImage(): Image? {
        FakeCamera.frameError?.let { throw it }
        return newest.also { newest = null }
    }

    @Implementation
    fun close() {
        listener = null
        FakeCamera.readers -= this
    }

    companion object {
        @JvmStatic
        @Implementation
        @Suppress("UNUSED_PARAMETER")
        fun newInstance(width: Int, height: Int, format: Int, maxImages: Int): ImageReader =
            Shadow.newInstanceOf(ImageReader::class.java)
    }
}

/** A picture in a camera's format: rows are padded, and u and v have a pixel stride of 2. */
internal class FakeFrame(private val image: BgrImage) : Image() {
    @Volatile
    var isClosed = false
        private set

    private val columns = (image.width + 1) / 2
    private val rows = (image.height + 1) / 2

    override fun getFormat() = ImageFormat.YUV_420_888

    override fun getWidth() = image.width

    override fun getHeight() = image.height

    override fun getTimestamp() = 0L

    override fun getTransform() = 0

    override fun getScalingMode() = 0

    override fun getPlaneCount() = 3

    override fun close() {
        isClosed = true
    }

    override fun getPlanes(): Array<Plane> {
        val y = makePlane(image.width, image.height, 1, 1) { blue, green, red ->
            0.299 * red + 0.587 * green + 0.114 * blue
        }
        val u = makePlane(columns, rows, 2, 2) { blue, green, red ->
            128 - 0.168736 * red - 0.331264 * green + 0.5 * blue
        }
        val v = makePlane(columns, rows, 2, 2) { blue, green, red ->
            128 + 0.5 * red - 0.418688 * green - 0.081312 * blue
        }
        return arrayOf(y, u, v)
    }

    private fun makePlane(
        columns: Int,
        rows: Int,
        pixelStride: Int,
        block: Int,
        convert: (blue: Int, green: Int, red: Int) -> Double,
    ): Plane {
        val rowStride = columns * pixelStride + PADDING
        val values = ByteArray((rows - 1) * rowStride + (columns - 1) * pixelStride + 1)
        for (y in 0 until rows) {
            for (x in 0 until columns) {
                val from = 3 * (block * y * image.width + block * x)
                val (blue, green, red) = List(3) { image.pixels[from + it].toInt() and 0xFF }
                values[y * rowStride + x * pixelStride] = convert(blue, green, red).toInt().coerceIn(0, 255).toByte()
            }
        }
        return object : Plane() {
            override fun getRowStride() = rowStride

            override fun getPixelStride() = pixelStride

            override fun getBuffer(): ByteBuffer = ByteBuffer.wrap(values)
        }
    }

    private companion object {
        const val PADDING = 16
    }
}

/** Simulates the system when the preview's surface has the requested size. */
internal fun ActivityController<LiveActivity>.makeSurface(size: Size = Size(1280, 960)) {
    val surface = Surface(SurfaceTexture(1))
    val holder = Proxy.newProxyInstance(javaClass.classLoader, arrayOf(SurfaceHolder::class.java)) { _, method, _ ->
        if (method.name == "getSurface") surface else null
    }
    get().findViewById<CameraPreview>(R.id.live_preview)
        .surfaceChanged(holder as SurfaceHolder, 0, size.width, size.height)
}
