@file:JvmName("EdgeOcrCoroutines")

package io.github.edgeocr

import android.content.Context
import android.graphics.Bitmap
import io.github.edgeocr.core.BgrImage
import io.github.edgeocr.core.Cancellation
import io.github.edgeocr.core.Reading
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.isActive
import kotlinx.coroutines.withContext
import java.io.File

/**
 * [EdgeOcr.open] for coroutines: loads the bundle in the app's assets on [dispatcher], whose threads it blocks.
 *
 * Throws the same exceptions. Loading cannot be stopped: a cancelled coroutine waits for it, then what was opened is
 * closed.
 */
public suspend fun EdgeOcr.Companion.openSuspending(
    context: Context,
    options: OcrOptions = OcrOptions(),
    dispatcher: CoroutineDispatcher = Dispatchers.IO,
): EdgeOcr = openOn(dispatcher) { open(context, options) }

/** The same for the bundle in [folder], or else the one in the app's assets. */
public suspend fun EdgeOcr.Companion.openSuspending(
    context: Context,
    folder: File,
    options: OcrOptions = OcrOptions(),
    dispatcher: CoroutineDispatcher = Dispatchers.IO,
): EdgeOcr = openOn(dispatcher) { open(context, folder, options) }

/** The same for the bundle in a folder. */
public suspend fun EdgeOcr.Companion.openSuspending(
    folder: File,
    options: OcrOptions = OcrOptions(),
    dispatcher: CoroutineDispatcher = Dispatchers.IO,
): EdgeOcr = openOn(dispatcher) { open(folder, options) }

/**
 * [EdgeOcr.recognize] for coroutines: reads the text lines of a bitmap on [dispatcher], one of whose threads it blocks,
 * also while it waits for other readings.
 *
 * Throws the same exceptions. If the coroutine is cancelled, this ends after at most one run of a network, and then
 * does not use [bitmap] any more. If this [EdgeOcr] is closed meanwhile, it throws [IllegalStateException], because a
 * [CancellationException] would end a coroutine that nobody cancelled without any report.
 */
public suspend fun EdgeOcr.recognizeSuspending(
    bitmap: Bitmap,
    dispatcher: CoroutineDispatcher = Dispatchers.IO,
): Reading = withContext(dispatcher) { readWhileActive { recognize(bitmap, it) } }

/** The same for a picture that is not a bitmap. */
public suspend fun EdgeOcr.recognizeSuspending(
    image: BgrImage,
    dispatcher: CoroutineDispatcher = Dispatchers.IO,
): Reading = withContext(dispatcher) { readWhileActive { recognize(image, it) } }

/** Reads until the coroutine is cancelled. */
internal fun CoroutineScope.readWhileActive(read: (Cancellation) -> Reading): Reading = try {
    read { !isActive }
} catch (error: CancellationException) {
    ensureActive()
    throw IllegalStateException("this EdgeOcr was closed, or its thread interrupted, while it read a picture", error)
}

private suspend fun openOn(dispatcher: CoroutineDispatcher, open: () -> EdgeOcr): EdgeOcr {
    var opened: EdgeOcr? = null
    try {
        return withContext(dispatcher) { open().also { opened = it } }
    } catch (error: Throwable) {
        // A coroutine that was cancelled meanwhile does not receive the result.
        opened?.close()
        throw error
    }
}
