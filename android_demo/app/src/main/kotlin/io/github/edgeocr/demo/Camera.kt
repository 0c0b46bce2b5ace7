package io.github.edgeocr.demo

import android.annotation.SuppressLint
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.params.OutputConfiguration
import android.hardware.camera2.params.SessionConfiguration
import android.media.ImageReader
import android.os.Build
import android.os.Handler
import android.os.HandlerThread
import android.os.Looper
import android.util.Size
import android.view.Surface
import android.view.SurfaceHolder
import java.util.concurrent.Executor

/** Why there is no picture from the camera. */
internal enum class CameraProblem { MISSING, IN_USE, DISABLED, DISCONNECTED, DENIED, FAILED }

/** The camera to use: its preview and its frames have [size], in pixels of the sensor, which stands turned. */
internal class CameraChoice(
    val id: String,
    val size: Size,
    val isFront: Boolean,
    private val sensorDegrees: Int,
) {
    /** How far frames must be turned clockwise to stand upright on a display of [rotation], a `Surface.ROTATION_…`. */
    fun findTurn(rotation: Int): Int {
        val displayDegrees = rotation * 90
        return (sensorDegrees + (if (isFront) displayDegrees else -displayDegrees) + 360) % 360
    }
}

/** The camera of the back where there is one, then one that is plugged in, then that of the front; null without any. */
internal fun chooseCamera(manager: CameraManager): CameraChoice? {
    val order = listOf(
        CameraCharacteristics.LENS_FACING_BACK,
        CameraCharacteristics.LENS_FACING_EXTERNAL,
        CameraCharacteristics.LENS_FACING_FRONT,
    )
    return manager.cameraIdList.mapNotNull { id ->
        val facts = manager.getCameraCharacteristics(id)
        val facing = facts[CameraCharacteristics.LENS_FACING]
        val streams = facts[CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP]
        val previews = streams?.getOutputSizes(SurfaceHolder::class.java).orEmpty().toSet()
        // Of one size, preview and frames show the same.
        val size = chooseSize(streams?.getOutputSizes(ImageFormat.YUV_420_888).orEmpty().filter { it in previews })
        val degrees = facts[CameraCharacteristics.SENSOR_ORIENTATION] ?: 0
        size?.let { order.indexOf(facing) to CameraChoice(id, it, facing == order.last(), degrees) }
    }.filter { it.first >= 0 }.minByOrNull { it.first }?.second
}

/** The largest that is quick to convert, and large enough for the networks; the smallest where all are larger. */
internal fun chooseSize(sizes: List<Size>): Size? {
    val areas = sizes.associateWith { it.width * it.height }
    return (areas.filterValues { it <= MOST_PIXELS }.maxByOrNull { it.value } ?: areas.minByOrNull { it.value })?.key
}

private const val MOST_PIXELS = 1280 * 960

/**
 * One use of the camera, from [choose] to [close], which works off the main thread and tells there.
 *
 * Nothing is told after [close], nor after a problem, which ends the use.
 */
internal class Camera(private val manager: CameraManager, private val listener: Listener) {
    /** Called on the main thread. */
    interface Listener {
        /** [open] is to follow, with a surface of the size chosen. */
        fun onChosen(choice: CameraChoice)

        /** A frame that was asked for by [requestFrame]. */
        fun onFrame(frame: YuvFrame)

        fun onProblem(problem: CameraProblem)
    }

    private val main = Handler(Looper.getMainLooper())
    private val handler = Handler(startThread().looper)

    @Volatile
    private var isClosed = false

    @Volatile
    private var isFrameWanted = false

    // Of the camera's thread alone.
    private var device: CameraDevice? = null
    private var reader: ImageReader? = null

    fun choose() = work {
        val choice = chooseCamera(manager)
        if (choice == null) fail(CameraProblem.MISSING) else tell { onChosen(choice) }
    }

    /** Shows the camera's picture on [preview]. Whether it may be used must have been asked before. */
    @SuppressLint("MissingPermission") // It may have been taken away since; `work` sees to that.
    fun open(choice: CameraChoice, preview: Surface) = work {
        manager.openCamera(
            choice.id,
            object : CameraDevice.StateCallback() {
                override fun onOpened(camera: CameraDevice) {
                    device = camera
                    work { startPreview(camera, choice.size, preview) }
                }

                override fun onDisconnected(camera: CameraDevice) {
                    device = camera
                    fail(CameraProblem.DISCONNECTED)
                }

                override fun onError(camera: CameraDevice, error: Int) {
                    device = camera
                    fail(
                        when (error) {
                            ERROR_CAMERA_IN_USE, ERROR_MAX_CAMERAS_IN_USE -> CameraProblem.IN_USE
                            ERROR_CAMERA_DISABLED -> CameraProblem.DISABLED
                            else -> CameraProblem.FAILED
                        },
                    )
                }
            },
            handler,
        )
    }

    /** Asks for the next frame; those that come while none is asked for are dropped. */
    fun requestFrame() {
        isFrameWanted = true
    }

    /** Gives the camera back: as soon as its thread is done with what it does just now. */
    fun close() {
        isClosed = true
        handler.post(::release)
    }

    private fun startPreview(camera: CameraDevice, size: Size, preview: Surface) {
        // One that is being copied and the newest.
        val frames = ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, 2)
        reader = frames
        frames.setOnImageAvailableListener(::takeFrame, handler)
        val surfaces = listOf(preview, frames.surface)
        val callback = object : CameraCaptureSession.StateCallback() {
            override fun onConfigured(session: CameraCaptureSession) = work {
                val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
                surfaces.forEach(request::addTarget)
                session.setRepeatingRequest(request.build(), null, handler)
            }

            override fun onConfigureFailed(session: CameraCaptureSession) = fail(CameraProblem.FAILED)
        }
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) {
            val outputs = surfaces.map { OutputConfiguration(it) }
            val onThread = Executor { handler.post(it) }
            camera.createCaptureSession(
                SessionConfiguration(SessionConfiguration.SESSION_REGULAR, outputs, onThread, callback),
            )
        } else {
            // All that there was before.
            @Suppress("DEPRECATION")
            camera.createCaptureSession(surfaces, callback, handler)
        }
    }

    private fun takeFrame(reader: ImageReader) = work {
        val image = reader.acquireLatestImage() ?: return@work
        val frame = image.use { if (isFrameWanted) YuvFrame.copy(it) else null } ?: return@work
        isFrameWanted = false
        tell { onFrame(frame) }
    }

    /** Does [step] on the camera's thread, at once where this is that; what it throws ends the use of the camera. */
    private fun work(step: () -> Unit) {
        if (Looper.myLooper() != handler.looper) {
            handler.post { work(step) }
            return
        }
        if (isClosed) return release()
        try {
            step()
        } catch (error: CameraAccessException) {
            fail(
                when (error.reason) {
                    CameraAccessException.CAMERA_IN_USE, CameraAccessException.MAX_CAMERAS_IN_USE ->
                        CameraProblem.IN_USE
                    CameraAccessException.CAMERA_DISABLED -> CameraProblem.DISABLED
                    CameraAccessException.CAMERA_DISCONNECTED -> CameraProblem.DISCONNECTED
                    else -> CameraProblem.FAILED
                },
            )
        } catch (_: SecurityException) {
            fail(CameraProblem.DENIED)
        } catch (_: RuntimeException) {
            // Where camera or surface went away meanwhile, or a maker's camera breaks the rules: of many classes.
            fail(CameraProblem.FAILED)
        }
    }

    private fun fail(problem: CameraProblem) {
        release()
        tell {
            this@Camera.close()
            onProblem(problem)
        }
    }

    private fun tell(event: Listener.() -> Unit) {
        main.post { if (!isClosed) listener.event() }
    }

    private fun release() {
        device?.close()
        device = null
        reader?.close()
        reader = null
    }

    private companion object {
        private var thread: HandlerThread? = null

        /** One for all uses, so that each begins when the one before it has given the camera back. */
        @Synchronized
        fun startThread(): HandlerThread =
            thread?.takeIf { it.isAlive } ?: HandlerThread("camera").also {
                it.start()
                thread = it
            }
    }
}
