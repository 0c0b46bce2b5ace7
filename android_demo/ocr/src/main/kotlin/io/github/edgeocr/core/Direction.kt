package io.github.edgeocr.core

// As in edge_ocr/core/direction.py, which explains the ranges and the pieces.
private const val RTL = """\u0590-\u065f\u066d-\u06ef\u06fa-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"""
private const val DIGIT = """0-9\u0660-\u0669\u06f0-\u06f9"""
private const val LTR = """A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02b8\u0370-\u052f"""

private val PIECES = Regex(
    """(?:[$DIGIT][^$RTL$LTR]*)?[$LTR](?:[^$RTL]*[$LTR$DIGIT])?[+#%]*""" +
        """|(?:(?<![^ ])[-+#${'$'}£€])?[$DIGIT]+(?:[-+.,:/ \u066b\u066c][$DIGIT]+)*[%\u066a\u00b0]?""" +
        """|.""",
    RegexOption.DOT_MATCHES_ALL,
)
private val HAS_RTL = Regex("[$RTL]")
private val MIRRORED = "()[]{}<>«»‹›".zip(")(][}{><»«›‹") { from, to -> "$from" to "$to" }.toMap()

/**
 * Returns a line in the order in which it is read; [text] has the order of the picture, left to right.
 *
 * Numbers and words of left-to-right letters keep their order; brackets around right-to-left text are mirrored.
 */
internal fun orderLogically(text: String): String = splitLogically(text).joinToString("") { it.value }

/** The pieces of a line in the order of [orderLogically], each with its index in [text]. */
internal fun splitLogically(text: String): List<IndexedValue<String>> {
    if (!HAS_RTL.containsMatchIn(text)) return listOf(IndexedValue(0, text))
    val pieces = PIECES.findAll(text).map { IndexedValue(it.range.first, MIRRORED[it.value] ?: it.value) }
    return pieces.toList().asReversed()
}
