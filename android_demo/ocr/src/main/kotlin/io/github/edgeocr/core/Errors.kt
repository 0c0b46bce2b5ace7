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
public open class BundleException(
    message: String,
    hint: String? = EXPORT_AGAIN,
    cause: Throwable? = null,
) : EdgeOcrException(message, hint, cause)

/** A bundle that must not be used: not signed, signed with another key, changed or older than one before. */
public class UntrustedException(message: String, hint: String? = SIGN) : BundleException(message, hint)

/** This device cannot check signatures, so a bundle that must be signed is not used. */
public class NoEd25519Exception :
    EdgeOcrException(
        "signatures cannot be checked here: no security provider of this device knows Ed25519",
        "update Android, Google Play system updates included, or put Conscrypt 2.6 or newer into the app",
    )

private const val SIGN = "sign it with a key that the app trusts: edge-ocr export --target android --sign KEY"

private const val EXPORT_AGAIN = "export the bundle again: edge-ocr export --target android"
