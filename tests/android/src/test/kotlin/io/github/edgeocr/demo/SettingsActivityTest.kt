package io.github.edgeocr.demo

import android.content.Context
import android.view.View
import android.widget.EditText
import android.widget.Spinner
import android.widget.TextView
import com.baidu.paddle.lite.FakeRuntime
import com.baidu.paddle.lite.PowerMode.LITE_POWER_HIGH
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.PowerMode
import io.github.edgeocr.core.Settings
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config

class SettingsActivityTest : DemoTest() {
    private val preferences get() = Preferences(app)

    private fun ActivityController<SettingsActivity>.find(setting: NumberSetting): EditText =
        get().findViewById(setting.viewId)

    private fun ActivityController<SettingsActivity>.type(setting: NumberSetting, text: String) =
        find(setting).setText(text)

    private val ActivityController<SettingsActivity>.powerMode get() = get().findViewById<Spinner>(R.id.power_mode)

    private fun readSettings(): Settings {
        var settings: Settings? = null
        app.worker.run({ ocr, _ -> ocr.settings }) { settings = it.getOrThrow() }
        waitUntil("the bundle is open") { settings != null }
        return settings!!
    }

    @Test
    fun `empty fields show the bundle's value`() {
        installBundle()
        val controller = start<SettingsActivity>()
        for (setting in NumberSetting.entries) assertEquals("", controller.find(setting).text.toString())
        assertEquals(app.getString(R.string.power_own), controller.powerMode.selectedItem)
        waitUntil("the bundle's values are shown") { controller.find(NumberSetting.TEXT_SCORE).hint != null }
        val hints = NumberSetting.entries.associateWith { controller.find(it).hint.toString() }
        val settings = bundle.manifest.getJSONObject("settings").getJSONObject("detection")
        val sideLen = app.getString(R.string.own_value, "${settings.getInt("limit_side_len")}")
        assertEquals(sideLen, hints[NumberSetting.LIMIT_SIDE_LEN])
        val threshold = app.getString(R.string.own_value, "${settings.getDouble("box_threshold")}")
        assertEquals(threshold, hints[NumberSetting.BOX_THRESHOLD])
        assertEquals(app.getString(R.string.own_value, "${OcrOptions().threads}"), hints[NumberSetting.THREADS])
    }

    @Test
    fun `without a bundle the settings can still be changed`() {
        val controller = start<SettingsActivity>()
        waitUntil("the worker is free") { !app.worker.isBusy }
        controller.type(NumberSetting.TEXT_SCORE, "0.25")
        assertEquals(0.25, preferences[NumberSetting.TEXT_SCORE])
        assertNull(controller.find(NumberSetting.TEXT_SCORE).hint)
    }

    @Test
    fun `the next reading uses the settings`() {
        installBundle()
        val own = readSettings()
        val controller = start<SettingsActivity>()
        controller.type(NumberSetting.THREADS, "1")
        controller.type(NumberSetting.LIMIT_SIDE_LEN, "320")
        controller.type(NumberSetting.BIN_THRESHOLD, "0.125")
        controller.type(NumberSetting.BOX_THRESHOLD, "0.25")
        controller.type(NumberSetting.UNCLIP_RATIO, "2.5")
        controller.type(NumberSetting.TEXT_SCORE, "0.75")
        controller.powerMode.setSelection(1 + PowerMode.HIGH.ordinal)
        waitUntil("the choice is kept") { preferences.powerMode == PowerMode.HIGH }
        val settings = readSettings()
        val detection = own.detection
            .copy(limitSideLen = 320, windows = false, binThreshold = 0.125f, boxThreshold = 0.25, unclipRatio = 2.5)
        assertEquals(own.copy(detection, recognition = own.recognition.copy(textScore = 0.75)), settings)
        assertEquals(1 to LITE_POWER_HIGH, FakeRuntime.asked.last().run { threads to powerMode })
        assertEquals(6, FakeRuntime.asked.size)
        readSettings()
        assertEquals(6, FakeRuntime.asked.size)
        controller.get().findViewById<View>(R.id.reset).performClick()
        assertEquals(own, readSettings())
        for (setting in NumberSetting.entries) assertEquals("", controller.find(setting).text.toString())
        assertEquals(0, controller.powerMode.selectedItemPosition)
    }

    @Test
    fun `a side limit is obeyed and switches windows off`() {
        bundle.manifest.getJSONObject("settings").getJSONObject("detection").put("windows", true)
        installBundle()
        assertTrue(readSettings().detection.windows)
        preferences[NumberSetting.BOX_THRESHOLD] = 0.25
        assertTrue(readSettings().detection.windows)
        preferences[NumberSetting.LIMIT_SIDE_LEN] = 1280.0
        assertEquals(1280 to false, readSettings().detection.run { limitSideLen to windows })
        preferences[NumberSetting.LIMIT_SIDE_LEN] = null
        assertTrue(readSettings().detection.windows)
    }

    @Test
    fun `each power mode can be chosen`() {
        val controller = start<SettingsActivity>()
        val names = List(controller.powerMode.count) { controller.powerMode.getItemAtPosition(it) }
        assertEquals(1 + PowerMode.entries.size, names.toSet().size)
        for ((position, mode) in (listOf(null) + PowerMode.entries).withIndex()) {
            controller.powerMode.setSelection(position)
            waitUntil("$mode is kept") { preferences.powerMode == mode }
        }
    }

    @Test
    fun `an invalid value is marked in its field and not stored`() {
        val controller = start<SettingsActivity>()
        val wrong = mapOf(
            NumberSetting.THREADS to listOf("0", "1.5", "100000", "x", "NaN"),
            NumberSetting.LIMIT_SIDE_LEN to listOf("31", "4001", "-320", "1e999"),
            NumberSetting.BIN_THRESHOLD to listOf("1.01", "-0.1", "."),
            NumberSetting.BOX_THRESHOLD to listOf("2"),
            NumberSetting.UNCLIP_RATIO to listOf("0", "10.5"),
            NumberSetting.TEXT_SCORE to listOf("1.5"),
        )
        assertEquals(NumberSetting.entries, wrong.keys.toList())
        for ((setting, texts) in wrong) {
            controller.type(setting, "1".padEnd(if (setting == NumberSetting.LIMIT_SIDE_LEN) 3 else 1, '0'))
            assertNull(controller.find(setting).error)
            val kept = preferences[setting]
            assertNotNull(kept)
            for (text in texts) {
                controller.type(setting, text)
                assertNotNull("$setting $text", controller.find(setting).error)
                assertEquals(kept, preferences[setting])
            }
            controller.type(setting, "")
            assertNull(controller.find(setting).error)
            assertNull(preferences[setting])
        }
    }

    @Test
    fun `damaged settings count as not set`() {
        val stored = app.getSharedPreferences("settings", Context.MODE_PRIVATE)
        stored.edit().putString("THREADS", "0").putString("TEXT_SCORE", "x").putString("POWER_MODE", "y").commit()
        assertNull(preferences.threads)
        assertNull(preferences.powerMode)
        assertNull(preferences[NumberSetting.TEXT_SCORE])
        assertEquals(OcrOptions().threads, preferences.toOptions().threads)
    }

    @Test
    fun `options with the same values are equal`() {
        assertEquals(preferences.toOptions().settingsChange, preferences.toOptions().settingsChange)
        val before = preferences.toOptions().settingsChange
        preferences[NumberSetting.UNCLIP_RATIO] = 3.0
        assertNotEquals(before, preferences.toOptions().settingsChange)
        preferences.threads = 1
        preferences.powerMode = PowerMode.LOW
        assertEquals(1 to PowerMode.LOW, preferences.toOptions().run { threads to powerMode })
    }

    @Test
    fun `the phone may be turned`() {
        installBundle()
        val controller = start<SettingsActivity>()
        controller.type(NumberSetting.TEXT_SCORE, "0.25")
        controller.type(NumberSetting.UNCLIP_RATIO, "99")
        controller.powerMode.setSelection(2)
        waitUntil("the choice is kept") { preferences.powerMode != null }
        change(controller, "+land")
        assertEquals("0.25", controller.find(NumberSetting.TEXT_SCORE).text.toString())
        // The invalid text is still there, with its error.
        assertEquals("99", controller.find(NumberSetting.UNCLIP_RATIO).text.toString())
        assertNotNull(controller.find(NumberSetting.UNCLIP_RATIO).error)
        assertNull(preferences[NumberSetting.UNCLIP_RATIO])
        assertEquals(2, controller.powerMode.selectedItemPosition)
    }

    @Test
    @Config(qualifiers = "zh-rCN-night")
    fun `it starts in the dark and in Chinese`() {
        val controller = start<SettingsActivity>()
        assertEquals("设置", controller.get().title)
        assertTrue(controller.get().findViewById<TextView>(R.id.reset).text.any { it in '\u4e00'..'\u9fff' })
    }
}
