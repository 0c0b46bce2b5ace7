package io.github.edgeocr.demo

import android.content.Context
import android.os.Debug
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.EngineKind
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.core.Cancellation
import io.github.edgeocr.core.DetectionSettings
import io.github.edgeocr.core.Size
import org.json.JSONObject
import kotlin.math.floor

/** Median and 95th percentile of the runs, in ms. */
internal class Percentiles(val p50: Double, val p95: Double) {
    companion object {
        /** Percentiles of at least one value, interpolated as in edge_ocr/core/bench.py. */
        fun find(values: List<Double>): Percentiles {
            val sorted = values.sorted()
            return Percentiles(find(sorted, 0.5), find(sorted, 0.95))
        }

        private fun find(sorted: List<Double>, share: Double): Double {
            val place = share * (sorted.size - 1)
            val rank = floor(place).toInt()
            val next = minOf(rank + 1, sorted.size - 1)
            return sorted[rank] + (sorted[next] - sorted[rank]) * (place - rank)
        }
    }
}

/** Memory of this process in 10^6 bytes: proportional set size, and native heap. */
internal class Memory(val pssMb: Double, val nativeHeapMb: Double) {
    companion object {
        fun read(): Memory {
            val info = Debug.MemoryInfo().also(Debug::getMemoryInfo)
            return Memory(info.totalPss * 1024 / 1e6, Debug.getNativeHeapAllocatedSize() / 1e6)
        }
    }
}

/** The figures of one benchmark. */
internal class BenchmarkReport(
    val loadMs: Double,
    /** Times by stage, in order; the last one, `total`, is the whole reading. */
    val stagesMs: Map<String, Percentiles>,
    val lineCount: Int,
    /** After the warm-up, half-way and at the end. */
    val memory: List<Memory>,
    /** Before the first run and after the last; see [readThermalStatus]. */
    val thermalStatus: Pair<String?, String?>,
    val options: OcrOptions,
    val detection: DetectionSettings,
    val engine: EngineKind,
    private val engineVersion: String,
    private val picture: String,
    private val imageSize: Size,
) {
    /** The report as JSON; [manifestSha256] identifies the bundle. */
    fun toJson(manifestSha256: String?): JSONObject {
        val stages = JSONObject()
        for ((stage, one) in stagesMs) {
            stages.put(stage, JSONObject().put("p50", one.p50.round(2)).put("p95", one.p95.round(2)))
        }
        return JSONObject()
            .put("edge_ocr", "benchmark")
            .put("engine", engine.name.lowercase())
            .put("engine_version", engineVersion)
            .put("manifest_sha256", manifestSha256.orJsonNull())
            .put("device", describeDevice())
            .put("threads", options.threads)
            .put("power_mode", options.powerMode.name)
            .put("limit_side_len", detection.limitSideLen)
            .put("limit_type", detection.limitType.name.lowercase())
            .put("windows", detection.windows)
            .put("picture", picture)
            .put("image_width", imageSize.width)
            .put("image_height", imageSize.height)
            .put("lines", lineCount)
            .put("runs", RUNS)
            .put("warmup", WARM_UP)
            .put("load_ms", loadMs.round(2))
            .put("stages_ms", stages)
            .put("pss_mb", describe { it.pssMb })
            .put("native_heap_mb", describe { it.nativeHeapMb })
            .put(
                "thermal_status",
                JSONObject()
                    .put("before", thermalStatus.first.orJsonNull())
                    .put("after", thermalStatus.second.orJsonNull()),
            )
    }

    private fun describe(figure: (Memory) -> Double) = JSONObject().apply {
        listOf("first", "half", "last").zip(memory) { key, one -> put(key, figure(one).round(1)) }
    }

    companion object {
        /** Warm-up readings, and measured readings. */
        const val WARM_UP = 3
        const val RUNS = 20

        /**
         * Reads the bundle's golden picture repeatedly; [tell] receives the number of finished readings.
         *
         * Throws what recognition throws, including CancellationException.
         */
        fun measure(
            context: Context,
            ocr: EdgeOcr,
            cancellation: Cancellation,
            tell: (Int) -> Unit,
            readMemory: () -> Memory = Memory::read,
        ): BenchmarkReport {
            val picture = GoldenPicture.read(ocr)
            val hotBefore = readThermalStatus(context)
            val times = LinkedHashMap<String, MutableList<Double>>()
            val memory = ArrayList<Memory>()
            var lineCount = 0
            for (run in 1..WARM_UP + RUNS) {
                val start = System.nanoTime()
                val reading = ocr.recognize(picture.bitmap, cancellation)
                val totalMs = (System.nanoTime() - start) / 1e6
                if (run > WARM_UP) {
                    for ((stage, spent) in reading.timingsMs + ("total" to totalMs)) {
                        times.getOrPut(stage, ::ArrayList) += spent
                    }
                }
                // Between readings, because it takes a while.
                if (run in MEMORY_RUNS) memory += readMemory()
                lineCount = reading.lines.size
                tell(run)
            }
            return BenchmarkReport(
                ocr.loadMs,
                times.mapValues { Percentiles.find(it.value) },
                lineCount,
                memory,
                hotBefore to readThermalStatus(context),
                Preferences(context).toOptions(),
                ocr.settings.detection,
                ocr.engine,
                ocr.engineVersion,
                picture.golden.image,
                Size(picture.bitmap.height, picture.bitmap.width),
            )
        }

        private val MEMORY_RUNS = setOf(WARM_UP, WARM_UP + RUNS / 2, WARM_UP + RUNS)
    }
}
