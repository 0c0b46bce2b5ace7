package io.github.edgeocr.core

import java.math.BigInteger
import java.nio.charset.CharacterCodingException
import java.security.KeyFactory
import java.security.MessageDigest
import java.security.Provider
import java.security.Security
import java.security.Signature
import java.security.spec.X509EncodedKeySpec

/**
 * The release that a signed manifest names.
 *
 * @property name Bundles of the same name replace each other.
 * @property counter Rises with each of them.
 */
public data class Release(val name: String, val counter: Long)

/** Records the highest counter that was accepted, by name of release. */
public interface CounterStore {
    /** What was written last; empty if nothing was. Throws [UntrustedException] if it is damaged. */
    @Throws(EdgeOcrException::class)
    public fun read(): Map<String, Long>

    /** Replaces everything or nothing. Throws [EdgeOcrException] if that fails. */
    @Throws(EdgeOcrException::class)
    public fun write(counters: Map<String, Long>)
}

/** Name of the manifest's signature in a bundle: 64 bytes of Ed25519. */
internal const val SIGNATURE_FILE = "manifest.sig"

internal const val SIGNATURE_BYTES = 64

private const val KEY_BYTES = 32

/** The largest integer that every JSON reader holds exactly: 2^53 - 1. */
private const val MAX_COUNTER = 9_007_199_254_740_991L

private val RELEASE_NAME = Regex("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

/** A SubjectPublicKeyInfo with an Ed25519 key (RFC 8410), without the key itself. */
private val SPKI = readHex("302a300506032b6570032100")

/** The base64 of a public key in PEM form: these 12 bytes, then those of the key. */
private val PEM_CONTENT = Regex("MCowBQYDK2VwAyEA([A-Za-z0-9+/]{43})=")

/** The order of Ed25519's group. */
private val ORDER = BigInteger.ONE.shiftLeft(252) + BigInteger("27742317777372353535851937790883648493")

/** RFC 8032, 7.1, test 2. */
private val TEST_KEY = readHex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
private val TEST_CONTENT = readHex("72")
private val TEST_SIGNATURE = readHex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
)

/**
 * Returns the 32 bytes of an Ed25519 public key in PEM form, as `edge-ocr keys new` and OpenSSL write it.
 *
 * Throws [UntrustedException], which calls the key [place], for anything else.
 */
internal fun readPublicKey(pem: String, place: String): ByteArray {
    val lines = pem.lines().map(String::trim).filter(String::isNotEmpty)
    val isPem = lines.firstOrNull() == "-----BEGIN PUBLIC KEY-----" && lines.last() == "-----END PUBLIC KEY-----"
    val content = if (isPem) PEM_CONTENT.matchEntire(lines.drop(1).dropLast(1).joinToString("")) else null
    val digits = content?.groupValues?.get(1)
        ?: throw UntrustedException("$place is not an Ed25519 public key in PEM form", MAKE_KEYS)
    return readBase64(digits)
}

/** A public key's fingerprint: the first 16 hexadecimal digits of its sha256. */
internal fun nameKey(key: ByteArray): String =
    MessageDigest.getInstance("SHA-256").digest(key).take(8).joinToString("") { "%02x".format(it) }

/**
 * Returns the release of a manifest after checking that one of [keys] signed it and that it is not older than [seen].
 *
 * [signature] is null if the bundle has none. Throws [UntrustedException] if a check fails, [NoEd25519Exception] if
 * this device cannot check signatures.
 */
internal fun checkManifest(
    manifest: ByteArray,
    signature: ByteArray?,
    keys: List<ByteArray>,
    seen: Map<String, Long>,
): Release {
    if (signature == null) throw UntrustedException("the bundle is not signed: there is no $SIGNATURE_FILE")
    if (keys.none { isSignedBy(it, manifest, signature) }) {
        throw UntrustedException(
            "$SIGNATURE_FILE does not match: ${Manifest.FILE} was changed or signed with another key than " +
                keys.joinToString(", ", transform = ::nameKey),
        )
    }
    val content = try {
        readStrictJson(manifest.decodeToString(throwOnInvalidSequence = true))
    } catch (_: IllegalArgumentException) {
        throw UntrustedException("${Manifest.FILE} is signed, but is not JSON")
    } catch (_: CharacterCodingException) {
        throw UntrustedException("${Manifest.FILE} is signed, but is not JSON")
    }
    val release = readRelease(content) ?: throw UntrustedException("${Manifest.FILE} is signed, but names no release")
    val least = seen[release.name] ?: 0
    if (release.counter < least) {
        throw UntrustedException(
            "the bundle is older than one used before: release ${release.name} has counter ${release.counter}, " +
                "expected $least or more",
            "export it again with a higher --counter, or use the newer bundle",
        )
    }
    return release
}

/** The release that a manifest names; null if it names none or an invalid one. */
private fun readRelease(manifest: Any?): Release? {
    val found = (manifest as? Map<*, *>)?.get("release") as? Map<*, *> ?: return null
    val name = (found["name"] as? String)?.takeIf(RELEASE_NAME::matches) ?: return null
    val counter = (found["counter"] as? Long)?.takeIf { it in 0..MAX_COUNTER } ?: return null
    return Release(name, counter)
}

/**
 * Whether [signature] is a valid Ed25519 signature (RFC 8032) of [content] by the public [key] (32 bytes).
 *
 * Throws [NoEd25519Exception].
 */
internal fun isSignedBy(key: ByteArray, content: ByteArray, signature: ByteArray): Boolean {
    if (signature.size != SIGNATURE_BYTES) return false
    // Not every provider checks this, and S + L would be accepted like S.
    val s = BigInteger(1, signature.copyOfRange(KEY_BYTES, SIGNATURE_BYTES).reversedArray())
    return s < ORDER && ask(findProvider(), key, content, signature)
}

/**
 * Returns the first provider that accepts a good signature and refuses a bad one. Asked by name alone, Android may
 * return AndroidKeyStore, which accepts only its own keys.
 */
private fun findProvider(): Provider =
    Security.getProviders().firstOrNull { provider ->
        ask(provider, TEST_KEY, TEST_CONTENT, TEST_SIGNATURE) && !ask(provider, TEST_KEY, ByteArray(0), TEST_SIGNATURE)
    } ?: throw NoEd25519Exception()

private fun ask(provider: Provider, key: ByteArray, content: ByteArray, signature: ByteArray): Boolean =
    try {
        val public = KeyFactory.getInstance(ALGORITHM, provider).generatePublic(X509EncodedKeySpec(SPKI + key))
        Signature.getInstance(ALGORITHM, provider).run {
            initVerify(public)
            update(content)
            verify(signature)
        }
    } catch (_: Exception) {
        // Providers also throw exceptions of their own for keys that they do not support.
        false
    }

private fun readHex(digits: String): ByteArray =
    digits.chunked(2).map { it.toInt(radix = 16).toByte() }.toByteArray()

/** Decodes base64 here: java.util.Base64 needs Android 8, and this code also runs without Android. */
private fun readBase64(digits: String): ByteArray {
    val value = digits.fold(BigInteger.ZERO) { sum, digit ->
        sum.shiftLeft(6) + BigInteger.valueOf(BASE64.indexOf(digit).toLong())
    }
    val bytes = value.shiftRight(2).toByteArray()
    return ByteArray(KEY_BYTES) { bytes.getOrElse(it - KEY_BYTES + bytes.size) { 0 } }
}

private const val BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
private const val ALGORITHM = "Ed25519"
private const val MAKE_KEYS = "make one with edge-ocr keys new NAME, and use NAME.pub"
