package io.github.edgeocr

import org.json.JSONObject
import java.io.File
import java.security.KeyPair
import java.security.KeyPairGenerator
import java.security.Signature
import java.util.Base64

fun makeKeys(): KeyPair = KeyPairGenerator.getInstance("Ed25519").generateKeyPair()

fun writePem(pair: KeyPair): String =
    "-----BEGIN PUBLIC KEY-----\n${Base64.getEncoder().encodeToString(pair.public.encoded)}\n-----END PUBLIC KEY-----\n"

fun sign(content: ByteArray, pair: KeyPair): ByteArray = Signature.getInstance("Ed25519").run {
    initSign(pair.private)
    update(content)
    sign()
}

/** Writes the bundle as the release `demo` with a signature. */
fun TestBundle.writeSigned(folder: File, pair: KeyPair, counter: Long): File {
    manifest.put("release", JSONObject().put("name", "demo").put("counter", counter))
    write(folder)
    File(folder, "manifest.sig").writeBytes(sign(File(folder, "manifest.json").readBytes(), pair))
    return folder
}
