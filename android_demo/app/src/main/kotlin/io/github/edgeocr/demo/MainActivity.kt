package io.github.edgeocr.demo

import android.Manifest
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.os.Parcelable
import android.provider.MediaStore
import android.view.Menu
import android.view.MenuItem
import android.view.View
import android.view.ViewGroup
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.ListView
import android.widget.ProgressBar
import android.widget.TextView
import io.github.edgeocr.core.Reading
import io.github.edgeocr.core.TextLine
import java.io.File
import kotlin.math.roundToInt

/** Reads a picture that is picked, taken or shared to the app, and shows its lines over the picture and below. */
class MainActivity : Activity() {
    private lateinit var current: PictureReading
    private lateinit var overlay: OverlayView
    private lateinit var list: LineList
    private var shown: ShownPicture? = null

    // The camera app may push this app out of memory.
    private var photo: Uri? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        showScreen(R.layout.main, hasBack = false)
        overlay = findViewById(R.id.overlay)
        overlay.showsTexts = savedInstanceState?.getBoolean(SHOWS_TEXTS) ?: true
        overlay.onTextChosen = { copyText(this, it) }
        list = LineList()
        findViewById<ListView>(R.id.lines).apply {
            adapter = list
            setOnItemClickListener { _, _, position, _ -> list.getItem(position)?.let(::copyLine) }
        }
        findViewById<View>(R.id.pick).setOnClickListener { pick() }
        findViewById<View>(R.id.take).setOnClickListener { take() }
        findViewById<View>(R.id.cancel).setOnClickListener { current.cancel() }
        findViewById<View>(R.id.retry).setOnClickListener { current.retry() }
        val kept = lastNonConfigurationInstance as PictureReading?
        current = kept ?: PictureReading(worker, applicationContext.contentResolver, File(cacheDir, "pictures"), models)
        current.onChange = ::render
        photo = savedInstanceState?.getString(PHOTO)?.let(Uri::parse)
        if (kept == null) begin(savedInstanceState)
        render()
    }

    /** Reads the picture that was shown when the process ended, or one that another app shares. */
    private fun begin(saved: Bundle?) {
        if (saved == null) {
            if (intent.action != Intent.ACTION_SEND) return
            val shared = readShared()
            if (shared != null) current.start(shared) else refuse(R.string.error_no_content)
            return
        }
        val file = saved.getString(FILE)
        val source = saved.getString(SOURCE)
        if (file != null) {
            current.start(PictureFile(File(file)))
        } else if (source != null) {
            current.start(Uri.parse(source))
        }
    }

    private fun readShared(): Uri? = try {
        // Android 13 has it too, but it sometimes fails there with a NullPointerException.
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE) {
            intent.getParcelableExtra(Intent.EXTRA_STREAM, Uri::class.java)
        } else {
            // Its replacement does not exist yet.
            @Suppress("DEPRECATION")
            intent.getParcelableExtra<Parcelable>(Intent.EXTRA_STREAM) as? Uri
        }
    } catch (_: RuntimeException) {
        // Extras cannot be unpacked; the exception depends on the version of Android.
        null
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putBoolean(SHOWS_TEXTS, overlay.showsTexts)
        outState.putString(PHOTO, photo?.toString())
        outState.putString(FILE, current.file?.file?.path)
        outState.putString(SOURCE, current.source?.toString())
    }

    // The reading continues while the phone is rotated.
    override fun onRetainNonConfigurationInstance(): Any = current

    override fun onDestroy() {
        super.onDestroy()
        current.onChange = {}
        if (isFinishing) current.clear() else if (!isChangingConfigurations) current.cancel()
    }

    private fun pick() {
        val intent = Intent(Intent.ACTION_GET_CONTENT).setType("image/*").addCategory(Intent.CATEGORY_OPENABLE)
        ask(intent, PICK, R.string.error_no_picker)
    }

    private fun take() {
        // If the manifest lists the camera permission but it is not granted, Android refuses the camera app too.
        if (checkSelfPermission(Manifest.permission.CAMERA) != PackageManager.PERMISSION_GRANTED) {
            requestPermissions(arrayOf(Manifest.permission.CAMERA), TAKE)
            return
        }
        val uri = PhotoProvider.create(this)
        photo = uri
        val intent = Intent(MediaStore.ACTION_IMAGE_CAPTURE).putExtra(MediaStore.EXTRA_OUTPUT, uri)
        intent.clipData = ClipData.newRawUri(null, uri)
        intent.addFlags(Intent.FLAG_GRANT_WRITE_URI_PERMISSION or Intent.FLAG_GRANT_READ_URI_PERMISSION)
        ask(intent, TAKE, R.string.error_no_camera_app)
    }

    private fun ask(intent: Intent, request: Int, noApp: Int) {
        try {
            startActivityForResult(intent, request)
        } catch (_: ActivityNotFoundException) {
            refuse(noApp)
        }
    }

    private fun refuse(reason: Int) = current.fail(PictureFileException(reason))

    override fun onRequestPermissionsResult(requestCode: Int, permissions: Array<String>, grantResults: IntArray) {
        // Empty if the dialog was interrupted, for example because the phone was rotated.
        when (grantResults.firstOrNull()) {
            PackageManager.PERMISSION_GRANTED -> take()
            PackageManager.PERMISSION_DENIED -> refuse(R.string.error_camera_denied)
        }
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        val taken = photo
        if (requestCode == TAKE) photo = null
        if (resultCode != RESULT_OK) return
        when (requestCode) {
            // Some pickers return a list with one item.
            PICK -> (data?.data ?: data?.clipData?.getItemAt(0)?.uri)?.let(current::start)
            TAKE -> taken?.let { current.start(PictureFile(PhotoProvider.findFile(this, it))) }
        }
    }

    private fun render() {
        val lines = current.reading?.lines.orEmpty()
        val picture = current.picture
        if (picture !== shown) findViewById<View>(R.id.picture).scrollTo(0, 0)
        shown = picture
        overlay.show(picture?.strips.orEmpty(), lines, picture?.width ?: 0, picture?.height ?: 0)
        list.show(lines)
        findViewById<ProgressBar>(R.id.progress).isVisible = current.isBusy
        findViewById<Button>(R.id.cancel).isVisible = current.isBusy
        findViewById<Button>(R.id.retry).isVisible = !current.isBusy && current.reading == null && current.isBegun
        findViewById<TextView>(R.id.status).text = describe()
        invalidateOptionsMenu()
    }

    private fun describe(): String {
        val reading = current.reading
        val error = current.error
        return when {
            current.isBusy -> getString(R.string.reading)
            error != null -> describeError(this, error)
            reading != null -> {
                val fallback = current.fallbackReason?.let { getString(R.string.models_fallback, it.message) }
                listOfNotNull(fallback, describe(reading)).joinToString("\n")
            }
            current.isBegun -> getString(R.string.cancelled)
            else -> getString(R.string.welcome)
        }
    }

    private fun describe(reading: Reading): String {
        if (reading.lines.isEmpty()) return getString(R.string.no_text)
        val count = resources.getQuantityString(R.plurals.lines, reading.lines.size, reading.lines.size)
        return getString(R.string.read, count, reading.timingsMs.values.sum().roundToInt())
    }

    override fun onCreateOptionsMenu(menu: Menu): Boolean {
        menuInflater.inflate(R.menu.main, menu)
        return true
    }

    override fun onPrepareOptionsMenu(menu: Menu): Boolean {
        menu.setGroupEnabled(R.id.with_reading, !current.reading?.lines.isNullOrEmpty())
        menu.findItem(R.id.show_texts).isChecked = overlay.showsTexts
        return true
    }

    override fun onOptionsItemSelected(item: MenuItem): Boolean {
        val (reading, picture) = current.reading to current.picture
        when (item.itemId) {
            R.id.copy_all -> reading?.let { copyText(this, it.lines.toText()) }
            R.id.share_text -> reading?.let { shareText(this, it.lines.toText()) }
            R.id.share_json -> if (reading != null && picture != null) shareJson(reading, picture)
            R.id.show_texts -> overlay.showsTexts = !overlay.showsTexts
            R.id.live -> open(LiveActivity::class.java)
            R.id.benchmark -> open(BenchmarkActivity::class.java)
            R.id.self_test -> open(SelfTestActivity::class.java)
            R.id.settings -> open(SettingsActivity::class.java)
            else -> return super.onOptionsItemSelected(item)
        }
        return true
    }

    private fun shareJson(reading: Reading, picture: ShownPicture) =
        shareText(this, reading.toJson(picture.width, picture.height).toString())

    private fun open(screen: Class<out Activity>) = startActivity(Intent(this, screen))

    private fun copyLine(line: TextLine) = copyText(this, line.text)

    /** The lines and their scores. */
    private inner class LineList :
        ArrayAdapter<TextLine>(this@MainActivity, android.R.layout.simple_list_item_2, android.R.id.text1) {
        private var shown = emptyList<TextLine>()

        fun show(lines: List<TextLine>) {
            // Setting the same lines again would scroll the list to its top.
            if (lines === shown) return
            shown = lines
            clear()
            addAll(lines)
        }

        override fun getView(position: Int, convertView: View?, parent: ViewGroup): View {
            val row = super.getView(position, convertView, parent)
            val line = shown[position]
            row.findViewById<TextView>(android.R.id.text1).text = line.text
            row.findViewById<TextView>(android.R.id.text2).text = getString(R.string.score, 100 * line.recScore)
            return row
        }
    }

    private var View.isVisible: Boolean
        get() = visibility == View.VISIBLE
        set(value) {
            visibility = if (value) View.VISIBLE else View.GONE
        }

    private companion object {
        const val PICK = 1
        const val TAKE = 2
        const val PHOTO = "photo"
        const val FILE = "file"
        const val SOURCE = "source"
        const val SHOWS_TEXTS = "shows_texts"
    }
}
