package io.github.edgeocr.demo

import android.content.ContentValues
import android.content.pm.PackageManager.GET_PROVIDERS
import android.content.pm.PackageManager.PackageInfoFlags
import android.net.Uri
import android.provider.OpenableColumns
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.FileNotFoundException

class PhotoProviderTest : DemoTest() {
    private val resolver get() = app.contentResolver

    @Test
    fun `only apps with a grant can access the file of a URI`() {
        val flags = PackageInfoFlags.of(GET_PROVIDERS.toLong())
        val provider = app.packageManager.getPackageInfo(app.packageName, flags).providers!!.single()
        assertFalse(provider.exported)
        assertTrue(provider.grantUriPermissions)
        assertEquals(PhotoProvider.create(app).authority, provider.authority)
    }

    @Test
    fun `a photo that is written can be read and is where the app looks for it`() {
        val uri = PhotoProvider.create(app)
        assertNotEquals(uri, PhotoProvider.create(app))
        assertEquals("image/jpeg", resolver.getType(uri))
        assertThrows(FileNotFoundException::class.java) { resolver.openInputStream(uri) }
        repeat(2) { time ->
            resolver.openOutputStream(uri, "wt")!!.use { it.write(ByteArray(10 - time)) }
            assertEquals(10 - time, resolver.openInputStream(uri)!!.use { it.readBytes() }.size)
        }
        assertEquals(9, PhotoProvider.findFile(app, uri).length())
        resolver.query(uri, null, null, null)!!.use { cursor ->
            assertEquals(listOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE), cursor.columnNames.toList())
            assertTrue(cursor.moveToFirst())
            assertEquals(uri.lastPathSegment to 9L, cursor.getString(0) to cursor.getLong(1))
        }
        val asked = arrayOf(OpenableColumns.SIZE, "other")
        resolver.query(uri, asked, null, null)!!.use { assertEquals(listOf(asked[0]), it.columnNames.toList()) }
        val changes = resolver.delete(uri, null, null) to resolver.update(uri, ContentValues(), null, null)
        assertEquals(0 to 0, changes)
        assertEquals(9, PhotoProvider.findFile(app, uri).length())
    }

    @Test
    fun `old photos are deleted`() {
        val (old, recent) = List(2) { PhotoProvider.findFile(app, PhotoProvider.create(app)) }
        for (file in listOf(old, recent)) file.writeBytes(ByteArray(1))
        old.setLastModified(System.currentTimeMillis() - 25 * 3600 * 1000L)
        PhotoProvider.create(app)
        assertEquals(listOf(recent), recent.parentFile!!.listFiles()!!.toList())
    }

    @Test
    fun `other files cannot be read`() {
        val known = PhotoProvider.create(app)
        val paths = listOf("secret.txt", "..%2F..%2Fsecret.jpg", "a/${known.lastPathSegment}", "", "x.jpg")
        for (path in paths) {
            val uri = Uri.parse("content://${known.authority}/$path")
            assertThrows(path, FileNotFoundException::class.java) { resolver.openFileDescriptor(uri, "rw") }
        }
        resolver.openFileDescriptor(known, "rw")!!.close()
    }
}
