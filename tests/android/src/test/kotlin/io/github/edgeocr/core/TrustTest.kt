package io.github.edgeocr.core

import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.math.BigInteger
import java.security.Key
import java.security.KeyFactory
import java.security.KeyFactorySpi
import java.security.KeyPairGenerator
import java.security.PrivateKey
import java.security.Provider
import java.security.PublicKey
import java.security.Security
import java.security.Signature
import java.security.SignatureSpi
import java.security.spec.KeySpec
import java.security.spec.X509EncodedKeySpec
import java.util.Base64

class TrustTest {
    private val cases = GoldenFiles.expected.items("signatures")
    private val trusted = cases.first { it.getString("name") == "trusted" }
    private val key = readHex(trusted.getJSONArray("keys").getString(0))
    private val manifest = trusted.getString("manifest").toByteArray()
    private val signature = readHex(trusted.getString("signature"))
    private val spki = readHex("302a300506032b6570032100")

    private fun readHex(digits: String) = digits.chunked(2).map { it.toInt(16).toByte() }.toByteArray()

    /** What identifies a message: files, keys and counters. */
    private fun findKeyValues(message: String) =
        Regex("manifest\\.\\w+|\\w*\\d\\w*|JSON").findAll(message).map { it.value }.toSet()

    private fun check(case: JSONObject): Release = checkManifest(
        case.getString("manifest").toByteArray(),
        if (case.isNull("signature")) null else readHex(case.getString("signature")),
        case.getJSONArray("keys").elements().map { readHex(it as String) },
        case.getJSONObject("seen").let { seen -> seen.keys().asSequence().associateWith(seen::getLong) },
    )

    @Test
    fun `signatures are accepted and refused as on the host`() {
        val outcomes = HashSet<Boolean>()
        for (case in cases) {
            val name = case.getString("name")
            val error = if (case.isNull("error")) null else case.getString("error")
            outcomes += error == null
            if (error == null) {
                val release = case.getJSONObject("release")
                assertEquals(Release(release.getString("name"), release.getLong("counter")), check(case), name)
            } else {
                val refused = assertThrows(UntrustedException::class.java, { check(case) }, name)
                assertEquals(findKeyValues(error), findKeyValues(refused.message!!), name)
            }
        }
        assertEquals(setOf(true, false), outcomes)
        assertTrue(cases.size >= 25, "${cases.size} cases")
    }

    /** Signs like the host's tests, with the platform's Ed25519. */
    private fun sign(manifest: ByteArray): Pair<ByteArray, ByteArray> {
        val pair = KeyPairGenerator.getInstance("Ed25519").generateKeyPair()
        val made = Signature.getInstance("Ed25519").run {
            initSign(pair.private)
            update(manifest)
            sign()
        }
        return pair.public.encoded.takeLast(32).toByteArray() to made
    }

    private fun assertSignedButRefused(reason: String, manifest: ByteArray) {
        val (key, made) = sign(manifest)
        val error = assertThrows(UntrustedException::class.java) {
            checkManifest(manifest, made, listOf(key), mapOf())
        }
        assertEquals("manifest.json is signed, but $reason", error.message)
    }

    @Test
    fun `JSON that only lenient parsers accept is refused`() {
        val counters = listOf("007", "0x7", "+7", "7.", ".7", "7,", "7 7", "7;", "7 // seven", "NaN")
        val wrong = counters.map { """{"release": {"name": "demo", "counter": $it}}""" } + listOf(
            """{'release': {'name': 'demo', 'counter': 7}}""",
            """{release: {name: demo, counter: 7}}""",
            """{"release": {"name": demo, "counter": 7}}""",
            """{"release": {"name": "demo", "counter": 7}} {}""",
            """{"release": {"name": "demo"; "counter": 7}}""",
            """{"release": {"name": "demo", "counter": 7}""",
            "{\"release\": {\"name\": \"de\nmo\", \"counter\": 7}}",
            """{"release": {"name": "\x64emo", "counter": 7}}""",
            """{"release": {"name": "\u64zz", "counter": 7}}""",
            "",
            "[".repeat(100_000),
        )
        for (text in wrong) assertSignedButRefused("is not JSON", text.toByteArray())
        val text = """{"release": {"name": "demo", "counter": 7}, "x": """"
        assertSignedButRefused("is not JSON", text.toByteArray() + 0xFF.toByte() + "\"}".toByteArray())
    }

    @Test
    fun `numbers that are not whole are not counters`() {
        for (counter in listOf("7.0", "7e0", "1E2", "99999999999999999999", "null", "[7]", "{}")) {
            assertSignedButRefused(
                "names no release",
                """{"release": {"name": "demo", "counter": $counter}}""".toByteArray(),
            )
        }
    }

    @Test
    fun `escapes and spaces are read`() {
        val text = " {\"x\": [true, false, null, -1.5e3, {}, []], \"release\"\t:\r\n" +
            """{"counter": 1, "counter": 7, "name": "\u0064em\u006F"}, "y": "\"\\\/\b\f\n\r\t中"} """
        val (key, made) = sign(text.toByteArray())
        assertEquals(Release("demo", 7), checkManifest(text.toByteArray(), made, listOf(key), mapOf()))
        val read = readStrictJson(text) as Map<*, *>
        assertEquals(listOf(true, false, null, -1500.0, mapOf<String, Any>(), listOf<Any>()), read["x"])
        assertEquals("\"\\/\b\u000c\n\r\t中", read["y"])
    }

    @Test
    fun `a complete manifest is read as by the other reader`() {
        for (file in listOf("manifest.json", "recorded.json", "expected.json")) {
            val text = GoldenFiles.readText(file)
            assertEquals(toPlain(JSONObject(text)), readStrictJson(text), file)
        }
    }

    private fun toPlain(value: Any?): Any? = when (value) {
        is JSONObject -> value.keySet().associateWith { toPlain(value.get(it)) }
        is JSONArray -> value.map(::toPlain)
        is Int -> value.toLong()
        is Long -> value
        is Number -> value.toDouble()
        JSONObject.NULL -> null
        else -> value
    }

    @Test
    fun `each bit of manifest and signature counts`() {
        for (i in signature.indices) {
            val changed = signature.clone().also { it[i] = (it[i].toInt() xor 1).toByte() }
            assertFalse(isSignedBy(key, manifest, changed), "$i")
        }
        for (i in manifest.indices) {
            val changed = manifest.clone().also { it[i] = (it[i].toInt() xor 1).toByte() }
            assertFalse(isSignedBy(key, changed, signature), "$i")
        }
        assertTrue(isSignedBy(key, manifest, signature))
        // Not a point of the curve, or a point of small order.
        for (other in listOf(ByteArray(32), ByteArray(32) { -1 }, ByteArray(32) { 2 })) {
            assertFalse(isSignedBy(other, manifest, signature))
        }
    }

    @Test
    fun `public keys are read from PEM`() {
        repeat(50) {
            val public = KeyPairGenerator.getInstance("Ed25519").generateKeyPair().public.encoded
            assertArrayEquals(public.takeLast(32).toByteArray(), readPublicKey(writePem(public), "key"))
        }
        // At every position in base64, and with leading zeros.
        for (bytes in List(32) { i -> ByteArray(32).also { it[i] = -1 } } + ByteArray(32)) {
            assertArrayEquals(bytes, readPublicKey(writePem(spki + bytes).replace("\n", " \r\n\n"), "key"))
        }
        assertEquals("134261e7eef6ebc2", nameKey(key))
    }

    @Test
    fun `anything but an Ed25519 public key is refused`() {
        val public = KeyPairGenerator.getInstance("Ed25519").generateKeyPair().public.encoded
        val pem = writePem(public)
        val wrong = listOf(
            "",
            "\n",
            pem.lines().first(),
            pem.replace("PUBLIC", "PRIVATE"),
            pem.replace("MCow", "MCox"),
            pem.replace("=", ""),
            pem.replace("=", "=="),
            pem.lines()[1],
            pem + pem,
            writePem(public + 0),
            writePem(public.dropLast(1).toByteArray()),
            writePem(KeyPairGenerator.getInstance("X25519").generateKeyPair().public.encoded),
            writePem(KeyPairGenerator.getInstance("EC").generateKeyPair().public.encoded),
        )
        for (text in wrong) {
            val error = assertThrows(UntrustedException::class.java, { readPublicKey(text, "ours.pem") }, text)
            assertEquals("ours.pem is not an Ed25519 public key in PEM form", error.message)
        }
    }

    private fun writePem(content: ByteArray) =
        "-----BEGIN PUBLIC KEY-----\n${Base64.getEncoder().encodeToString(content)}\n-----END PUBLIC KEY-----\n"

    @Test
    fun `a platform without Ed25519 accepts nothing`() {
        withProviders({ without -> without.forEach { Security.removeProvider(it.name) } }) {
            for (case in cases) {
                val error = assertThrows(EdgeOcrException::class.java, { check(case) }, case.getString("name"))
                // A signature of the wrong length or range is refused without a provider.
                if (case.isNull("error")) assertTrue(error is NoEd25519Exception, "$error")
            }
            val error = assertThrows(NoEd25519Exception::class.java) { check(trusted) }
            assertTrue("Ed25519" in error.message!!)
            assertTrue("Conscrypt" in error.hint!!)
        }
        assertEquals(Release("demo", 7), check(trusted))
    }

    @Test
    fun `a provider that refuses other keys is skipped`() {
        withFirst(RefusingKeys::class.java, Signatures::class.java) { assertEquals(Release("demo", 7), check(trusted)) }
    }

    @Test
    fun `a provider that accepts every signature is skipped`() {
        withFirst(Keys::class.java, BlindSignatures::class.java) {
            assertFalse(isSignedBy(key, byteArrayOf(), signature))
            assertEquals(Release("demo", 7), check(trusted))
        }
    }

    @Test
    fun `a malleable signature is refused even if the platform accepts it`() {
        withFirst(Keys::class.java, Signatures::class.java) {
            val malleable = readHex(cases.first { it.getString("name") == "malleable" }.getString("signature"))
            val public = KeyFactory.getInstance("Ed25519").generatePublic(X509EncodedKeySpec(spki + key))
            for (made in listOf(signature, malleable)) {
                val isTaken = Signature.getInstance("Ed25519").run {
                    initVerify(public)
                    update(manifest)
                    verify(made)
                }
                assertTrue(isTaken)
            }
            assertTrue(isSignedBy(key, manifest, signature))
            assertFalse(isSignedBy(key, manifest, malleable))
        }
    }

    private fun withFirst(keys: Class<*>, signatures: Class<*>, test: () -> Unit) {
        val first = object : Provider("First", "1", "") {
            init {
                put("KeyFactory.Ed25519", keys.name)
                put("Signature.Ed25519", signatures.name)
            }
        }
        withProviders({ Security.insertProviderAt(first, 1) }) {
            assertEquals("First", KeyFactory.getInstance("Ed25519").provider.name)
            test()
        }
    }

    private fun withProviders(change: (knowing: List<Provider>) -> Unit, test: () -> Unit) {
        val before = Security.getProviders()
        try {
            change(Security.getProviders("KeyFactory.Ed25519").toList())
            test()
        } finally {
            Security.getProviders().forEach { Security.removeProvider(it.name) }
            before.forEach(Security::addProvider)
        }
    }

    /** Java's signatures. */
    open class Keys : KeyFactorySpi() {
        override fun engineGeneratePublic(spec: KeySpec): PublicKey =
            KeyFactory.getInstance("Ed25519", "SunEC").generatePublic(spec)

        override fun engineGeneratePrivate(spec: KeySpec) = throw UnsupportedOperationException()

        override fun <T : KeySpec> engineGetKeySpec(key: Key, spec: Class<T>) = throw UnsupportedOperationException()

        override fun engineTranslateKey(key: Key) = throw UnsupportedOperationException()
    }

    /** Like AndroidKeyStore, which has Ed25519 by name only. */
    class RefusingKeys : Keys() {
        override fun engineGeneratePublic(spec: KeySpec) = throw UnsupportedOperationException()
    }

    /** Java's signatures, but S may be larger than the order of the group. */
    open class Signatures : SignatureSpi() {
        private val java = Signature.getInstance("Ed25519", "SunEC")

        override fun engineInitVerify(key: PublicKey) = java.initVerify(key)

        override fun engineUpdate(byte: Byte) = java.update(byte)

        override fun engineUpdate(bytes: ByteArray, start: Int, length: Int) = java.update(bytes, start, length)

        override fun engineVerify(signature: ByteArray): Boolean {
            val order = BigInteger.TWO.pow(252) + BigInteger("27742317777372353535851937790883648493")
            val s = BigInteger(1, signature.drop(32).reversed().toByteArray()).mod(order)
            val bytes = s.toByteArray().reversedArray()
            return java.verify(signature.copyOf(32) + ByteArray(32) { bytes.getOrElse(it) { 0 } })
        }

        override fun engineInitSign(key: PrivateKey) = throw UnsupportedOperationException()

        override fun engineSign() = throw UnsupportedOperationException()

        @Deprecated("of SignatureSpi")
        override fun engineSetParameter(name: String, value: Any) = throw UnsupportedOperationException()

        @Deprecated("of SignatureSpi")
        override fun engineGetParameter(name: String) = throw UnsupportedOperationException()
    }

    class BlindSignatures : Signatures() {
        override fun engineVerify(signature: ByteArray) = true
    }
}
