package io.github.edgeocr.core

/**
 * Parses strict JSON (RFC 8259), the same on every platform: Android's own parser also accepts bare words, octal
 * numbers and more.
 *
 * Objects become maps (the last of equal keys counts), arrays become lists. A number without fraction and exponent that
 * fits is a [Long], any other a [Double].
 *
 * Throws [IllegalArgumentException] if the text is not JSON or is nested more than 100 deep.
 */
internal fun readStrictJson(text: String): Any? = StrictJson(text).read()

private class StrictJson(private val text: String) {
    private var at = 0

    fun read(): Any? = readValue(0).also { require(peek() == null) }

    private fun readValue(depth: Int): Any? {
        require(depth <= MAX_DEPTH)
        return when (peek()) {
            '{' -> readObject(depth)
            '[' -> readList(depth)
            '"' -> readText()
            't' -> readWord("true", true)
            'f' -> readWord("false", false)
            'n' -> readWord("null", null)
            else -> readNumber()
        }
    }

    private fun readObject(depth: Int): Map<String, Any?> {
        val found = HashMap<String, Any?>()
        readItems('}') {
            require(peek() == '"')
            val key = readText()
            take(':')
            found[key] = readValue(depth + 1)
        }
        return found
    }

    private fun readList(depth: Int): List<Any?> {
        val found = ArrayList<Any?>()
        readItems(']') { found += readValue(depth + 1) }
        return found
    }

    private fun readItems(end: Char, readItem: () -> Unit) {
        at++
        if (peek() != end) {
            readItem()
            while (peek() == ',') {
                at++
                readItem()
            }
        }
        take(end)
    }

    private fun readText(): String {
        val found = StringBuilder()
        at++
        while (true) {
            val char = next()
            when {
                char == '"' -> return found.toString()
                char == '\\' -> found.append(readEscape())
                else -> found.append(char.also { require(it >= ' ') })
            }
        }
    }

    private fun readEscape(): Char {
        val char = next()
        if (char != 'u') return requireNotNull(ESCAPES[char])
        val digits = String(CharArray(HEX_DIGITS) { next() })
        require(digits.all { it in '0'..'9' || it in 'a'..'f' || it in 'A'..'F' })
        return digits.toInt(radix = 16).toChar()
    }

    private fun readNumber(): Any {
        val found = requireNotNull(NUMBER.find(text, at)?.takeIf { it.range.first == at }).value
        at += found.length
        return found.toLongOrNull() ?: found.toDouble()
    }

    private fun <T> readWord(word: String, value: T): T {
        require(text.startsWith(word, at))
        at += word.length
        return value
    }

    private fun take(char: Char) {
        require(peek() == char)
        at++
    }

    /** The next character that is not whitespace; null at the end. */
    private fun peek(): Char? {
        while (at < text.length && text[at] in SPACE) at++
        return text.getOrNull(at)
    }

    private fun next(): Char = requireNotNull(text.getOrNull(at)).also { at++ }

    private companion object {
        const val MAX_DEPTH = 100
        const val HEX_DIGITS = 4
        const val SPACE = " \t\r\n"
        val NUMBER = Regex("-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?")
        val ESCAPES = mapOf(
            '"' to '"', '\\' to '\\', '/' to '/', 'b' to '\b', 'f' to '\u000c', 'n' to '\n', 'r' to '\r', 't' to '\t',
        )
    }
}
