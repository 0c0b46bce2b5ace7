package io.github.edgeocr.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

class GoldenTest {
    @Test
    fun `another kind of array is refused`() {
        assertThrows(IllegalArgumentException::class.java) { GoldenFiles.readTensor("label.det") }
    }

    @Test
    fun `a map is in 0 to 1`() {
        val map = GoldenFiles.readMap("map_edges")
        assertEquals(0f, map.data.min())
        assertEquals(1f, map.data.max())
    }
}
