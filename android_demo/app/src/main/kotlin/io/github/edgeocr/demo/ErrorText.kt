package io.github.edgeocr.demo

import android.content.Context
import io.github.edgeocr.LibraryException
import io.github.edgeocr.PictureException
import io.github.edgeocr.StorageException
import io.github.edgeocr.VersionMismatchException
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.UntrustedException
import java.io.IOException

/** What went wrong (in the user's language), the reason and the hint, one line each. */
internal fun describeError(context: Context, error: Throwable): String {
    val reason = error.message ?: error.javaClass.simpleName
    return when (error) {
        is PictureFileException -> context.getString(error.reason)
        is EdgeOcrException -> listOfNotNull(context.getString(findTitle(error)), reason, error.hint).joinToString("\n")
        is OutOfMemoryError -> context.getString(R.string.error_memory)
        is SecurityException -> context.getString(R.string.error_access)
        is IOException -> context.getString(R.string.error_io, reason)
        else -> context.getString(R.string.error_other, "${error.javaClass.simpleName}: $reason")
    }
}

private fun findTitle(error: EdgeOcrException) = when (error) {
    is UntrustedException -> R.string.error_untrusted
    is BundleException -> R.string.error_bundle
    is NoEd25519Exception -> R.string.error_signature
    is VersionMismatchException -> R.string.error_version
    is LibraryException -> R.string.error_library
    is PictureException -> R.string.error_picture
    is StorageException -> R.string.error_storage
    else -> R.string.error_engine
}
