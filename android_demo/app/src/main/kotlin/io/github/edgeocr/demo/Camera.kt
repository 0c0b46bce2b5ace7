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

/** Why the camera delivers no picture. */
internal enum class CameraProblem { MISSING, IN_USE, DISABLED, DISCONNECTED, DENIED, FAILED }

/** The camera to use. Preview and frames have [size], in pixels of the sensor, which is mounted rotated. */
internal class CameraChoice(
    val id: String,
    val size: Size,
    val isFront: Boolean,
    private val sensorDegrees: Int,
) {
    /** Degrees to rotate frames clockwise to be upright on a display with [rotation], a `Surface.ROTATION_…`. */
    fun findTurn(rotation: Int): Int {
        val displayDegrees = rotation * 90
        return (sensorDegrees + (if (isFront) displayDegrees else -displayDegrees) + 360) % 360
    }
}

/** The back camera if there is one, else an external one, else the front camera; null if there is none. */
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
        // With the same size, preview and frames show the same section.
        val size = chooseSize(streams?.getOutputSizes(ImageFormat.YUV_420_888).orEmpty().filter { it in previews })
        val degrees = facts[CameraCharacteristics.SENSOR_ORIENTATION] ?: 0
        size?.let { order.indexOf(facing) to CameraChoice(id, it, facing == order.last(), degrees) }
    }.filter { it.first >= 0 }.minByOrNull { it.first }?.second
}

/** The largest size that is fast to convert; the smallest if all are larger. */
internal fun chooseSize(sizes: List<Size>): Size? {
    val areas = sizes.associateWith { it.width * it.height }
    return (areas.filterValues { it <= MOST_PIXELS }.maxByOrNull { it.value } ?: areas.minByOrNull { it.value })?.key
}

private const val MOST_PIXELS = 1280 * 960

/**
 * One use of the camera, from [choose] to [close]. It works on its own thread and calls back on the main thread.
 *
 * There are no calls after [close] or after a problem, which ends the use.
 */
internal class Camera(private val manager: CameraManager, private val listener: Listener) {
    /** Called on the main thread. */
    interface Listener {
        /** Call [open] next, with a surface of the chosen size. */
        fun onChosen(choice: CameraChoice)

        /** A frame, requested with [requestFrame]. */
        fun onFrame(frame: YuvFrame)

        fun onProblem(problem: CameraProblem)
    }

    private val main = Handler(Looper.getMainLooper())
    private val handler = Handler(startThread().looper)

    @Volatile
    private var isClosed = false

    @Volatile
    private var isFrameWanted = false

    // Used on the camera's thread only.
    private var device: CameraDevice? = null
    private var reader: ImageReader? = null

    fun choose() = work {
        val choice = chooseCamera(manager)
        if (choice == null) fail(CameraProblem.MISSING) else tell { onChosen(choice) }
    }

    /** Shows the camera's picture on [preview]. The permission must have been granted before. */
    @SuppressLint("MissingPermission") // It may have been revoked since; `work` handles that.
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

    /** Requests the next frame; frames that were not requested are dropped. */
    fun requestFrame() {
        isFrameWanted = true
    }

    /** Releases the camera as soon as its thread finishes the current step. */
    fun close() {
        isClosed = true
        handler.post(::release)
    }

    private fun startPreview(camera: CameraDevice, size: Size, preview: Surface) {
        // The frame that is being copied and the newest one.
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
            // The only API before Android 9.
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

    /** Runs [step] on the camera's thread, at once if already there. An exception ends the use of the camera. */
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
            // The camera or the surface is gone, or a maker's camera breaks the rules; many exception classes.
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

        /** Shared by all uses, so that each starts after the previous one has released the camera. */
        @Synchronized
        fun startThread(): HandlerThread =
            thread?.takeIf { it.isAlive } ?: HandlerThread("camera").also {
                it.start()
                thread = it
            }
    }
}
