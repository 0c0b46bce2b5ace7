package io.github.edgeocr.demo

import android.app.Activity
import android.os.Bundle
import android.text.Editable
import android.text.TextWatcher
import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.EditText
import android.widget.Spinner
import android.widget.TextView
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.PowerMode
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.Settings

/** Settings of the next readings. Changes are stored at once; empty fields use the bundle's value. */
class SettingsActivity : Activity() {
    private lateinit var preferences: Preferences
    private lateinit var fields: Map<NumberSetting, EditText>
    private lateinit var powerMode: Spinner
    private var job: OcrWorker.Job? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        showScreen(R.layout.settings)
        preferences = Preferences(this)
        fields = NumberSetting.entries.associateWith(::addField)
        powerMode = findViewById(R.id.power_mode)
        val choices = listOf(null) + PowerMode.entries
        val names = choices.map { getString(title(it)) }
        powerMode.adapter = ArrayAdapter(this, android.R.layout.simple_spinner_item, names)
            .apply { setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item) }
        powerMode.setSelection(choices.indexOf(preferences.powerMode))
        powerMode.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) {
                preferences.powerMode = choices[position]
            }

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
        findViewById<View>(R.id.reset).setOnClickListener { reset() }
        fields.getValue(NumberSetting.THREADS).hint = getString(R.string.own_value, "${OcrOptions().threads}")
        job = worker.prepare(
            { Manifest.parse(assets.open("${EdgeOcr.ASSETS_FOLDER}/${Manifest.FILE}").reader().use { it.readText() }) },
            // Without a bundle there is nothing to show; reading reports the error.
            { manifest -> manifest.onSuccess { showOwn(it.settings) } },
        )
    }

    override fun onDestroy() {
        super.onDestroy()
        job?.cancel()
    }

    private fun addField(setting: NumberSetting): EditText {
        val rows = findViewById<ViewGroup>(R.id.rows)
        val row = LayoutInflater.from(this).inflate(R.layout.settings_number, rows, false)
        rows.addView(row)
        // Each has its own id, by which Android keeps its text when the phone is rotated.
        val field = row.findViewById<EditText>(R.id.number)
        field.id = setting.viewId
        row.findViewById<TextView>(R.id.title).apply {
            setText(setting.title)
            labelFor = field.id
        }
        field.setText(preferences[setting]?.let(setting::format))
        field.addTextChangedListener(object : TextWatcher {
            override fun beforeTextChanged(text: CharSequence?, start: Int, count: Int, after: Int) = Unit

            override fun onTextChanged(text: CharSequence?, start: Int, before: Int, count: Int) = Unit

            override fun afterTextChanged(text: Editable) = take(setting, field, text.toString().trim())
        })
        return field
    }

    private fun take(setting: NumberSetting, field: EditText, text: String) {
        val value = setting.parse(text)
        val isRight = text.isEmpty() || value != null
        if (isRight) preferences[setting] = value
        val (least, most) = setting.format(setting.range.start) to setting.format(setting.range.endInclusive)
        field.error = if (isRight) null else getString(R.string.error_range, least, most)
    }

    private fun showOwn(settings: Settings) {
        for ((setting, field) in fields) {
            setting.readOwn(settings)?.let { field.hint = getString(R.string.own_value, "$it") }
        }
    }

    private fun reset() {
        fields.values.forEach { it.text.clear() }
        powerMode.setSelection(0)
        preferences.clear()
    }

    private fun title(mode: PowerMode?): Int = when (mode) {
        null -> R.string.power_own
        PowerMode.HIGH -> R.string.power_high
        PowerMode.LOW -> R.string.power_low
        PowerMode.FULL -> R.string.power_full
        PowerMode.NO_BIND -> R.string.power_no_bind
        PowerMode.RAND_HIGH -> R.string.power_rand_high
        PowerMode.RAND_LOW -> R.string.power_rand_low
    }
}
