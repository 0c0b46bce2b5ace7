package io.github.edgeocr.demo

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
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
import io.github.edgeocr.EngineKind
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.PowerMode
import io.github.edgeocr.core.Cancellation
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.Settings

/** Settings of the next readings. Changes are stored at once; empty fields use the bundle's value. */
class SettingsActivity : Activity() {
    private lateinit var preferences: Preferences
    private lateinit var fields: Map<NumberSetting, EditText>
    private lateinit var powerMode: Spinner
    private lateinit var engine: Spinner
    private lateinit var modelsState: TextView
    private var job: OcrWorker.Job? = null

    /** The installation or removal of models; null before the first. */
    private var task: Task<Unit>? = null

    /** Those that the user may choose from. */
    internal var engines = EngineKind.entries.filter { it.isInApp }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        showScreen(R.layout.settings)
        preferences = Preferences(this)
        fields = NumberSetting.entries.associateWith(::addField)
        powerMode = findViewById(R.id.power_mode)
        val modes = listOf(null) + PowerMode.entries
        offer(powerMode, modes, ::title, preferences.powerMode) { preferences.powerMode = it }
        engine = findViewById(R.id.engine)
        if (engines.size > 1) {
            findViewById<View>(R.id.engine_row).visibility = View.VISIBLE
            offer(engine, listOf(null) + engines, ::title, preferences.engine) { preferences.engine = it }
        }
        findViewById<View>(R.id.reset).setOnClickListener { reset() }
        fields.getValue(NumberSetting.THREADS).hint = getString(R.string.own_value, "${OcrOptions().threads}")
        modelsState = findViewById(R.id.models_state)
        findViewById<View>(R.id.models_install).setOnClickListener { pickModels() }
        findViewById<View>(R.id.models_remove).setOnClickListener { change { _, _ -> remove() } }
        @Suppress("UNCHECKED_CAST") // This class stored it.
        follow(lastNonConfigurationInstance as Task<Unit>?)
    }

    override fun onRetainNonConfigurationInstance(): Any? = task

    override fun onDestroy() {
        super.onDestroy()
        job?.cancel()
        task?.onChange = {}
        if (!isChangingConfigurations) task?.cancel()
    }

    private fun <T> offer(spinner: Spinner, choices: List<T>, title: (T) -> Int, chosen: T, keep: (T) -> Unit) {
        spinner.adapter = ArrayAdapter(this, android.R.layout.simple_spinner_item, choices.map { getString(title(it)) })
            .apply { setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item) }
        spinner.setSelection(choices.indexOf(chosen))
        spinner.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) =
                keep(choices[position])

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
    }

    private fun pickModels() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).setType("application/zip")
            .addCategory(Intent.CATEGORY_OPENABLE)
        try {
            startActivityForResult(intent, INSTALL)
        } catch (_: ActivityNotFoundException) {
            modelsState.setText(R.string.models_no_picker)
        }
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        val uri = data?.data
        if (requestCode == INSTALL && resultCode == RESULT_OK && uri != null) {
            change { job, tell -> install(uri, job, tell) }
        }
    }

    /** Changes the models on another thread; the next reading opens those that there are then. */
    private fun change(work: Models.(Cancellation, tell: (Int) -> Unit) -> Unit) {
        val (models, worker) = models to worker
        follow(
            Task { tell, done ->
                worker.prepare(
                    { job ->
                        models.work(job, tell)
                        // Also if it was cancelled too late.
                        worker.close()
                    },
                    done,
                )
            },
        )
    }

    private fun follow(task: Task<Unit>?) {
        this.task = task
        task?.onChange = ::showModels
        showModels()
    }

    private fun showModels() {
        val isRunning = task != null && task?.outcome == null
        findViewById<View>(R.id.models_install).isEnabled = !isRunning
        findViewById<View>(R.id.models_remove).isEnabled = !isRunning && models.isInstalled
        job?.cancel()
        if (isRunning) {
            modelsState.text = getString(R.string.models_installing, task?.steps ?: 0)
            return
        }
        val error = task?.outcome?.exceptionOrNull()
        modelsState.text = if (error != null) describeError(this, error) else null
        val models = models
        job = worker.prepare({ Manifest.parse(models.openManifest().reader().use { it.readText() }) }) { manifest ->
            // Without a bundle there is nothing to show; reading reports the error.
            manifest.onSuccess { showOwn(it.settings) }
            if (error == null) modelsState.text = describeModels(manifest.getOrNull())
        }
    }

    private fun describeModels(used: Manifest?): String {
        val reason = models.fallbackReason
        val release = used?.release
        return when {
            !models.isInstalled -> getString(R.string.models_own)
            reason != null -> getString(R.string.models_fallback, reason.message)
            release != null -> getString(R.string.models_release, release.name, release.counter)
            else -> getString(R.string.models_unnamed)
        }
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
        engine.setSelection(0)
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

    private fun title(engine: EngineKind?): Int = when (engine) {
        null -> R.string.engine_own
        EngineKind.ONNXRUNTIME -> R.string.engine_onnxruntime
        EngineKind.PADDLE_LITE -> R.string.engine_paddle_lite
    }

    private companion object {
        const val INSTALL = 1
    }
}
