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

/** A network that Paddle-Lite runs. Not thread-safe: it may be closed only while it does not run. */
internal class PaddleLiteEngine private constructor(private val name: String, private val predictor: FreedPredictor) :
    Engine, Closeable {
    private var isClosed = false

    /** Throws [EngineException] where Paddle-Lite refuses the input or gives nothing. */
    override fun run(input: Tensor): Tensor {
        check(!isClosed) { "$name is closed" }
        val slot = predictor.getInput(0)
        val isDone = slot.resize(LongArray(input.shape.size) { input.shape[it].toLong() }) &&
            slot.setData(input.data) && predictor.run()
        val output = if (isDone) predictor.getOutput(0) else null
        val values = output?.floatData
            ?: throw EngineException("$name does not run on an input of ${input.shape.joinToString("×")}")
        return Tensor(output.shape().let { shape -> IntArray(shape.size) { shape[it].toInt() } }, values)
    }

    /** Frees the native memory. */
    override fun close() {
        if (!isClosed) predictor.free()
        isClosed = true
    }

    companion object {
        /**
         * Loads a network, which must be whole: Paddle-Lite ends the process on a damaged one.
         *
         * Throws [LibraryException] where Paddle-Lite itself cannot be loaded, [VersionMismatchException] where it is
         * not of [version], [BundleException] where it does not take the network.
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
            if (found.isEmpty()) throw BundleException("Paddle-Lite does not take $model")
            if (found != version) {
                predictor.free()
                throw VersionMismatchException(found, version)
            }
            return PaddleLiteEngine(model.name, predictor)
        }
    }
}

/** Frees its memory when told to: its own class only does so when Java's collector comes round to it. */
private class FreedPredictor(config: MobileConfig) : PaddlePredictor(config) {
    fun free() {
        clear()
    }
}
