package io.github.edgeocr.core

/**
 * Base of every expected error; anything else is an internal error.
 *
 * The message says in one line what failed, where, expected and actual.
 *
 * @property hint The next step, or null.
 */
public open class EdgeOcrException(
    message: String,
    public val hint: String? = null,
    cause: Throwable? = null,
) : Exception(message, cause)

/** A bundle, or a network in it, is missing, damaged or does not match. */
public open class BundleException(
    message: String,
    hint: String? = EXPORT_AGAIN,
    cause: Throwable? = null,
) : EdgeOcrException(message, hint, cause)

/** A bundle must not be used: not signed, signed with another key, changed, or older than one used before. */
public class UntrustedException(message: String, hint: String? = SIGN) : BundleException(message, hint)

/** This device cannot check signatures, so no bundle that must be signed is used. */
public class NoEd25519Exception :
    EdgeOcrException(
        "this device cannot check signatures: none of its security providers supports Ed25519",
        "update Android, including Google Play system updates, or add Conscrypt 2.6 or newer to the app",
    )

private const val SIGN = "sign it with a key that the app trusts: edge-ocr export --target android --sign KEY"

private const val EXPORT_AGAIN = "export the bundle again: edge-ocr export --target android"
