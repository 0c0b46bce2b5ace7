package io.github.edgeocr

import io.github.edgeocr.core.EdgeOcrException

/** A Paddle-Lite of another version than the networks are for, which might read them wrong without saying so. */
public class VersionMismatchException(public val libraryVersion: String, public val bundleVersion: String) :
    EdgeOcrException(
        "the app has Paddle-Lite $libraryVersion, expected $bundleVersion, which the bundle is for",
        "put the library of that version into the app: edge-ocr libs fetch, then edge-ocr export --target android",
    )

/** Paddle-Lite's library is not in the app, or this device cannot load it. */
public class LibraryException(message: String, cause: Throwable) :
    EdgeOcrException(message, "build the app with the library for this ABI: edge-ocr export --target android", cause)

/** A network that is right failed to run. */
public class EngineException(message: String) : EdgeOcrException(message)

/** A bitmap that cannot be read. */
public class PictureException(message: String, hint: String? = null, cause: Throwable? = null) :
    EdgeOcrException(message, hint, cause)

/** The device's storage cannot be written. */
public class StorageException(message: String, cause: Throwable? = null) :
    EdgeOcrException(message, "free some of the device's storage", cause)
