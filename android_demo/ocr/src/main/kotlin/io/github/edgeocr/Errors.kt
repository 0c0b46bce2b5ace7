package io.github.edgeocr

import io.github.edgeocr.core.EdgeOcrException

/**
 * Paddle-Lite has another version than the networks need. It might return wrong text without an error.
 *
 * @property libraryVersion That of the app's Paddle-Lite.
 * @property bundleVersion The one that the bundle needs.
 */
public class VersionMismatchException(public val libraryVersion: String, public val bundleVersion: String) :
    EdgeOcrException(
        "the app has Paddle-Lite $libraryVersion, but its bundle needs $bundleVersion",
        "fetch the library of that version with edge-ocr libs fetch, then run edge-ocr export --target android",
    )

/** The app has no library of an engine, or this device cannot load it. */
public class LibraryException(message: String, cause: Throwable? = null) :
    EdgeOcrException(message, "build the app with the library for this ABI: edge-ocr export --target android", cause)

/** An intact network failed to run. */
public class EngineException(message: String, cause: Throwable? = null) : EdgeOcrException(message, cause = cause)

/** A bitmap that cannot be read. */
public class PictureException(message: String, hint: String? = null, cause: Throwable? = null) :
    EdgeOcrException(message, hint, cause)

/** The device's storage cannot be written. */
public class StorageException(message: String, cause: Throwable? = null) :
    EdgeOcrException(message, "free some storage on the device", cause)
