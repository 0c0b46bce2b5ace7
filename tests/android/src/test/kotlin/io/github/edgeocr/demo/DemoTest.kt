package io.github.edgeocr.demo

import android.app.Activity
import android.app.Application
import android.content.Intent
import android.os.Looper
import android.view.View
import android.view.accessibility.AccessibilityNodeProvider
import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.TestBundle
import org.junit.After
import org.junit.Before
import org.junit.Rule
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.LockSupport
import java.util.zip.CRC32
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** A test of the app. The networks of its bundle replay the recorded outputs for the golden picture. */
@RunWith(RobolectricTestRunner::class)
abstract class DemoTest {
    @get:Rule
    val temporary = TemporaryFolder()

    protected val app: Application get() = RuntimeEnvironment.getApplication()

    /** A test may change the bundle before it installs it. */
    protected val bundle = TestBundle("sign")

    private val controllers = ArrayList<ActivityController<*>>()

    @Before
    fun loadNetworks() {
        FakeRuntime.reset(VERSION)
        bundle.putFile("golden.png", bundle.encodePicture())
        bundle.loadNetworks()
    }

    @After
    fun destroyActivities() = controllers.forEach { it.close() }

    /** Puts a bundle into the app's assets; its networks are uncompressed if [isStored], so that they can be mapped. */
    protected fun installBundle(folder: File = bundle.write(temporary.newFolder()), isStored: Boolean = true) {
        val apk = temporary.newFile()
        ZipOutputStream(apk.outputStream()).use { zip ->
            for (file in folder.walk().filter(File::isFile)) {
                val name = file.relativeTo(folder).invariantSeparatorsPath
                val entry = ZipEntry("assets/${EdgeOcr.ASSETS_FOLDER}/$name")
                val content = file.readBytes()
                if (isStored && file.extension in setOf("nb", "onnx")) {
                    entry.method = ZipEntry.STORED
                    entry.size = content.size.toLong()
                    entry.crc = CRC32().apply { update(content) }.value
                }
                zip.putNextEntry(entry)
                zip.write(content)
            }
        }
        // Robolectric reads assets from a built APK only; the replacement also needs those of the system.
        @Suppress("DEPRECATION")
        check(app.assets.addAssetPath(apk.path) != 0) { "$apk was not taken" }
    }

    /** A zip of a bundle's folder. */
    protected fun pack(folder: File): ByteArray {
        val packed = ByteArrayOutputStream()
        ZipOutputStream(packed).use { zip ->
            for (file in folder.walk().filter(File::isFile)) {
                zip.putNextEntry(ZipEntry("new/${file.relativeTo(folder).invariantSeparatorsPath}"))
                zip.write(file.readBytes())
            }
        }
        return packed.toByteArray()
    }

    /** Creates and shows an activity; [destroyActivities] ends it. */
    protected inline fun <reified T : Activity> start(intent: Intent? = null): ActivityController<T> =
        keep(Robolectric.buildActivity(T::class.java, intent)).setup()

    protected fun <T : Activity> keep(controller: ActivityController<T>) = controller.also(controllers::add)

    /** Rotates the device or changes other `qualifiers`: the system recreates the activity. */
    protected fun change(controller: ActivityController<*>, qualifiers: String) {
        RuntimeEnvironment.setQualifiers(qualifiers)
        controller.configurationChange(app.resources.configuration)
    }

    /** The texts that a screen reader finds in a view, in its order. */
    protected fun hear(view: View): List<String> = view.accessibilityNodeProvider
        .findAccessibilityNodeInfosByText("", AccessibilityNodeProvider.HOST_VIEW_ID).orEmpty().map { "${it.text}" }

    /** Runs the main thread's queue until [isSo] returns true. */
    protected fun waitUntil(what: String, isSo: () -> Boolean) {
        val end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S)
        while (true) {
            shadowOf(Looper.getMainLooper()).idle()
            if (isSo()) return
            check(System.nanoTime() < end) { "not in $PATIENCE_S s: $what" }
            LockSupport.parkNanos(STEP_NS)
        }
    }

    protected companion object {
        const val VERSION = "v2.13-rc"
        private const val PATIENCE_S = 20L
        private const val STEP_NS = 1_000_000L
    }
}
