package io.github.edgeocr.demo

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException
import java.util.UUID

/** Gives a camera app a file for its photo. Only apps that were granted the file's URI have access. */
class PhotoProvider : ContentProvider() {
    override fun onCreate() = true

    override fun getType(uri: Uri) = "image/jpeg"

    /** Throws [FileNotFoundException] if [create] did not return this URI. */
    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor =
        ParcelFileDescriptor.open(findFile(checkNotNull(context), uri), ParcelFileDescriptor.parseMode(mode))

    override fun query(
        uri: Uri,
        projection: Array<String>?,
        selection: String?,
        selectionArgs: Array<String>?,
        sortOrder: String?,
    ): Cursor {
        val file = findFile(checkNotNull(context), uri)
        val known = mapOf(OpenableColumns.DISPLAY_NAME to file.name, OpenableColumns.SIZE to file.length())
        val columns = projection?.filter(known::containsKey) ?: known.keys.toList()
        return MatrixCursor(columns.toTypedArray()).apply { addRow(columns.map(known::getValue)) }
    }

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun update(uri: Uri, values: ContentValues?, selection: String?, selectionArgs: Array<String>?) = 0

    override fun delete(uri: Uri, selection: String?, selectionArgs: Array<String>?) = 0

    internal companion object {
        private val NAME = Regex("[0-9a-f-]{36}\\.jpg")

        /** Returns the URI of a new photo and deletes old photos. */
        fun create(context: Context): Uri {
            deleteOld(findFolder(context))
            val (authority, name) = "${context.packageName}.photos" to "${UUID.randomUUID()}.jpg"
            return Uri.Builder().scheme("content").authority(authority).path(name).build()
        }

        /** The photo's file, which may not exist. Throws [FileNotFoundException] if [create] did not return the URI. */
        fun findFile(context: Context, uri: Uri): File {
            val name = uri.pathSegments.singleOrNull()?.takeIf(NAME::matches) ?: throw FileNotFoundException("$uri")
            return File(findFolder(context).apply { mkdirs() }, name)
        }

        private fun findFolder(context: Context) = File(context.cacheDir, "photos")
    }
}
