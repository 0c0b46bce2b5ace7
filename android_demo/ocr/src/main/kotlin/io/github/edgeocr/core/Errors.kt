package io.github.edgeocr.core

/**
 * Base of every error that is no bug of ours.
 *
 * The message says what, where, expected against actual, in one line; [hint] names the next step.
 */
public open class EdgeOcrException(
    message: String,
    public val hint: String? = null,
    cause: Throwable? = null,
) : Exception(message, cause)

/** A bundle, or a network in it, that is missing, damaged or does not fit. */
public class BundleException(
    message: String,
    hint: String? = EXPORT_AGAIN,
    cause: Throwable? = null,
) : EdgeOcrException(message, hint, cause)

private const val EXPORT_AGAIN = "export the bundle again: edge-ocr export --target android"
