package io.github.edgeocr

import android.os.Build
import com.baidu.paddle.lite.MobileConfig
import com.baidu.paddle.lite.PaddlePredictor
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Engine
import io.github.edgeocr.core.Tensor
import java.io.Closeable
import java.io.File
import com.baidu.paddle.lite.PowerMode as LitePowerMode

/** A network that runs on Paddle-Lite. Not thread-safe: close it only while it is not running. */
internal class PaddleLiteEngine private constructor(private val name: String, private val predictor: FreedPredictor) :
    Engine, Closeable {
    private var isClosed = false

    /** Throws [EngineException] if Paddle-Lite refuses the input or returns no output. */
    override fun run(input: Tensor): Tensor {
        check(!isClosed) { "$name is closed" }
        val slot = predictor.getInput(0)
        val isDone = slot.resize(LongArray(input.shape.size) { input.shape[it].toLong() }) &&
            slot.setData(input.data) && predictor.run()
        val output = if (isDone) predictor.getOutput(0) else null
        val values = output?.floatData
            ?: throw EngineException("$name failed on an input of shape ${input.shape.joinToString("×")}")
        return Tensor(output.shape().let { shape -> IntArray(shape.size) { shape[it].toInt() } }, values)
    }

    /** Frees the native memory. */
    override fun close() {
        if (!isClosed) predictor.free()
        isClosed = true
    }

    companion object {
        /**
         * Loads a network. Its file must be intact: Paddle-Lite ends the process if it is damaged.
         *
         * Throws [LibraryException] if Paddle-Lite itself cannot be loaded, [VersionMismatchException] if its version
         * is not [version], [BundleException] if it cannot load the network.
         */
        fun open(model: File, version: String, options: OcrOptions): PaddleLiteEngine {
            val predictor = try {
                FreedPredictor(
                    MobileConfig().apply {
                        setModelFromFile(model.path)
                        threads = options.threads
                        powerMode = LitePowerMode.valueOf("LITE_POWER_${options.powerMode.name}")
                    },
                )
            } catch (error: LinkageError) {
                val abi = Build.SUPPORTED_ABIS.firstOrNull()
                throw LibraryException("Paddle-Lite cannot be loaded on this device ($abi): ${error.message}", error)
            }
            val found = predictor.version.orEmpty()
            if (found.isEmpty()) throw BundleException("Paddle-Lite cannot load $model")
            if (found != version) {
                predictor.free()
                throw VersionMismatchException(found, version)
            }
            return PaddleLiteEngine(model.name, predictor)
        }
    }
}

/** Frees the native memory at once; Paddle-Lite's class only does so when it is garbage-collected. */
private class FreedPredictor(config: MobileConfig) : PaddlePredictor(config) {
    fun free() {
        clear()
    }
}
