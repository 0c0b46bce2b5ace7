package io.github.edgeocr

import android.os.Build
import com.baidu.paddle.lite.MobileConfig
import com.baidu.paddle.lite.PaddlePredictor
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Tensor
import com.baidu.paddle.lite.PowerMode as LitePowerMode

/** A network that runs on Paddle-Lite. */
internal class PaddleLiteEngine private constructor(private val name: String, private val predictor: FreedPredictor) :
    OpenEngine {
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
        /** Loads a network; throws the exceptions of [EngineLoader.open]. */
        fun open(bundle: BundleFolder, name: String, options: OcrOptions): PaddleLiteEngine {
            val version = bundle.manifest.runtimeVersion
            // Checked, because Paddle-Lite ends the process if it is damaged.
            val model = bundle.checkFile(name)
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

/** Created by [EngineKind]. */
internal class PaddleLiteLoader : EngineLoader {
    override val needsFiles = true

    // Any other is refused.
    override fun readVersion(bundle: BundleFolder) = bundle.manifest.runtimeVersion

    // Paddle-Lite reports its version only after a network is loaded. Every version can load another version's
    // detector, which comes first; some end the process on the recogniser.
    override fun open(bundle: BundleFolder, name: String, options: OcrOptions) =
        PaddleLiteEngine.open(bundle, name, options)
}

/** Frees the native memory at once; Paddle-Lite's class only does so when it is garbage-collected. */
private class FreedPredictor(config: MobileConfig) : PaddlePredictor(config) {
    fun free() {
        clear()
    }
}
