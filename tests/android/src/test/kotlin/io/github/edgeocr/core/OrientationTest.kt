package io.github.edgeocr.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

class OrientationTest {
    private val crop = BgrImage(20, 9, ByteArray(540))

    @TestFactory
    fun `decisions are the host's`(): List<DynamicTest> = GoldenFiles.expected.items("orientations").map { row ->
        dynamicTest(row.getString("name")) {
            val settings = Settings.readOrientation(
                JsonFields(row.getJSONObject("settings"), "settings"),
                GoldenFiles.constants.getFields("orientation"),
            )
            val probs = GoldenFiles.readTensor(row.getString("name"))
            val found = OrientationClassifier(TableEngine(probs), settings).findTurned(List(probs.shape[0]) { crop }, 6)
            assertEquals(row.getJSONArray("turned").toList(), found.turned)
            assertEquals(row.getJSONArray("unsure").toList(), found.unsure)
        }
    }

    @Test
    fun `a network that does not return two probs is refused`() {
        val settings = Manifest.parse(GoldenFiles.manifest).settings.orientation
        val classifier = OrientationClassifier({ Tensor(intArrayOf(1, 3), FloatArray(3)) }, settings)
        assertThrows(BundleException::class.java) { classifier.findTurned(listOf(crop), 1) }
    }
}
