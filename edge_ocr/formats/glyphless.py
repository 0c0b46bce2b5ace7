"""A font whose glyphs have a size but no area, for text over a picture that is found and copied but not seen."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

UNITS_PER_EM = 1000
GLYPH_WIDTH = 500
ASCENT, DESCENT = 800, -200

# CIDs are two bytes; 0 is the missing glyph.
_MAX_CID = 0xFFFF


class GlyphlessFont:
    """Numbers the characters of a document, and makes the PDF font that maps the numbers back to characters.

    The font is a composite one (PDF 32000, 9.7) with two glyphs: the missing one, and one for all characters.
    """

    def __init__(self) -> None:
        self._cids: dict[str, int] = {}

    def encode(self, parts: Iterable[str]) -> str:
        """Return a text as a hexadecimal string of a content stream, with one glyph for each part of the text.

        Raises OverflowError beyond 65,535 different parts in one document.
        """
        return "<" + "".join(f"{self._number(part):04X}" for part in parts) + ">"

    def _number(self, part: str) -> int:
        cid = self._cids.setdefault(part, len(self._cids) + 1)
        if cid > _MAX_CID:
            raise OverflowError("more than 65,535 different characters and slanted words")
        return cid

    def fill(self, font: Any, pdf: Any) -> None:
        """Write the font into a dictionary of a pikepdf document, once all texts are encoded."""
        from pikepdf import Dictionary, Name, String

        name = Name("/EdgeOcrGlyphless")
        descriptor = Dictionary(
            Type=Name.FontDescriptor,
            FontName=name,
            # Symbolic, fixed pitch.
            Flags=5,
            FontBBox=[0, DESCENT, GLYPH_WIDTH, ASCENT],
            ItalicAngle=0,
            Ascent=ASCENT,
            Descent=DESCENT,
            CapHeight=ASCENT,
            StemV=80,
            FontFile2=pdf.make_indirect(pdf.make_stream(_build_truetype())),
        )
        descendant = Dictionary(
            Type=Name.Font,
            Subtype=Name.CIDFontType2,
            BaseFont=name,
            CIDSystemInfo=Dictionary(Registry=String("Adobe"), Ordering=String("Identity"), Supplement=0),
            FontDescriptor=pdf.make_indirect(descriptor),
            DW=GLYPH_WIDTH,
            CIDToGIDMap=pdf.make_indirect(pdf.make_stream(b"\0\0" + b"\0\1" * len(self._cids))),
        )
        font.update(
            {
                "/Type": Name.Font,
                "/Subtype": Name.Type0,
                "/BaseFont": name,
                "/Encoding": Name("/Identity-H"),
                "/DescendantFonts": [pdf.make_indirect(descendant)],
                "/ToUnicode": pdf.make_indirect(pdf.make_stream(self._map_to_unicode())),
            }
        )

    def _map_to_unicode(self) -> bytes:
        """Return the CMap from CIDs to UTF-16 (PDF 32000, 9.10.3)."""
        rows = [
            f"<{cid:04X}> <{text.encode('utf-16-be', 'replace').hex().upper()}>" for text, cid in self._cids.items()
        ]
        # At most 100 rows a block.
        blocks = [rows[i : i + 100] for i in range(0, len(rows), 100)]
        return "\n".join(
            [
                "/CIDInit /ProcSet findresource begin",
                "12 dict begin",
                "begincmap",
                "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
                "/CMapName /Adobe-Identity-UCS def",
                "/CMapType 2 def",
                "1 begincodespacerange",
                "<0000> <FFFF>",
                "endcodespacerange",
                *(line for block in blocks for line in (f"{len(block)} beginbfchar", *block, "endbfchar")),
                "endcmap",
                "CMapName currentdict /CMap defineresource pop",
                "end",
                "end",
            ]
        ).encode()


def _build_truetype() -> bytes:
    """Return a TrueType font with the tables that a PDF requires (PDF 32000, 9.9).

    The second of its two glyphs is a line from corner to corner and back. PDFium, which Chrome uses, takes the size of
    a character from its outline, and drops words of one character without a size.
    """
    box = (0, DESCENT, GLYPH_WIDTH, ASCENT)
    # Contours, box, last point, no instructions, two points on the outline, and their places, each from the one before.
    glyph = struct.pack(">5h2H2B4h", 1, *box, 1, 0, 1, 1, 0, GLYPH_WIDTH, DESCENT, ASCENT - DESCENT)
    tables = {
        # Revision, flags, dates, bounding box, styles, short offsets in loca.
        "head": struct.pack(
            ">IIIIHHqqhhhhHHhhh",
            *(0x00010000, 0x00010000, 0, 0x5F0F3CF5, 0, UNITS_PER_EM, 0, 0),
            *(*box, 0, 8, 2, 0, 0),
        ),
        # One width, which counts for both glyphs.
        "hhea": struct.pack(">IhhhHhhhhhhhhhhhH", 0x00010000, ASCENT, DESCENT, 0, GLYPH_WIDTH, 0, 0, 0, 1, *[0] * 7, 1),
        "maxp": struct.pack(">IH13H", 0x00010000, 2, 2, 1, 0, 0, 1, *[0] * 8),
        "hmtx": struct.pack(">Hhh", GLYPH_WIDTH, 0, 0),
        "loca": struct.pack(">3H", 0, 0, len(glyph) // 2),
        "glyf": glyph,
    }
    count = len(tables)
    power = 1 << (count.bit_length() - 1)
    head = struct.pack(">IHHHH", 0x00010000, count, power * 16, power.bit_length() - 1, (count - power) * 16)
    offset = len(head) + 16 * count
    directory, body = b"", b""
    for tag, content in sorted(tables.items()):
        padded = content + b"\0" * (-len(content) % 4)
        total = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        directory += struct.pack(">4sIII", tag.encode(), total, offset + len(body), len(content))
        body += padded
    return head + directory + body
