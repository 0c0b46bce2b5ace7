package io.github.edgeocr

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import android.os.Build
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Tensor
import java.nio.FloatBuffer

/** A network that runs on ONNX Runtime, on the processor. */
internal class OnnxRuntimeEngine private constructor(
    private val name: String,
    private val session: OrtSession,
    private val inputName: String,
) : OpenEngine {
    private var isClosed = false

    /** Throws [EngineException] if ONNX Runtime refuses the input. */
    override fun run(input: Tensor): Tensor {
        check(!isClosed) { "$name is closed" }
        val shape = LongArray(input.shape.size) { input.shape[it].toLong() }
        return try {
            val environment = OrtEnvironment.getEnvironment()
            OnnxTensor.createTensor(environment, FloatBuffer.wrap(input.data), shape).use { tensor ->
                session.run(mapOf(inputName to tensor)).use { result ->
                    val output = result[0] as OnnxTensor
                    val sizes = output.info.shape
                    Tensor(IntArray(sizes.size) { sizes[it].toInt() }, output.floatBuffer.array())
                }
            }
        } catch (error: OrtException) {
            val sizes = input.shape.joinToString("×")
            throw EngineException("$name failed on an input of shape $sizes: ${error.message}", error)
        }
    }

    /** Frees the native memory. */
    override fun close() {
        if (!isClosed) session.close()
        isClosed = true
    }

    companion object {
        /** Loads a network; throws the exceptions of [EngineLoader.open]. */
        fun open(bundle: BundleFolder, name: String, options: OcrOptions): OnnxRuntimeEngine {
            val environment = try {
                OrtEnvironment.getEnvironment()
            } catch (error: LinkageError) {
                val abi = Build.SUPPORTED_ABIS.firstOrNull()
                val reason = (error.cause ?: error).message
                throw LibraryException("ONNX Runtime cannot be loaded on this device ($abi): $reason", error)
            }
            return try {
                val session = OrtSession.SessionOptions().use {
                    it.setIntraOpNumThreads(options.threads)
                    // Otherwise it keeps the peak memory of every shape, and pictures have many shapes.
                    it.setCPUArenaAllocator(false)
                    environment.createSession(bundle.mapFile(name), it)
                }
                val input = session.inputNames.singleOrNull()
                if (input == null) {
                    val count = session.numInputs
                    session.close()
                    throw BundleException("$name has $count inputs, expected 1")
                }
                OnnxRuntimeEngine(name, session, input)
            } catch (error: OrtException) {
                throw BundleException("ONNX Runtime cannot load $name: ${error.message}", cause = error)
            }
        }
    }
}

/** Created by [EngineKind]. */
internal class OnnxRuntimeLoader : EngineLoader {
    override val needsFiles = false

    override fun readVersion(bundle: BundleFolder): String = OrtEnvironment.getEnvironment().version

    override fun open(bundle: BundleFolder, name: String, options: OcrOptions) =
        OnnxRuntimeEngine.open(bundle, name, options)
}
