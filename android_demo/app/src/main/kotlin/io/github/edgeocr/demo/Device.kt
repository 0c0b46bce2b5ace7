package io.github.edgeocr.demo

import android.content.Context
import android.os.Build
import android.os.PowerManager
import android.os.Process
import android.system.Os
import android.system.OsConstants
import org.json.JSONObject
import java.io.IOException
import java.math.RoundingMode
import java.security.MessageDigest

/** The device that a result belongs to; the maker's texts are shortened. */
internal fun describeDevice(): JSONObject = JSONObject()
    .put("manufacturer", Build.MANUFACTURER.take(NAME_LENGTH))
    .put("model", Build.MODEL.take(NAME_LENGTH))
    .put("sdk", Build.VERSION.SDK_INT)
    .put("abi", findAbi())
    .put("page_size_bytes", Os.sysconf(OsConstants._SC_PAGESIZE))

/** The ABI of this process, which may be 32-bit on a 64-bit device. */
private fun findAbi(): String? =
    (if (Process.is64Bit()) Build.SUPPORTED_64_BIT_ABIS else Build.SUPPORTED_32_BIT_ABIS).firstOrNull()

/** The sha256 of the manifest of the models that are used, in hexadecimal digits; null if there is none. */
internal fun hashManifest(context: Context): String? =
    try {
        val content = context.models.openManifest().use { it.readBytes() }
        MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }
    } catch (_: IOException) {
        null
    }

/** The thermal status of the system, such as `none` or `severe`; null if unknown. */
internal fun readThermalStatus(context: Context): String? {
    if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return null
    return when (context.getSystemService(PowerManager::class.java).currentThermalStatus) {
        PowerManager.THERMAL_STATUS_NONE -> "none"
        PowerManager.THERMAL_STATUS_LIGHT -> "light"
        PowerManager.THERMAL_STATUS_MODERATE -> "moderate"
        PowerManager.THERMAL_STATUS_SEVERE -> "severe"
        PowerManager.THERMAL_STATUS_CRITICAL -> "critical"
        PowerManager.THERMAL_STATUS_EMERGENCY -> "emergency"
        PowerManager.THERMAL_STATUS_SHUTDOWN -> "shutdown"
        else -> null
    }
}

/** The value, or JSON's null, because [JSONObject] would drop the key of a null. */
internal fun Any?.orJsonNull(): Any = this ?: JSONObject.NULL

/** Rounded to [digits] decimals; null if JSON has no such number. */
internal fun Double.round(digits: Int): Double? =
    takeIf { it.isFinite() }?.let { it.toBigDecimal().setScale(digits, RoundingMode.HALF_EVEN).toDouble() }

private const val NAME_LENGTH = 64
