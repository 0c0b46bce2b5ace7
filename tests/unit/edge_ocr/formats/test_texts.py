"""hOCR, ALTO, TSV and Markdown as their readers read them; each check also meets a document that breaks it."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from support.readings import make_box, make_line, make_result

from edge_ocr.formats import format_alto, format_hocr, format_markdown, format_tsv
from edge_ocr.formats.alto import NAMESPACE

FORMATS = (format_hocr, format_alto, format_tsv, format_markdown)
XHTML = "{http://www.w3.org/1999/xhtml}"
ALTO = f"{{{NAMESPACE}}}"


def make_page(**options):
    lines = [
        make_line(["Hello", "world"], 100, 100),
        make_line(["山", "茶", "店"], 100, 200, gap=0),
        make_line(["slanted", "line"], 100, 300, angle=10),
        make_line(["竖", "排"], 900, 100, angle=90, turns=1, gap=0),
        make_line(["turned"], 700, 900, angle=180, turns=2),
        make_box("no words", 100, 1100, 200),
    ]
    return make_result(lines, **options)


# --- all formats


@pytest.mark.parametrize("write", FORMATS)
def test_every_text_is_there(write: Callable[..., str]):
    for return_words in ("words", "chars", "none"):
        text = re.sub("<[^>]*>|\\s", "", write(make_page(return_words=return_words)).replace('CONTENT="', '">'))
        for part in ("Hello", "world", "slanted", "竖", "turned"):
            assert part in text


@pytest.mark.parametrize("write", FORMATS)
def test_no_results_and_no_lines(write):
    assert write(make_result([])).count("page") == write([make_result([])]).count("page")
    for document in (write([]), write(make_result([]))):
        if write in (format_hocr, format_alto):
            ElementTree.fromstring(document)


@pytest.mark.parametrize("write", [format_hocr, format_alto])
def test_xml_holds_any_text(write):
    line = make_box('a<b & "c"\x00\x0b\ud800\ufffe', 0, 0, 100)
    document = write(make_result([line], path='odd\udcff <name>;".png'))
    document.encode("utf-8")
    root = ElementTree.fromstring(document)
    texts = [*root.itertext(), *(value for element in root.iter() for value in element.attrib.values())]
    assert 'a<b & "c"\ufffd\ufffd\ufffd\ufffd' in texts


# --- hOCR


def read_properties(element: ElementTree.Element) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in element.get("title").split(";"))}


def check_hocr(document: str) -> dict[str, list[ElementTree.Element]]:
    """Check the rules of hOCR 1.2 that its readers rely on; return the elements by class."""
    root = ElementTree.fromstring(document)
    metas = {meta.get("name"): meta.get("content") for meta in root.iter(f"{XHTML}meta")}
    found: dict[str, list[ElementTree.Element]] = {}
    parents = {child: parent for parent in root.iter() for child in parent}
    order = ["ocr_page", "ocr_carea", "ocr_par", "ocr_line", "ocrx_word", "ocrx_cinfo"]
    for element in root.iter():
        if kind := element.get("class"):
            found.setdefault(kind, []).append(element)
            assert kind in metas["ocr-capabilities"].split()
            assert kind == "ocr_page" or parents[element].get("class") == order[order.index(kind) - 1]
            values = read_properties(element)
            left, top, right, bottom = map(int, values["x_bboxes" if kind == "ocrx_cinfo" else "bbox"])
            assert 0 <= left <= right
            assert 0 <= top <= bottom
    names = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(names) == len(set(names))
    assert metas["ocr-system"].startswith("edge-ocr ")
    for word in found.get("ocrx_word", []):
        assert 0 <= int(read_properties(word)["x_wconf"][0]) <= 100
    return found


def test_hocr():
    found = check_hocr(format_hocr([make_page(), make_page(path="b.png")]))
    assert [page.get("title") for page in found["ocr_page"]] == [
        'image "page.png"; bbox 0 0 1000 1400; ppageno 0',
        'image "b.png"; bbox 0 0 1000 1400; ppageno 1',
    ]
    lines = ["".join(line.itertext()) for line in found["ocr_line"]]
    assert lines[:3] == ["Hello world", "山茶店", "slanted line"]
    first, _, slanted = map(read_properties, found["ocr_line"][:3])
    assert first["baseline"] == ["0", "-6"]
    assert float(slanted["baseline"][0]) == pytest.approx(0.1763, abs=1e-3)
    assert len(slanted["poly"]) == 8
    angles = {"".join(line.itertext()): read_properties(line).get("textangle") for line in found["ocr_line"]}
    assert (angles["竖排"], angles["turned"], angles["slanted line"]) == (["270"], ["180"], None)
    assert read_properties(found["ocrx_word"][0])["x_wconf"] == ["90"]
    assert "ocrx_cinfo" not in found


def test_hocr_with_characters():
    found = check_hocr(format_hocr(make_page(return_words="chars")))
    assert [info.text for info in found["ocrx_cinfo"][:5]] == list("Hello")
    assert read_properties(found["ocrx_cinfo"][0])["x_conf"] == ["90.00"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" ocrx_word", ""),
        ('class="ocr_par"', 'class="ocr_line"'),
        ('id="line_1_2"', 'id="line_1_1"'),
        ("bbox 100 100", "bbox 900 100"),
        ("x_wconf 90", "x_wconf 900"),
        ("ocr-system", "ocr_system"),
    ],
)
def test_hocr_check_finds(old, new):
    document = format_hocr(make_page())
    assert old in document
    with pytest.raises((AssertionError, KeyError)):
        check_hocr(document.replace(old, new, 1))


def test_hocr_tools_accept_it(tmp_path, capsys):
    checker = pytest.importorskip("hocr_tools_lib.tools.hocr_check", reason="hocr-tools-lib is not installed")
    lines = [make_line(["Hello", "world"], 100, 100), make_line(["slanted"], 100, 300, angle=10)]
    document = format_hocr(make_result(lines, return_words="chars"))
    (tmp_path / "good.hocr").write_text(document, encoding="utf-8")
    checker.Checker(tmp_path / "good.hocr").check()
    said = capsys.readouterr().err
    assert said.count("ok ") > 6
    assert "not ok" not in said
    (tmp_path / "bad.hocr").write_text(document.replace("ocr_page", "page"), encoding="utf-8")
    checker.Checker(tmp_path / "bad.hocr").check()
    assert "not ok" in capsys.readouterr().err


# --- ALTO


def check_alto(document: str) -> ElementTree.Element:
    """Check what ALTO 4.4 says of the elements that are written."""
    root = ElementTree.fromstring(document)
    assert [child.tag for child in root] == [f"{ALTO}Description", f"{ALTO}Layout"]
    assert [child.tag[len(ALTO) :] for child in root[0]] == ["MeasurementUnit", "sourceImageInformation", "Processing"]
    assert root.findtext(f".//{ALTO}processingCategory") == "contentGeneration"
    names = [element.get("ID") for element in root.iter() if "ID" in element.attrib]
    assert len(names) == len(set(names))
    children = {
        "Layout": ["Page"],
        "Page": ["PrintSpace"],
        "PrintSpace": ["TextBlock"],
        "TextBlock": ["TextLine"],
        "TextLine": ["Shape", "String", "SP"],
        "String": ["Shape", "Glyph"],
        "Glyph": ["Shape"],
        "Shape": ["Polygon"],
    }
    for element in root[1].iter():
        kind = element.tag[len(ALTO) :]
        tags = [child.tag[len(ALTO) :] for child in element]
        assert set(tags) <= set(children.get(kind, ()))
        assert "Shape" not in tags[1:]
        if kind in ("TextBlock", "TextLine", "String", "Glyph"):
            assert min(float(element.get(name)) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT")) >= 0
        if kind in ("String", "Glyph"):
            assert 0 <= float(element.get("WC" if kind == "String" else "GC")) <= 1
            assert element.get("CONTENT")
        if kind == "Glyph":
            assert len(element.get("CONTENT")) == 1
    assert root.findall(f".//{ALTO}Page")
    return root


def test_alto():
    root = check_alto(format_alto(make_page(page_angle=90)))
    assert root.findtext(f".//{ALTO}fileName") == "page.png"
    page = root.find(f".//{ALTO}Page")
    assert (page.get("WIDTH"), page.get("HEIGHT"), page.get("ROTATION")) == ("1000", "1400", "270")
    strings = {string.get("CONTENT"): string for string in root.iter(f"{ALTO}String")}
    hello = strings["Hello"]
    assert [hello.get(name) for name in ("HPOS", "VPOS", "HEIGHT", "WC")] == ["100", "100", "30", "0.9000"]
    assert hello.find(f"{ALTO}Shape") is None
    assert len(strings["slanted"].find(f"{ALTO}Shape/{ALTO}Polygon").get("POINTS").split()) == 4
    assert len(root.findall(f".//{ALTO}SP")) == 2
    lines = {line[0].get("CONTENT"): line for line in root.iter(f"{ALTO}TextLine") if line[0].get("CONTENT")}
    assert lines["Hello"].get("BASELINE") == "100,124 274,124"


def test_alto_of_several_inputs_names_all():
    root = check_alto(format_alto([make_page(), make_page(path="b.png"), make_page(path="b.png", page_index=1)]))
    assert [element.text for element in root.iter(f"{ALTO}fileIdentifier")] == ["page.png", "b.png"]
    assert [page.get("PHYSICAL_IMG_NR") for page in root.iter(f"{ALTO}Page")] == ["1", "2", "3"]


def test_alto_with_glyphs():
    line = make_line(["Hello"], 0, 0)
    pair = replace(line.words[0].characters[0], text="Ch")
    odd = replace(line.words[0], text="Ch", characters=(pair,))
    root = check_alto(format_alto(make_result([replace(line, words=(*line.words, odd))], return_words="chars")))
    assert [glyph.get("CONTENT") for glyph in root.iter(f"{ALTO}Glyph")] == list("Hello")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('WC="0.9000"', 'WC="90"'),
        ("<SP />", "<HYPHEN />"),
        ('ID="word_1_2"', 'ID="word_1_1"'),
        ('HPOS="100"', 'HPOS="-1"'),
        ("contentGeneration", "OCR"),
        ('CONTENT="Hello"', 'CONTENT=""'),
    ],
)
def test_alto_check_finds(old, new):
    document = format_alto(make_page())
    assert old in document
    with pytest.raises(AssertionError):
        check_alto(document.replace(old, new, 1))


def test_alto_fits_its_schema():
    path = os.environ.get("EDGE_OCR_ALTO_XSD")
    if path is None:
        pytest.skip("the schema of ALTO is not on this machine (EDGE_OCR_ALTO_XSD=alto-4-4.xsd)")
    etree = pytest.importorskip("lxml.etree", reason="lxml is not installed")
    # The schema refers to one of XLink on the web, whose attributes are not written.
    text = re.sub(r"<xsd:import [^>]*/>|<xsd:attributeGroup ref=.xlink:simpleLink.\s*/>", "", Path(path).read_text())
    text = re.sub(r"<xsd:attributeGroup ref=.xlink:simpleLink.>.*?</xsd:attributeGroup>", "", text, flags=re.DOTALL)
    schema = etree.XMLSchema(etree.fromstring(text.encode()))
    for results in ([make_page(return_words="chars", page_angle=90), make_page(path="b.png")], make_page(), []):
        schema.assertValid(etree.fromstring(format_alto(results).encode()))
    broken = format_alto(make_page()).replace('WC="0.9000"', 'WC="90"', 1)
    assert not schema.validate(etree.fromstring(broken.encode()))


# --- TSV


def read_tsv(document: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(document), delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in rows:
        assert None not in row
        assert None not in row.values()
        assert (float(row["conf"]) == -1) == (row["level"] != "5")
    return rows


def test_tsv_has_the_columns_of_tesseract():
    document = format_tsv([make_page(), make_page(path="b.png")])
    header = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"
    assert document.startswith(header)
    rows = read_tsv(document)
    assert list(rows[0].values()) == ["1", "1", "0", "0", "0", "0", "0", "0", "1000", "1400", "-1", ""]
    assert [row["level"] for row in rows[:6]] == ["1", "2", "3", "4", "5", "5"]
    assert list(rows[4].values()) == [*"511111", "100", "100", "83", "30", "90.000000", "Hello"]
    assert {row["page_num"] for row in rows} == {"1", "2"}


def test_tsv_texts_keep_the_columns():
    rows = read_tsv(format_tsv(make_result([make_box('a\tb\n"c', 0, 0, 100)])))
    assert rows[-1]["text"] == 'a b "c'
    with pytest.raises(AssertionError):
        read_tsv(format_tsv(make_page()).replace("Hello", "Hel\tlo", 1))


# --- Markdown


def render(document: str) -> tuple[str, list[str]]:
    """Return the text as a page shows it, and the names of its elements."""
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(document)
    root = ElementTree.fromstring(f"<div>{html}</div>")
    return "".join(root.itertext()).strip(), [element.tag for element in root.iter()][1:]


@pytest.mark.parametrize(
    "text",
    [
        *("# no heading", "- item", "+ item", "* item", "1. item", "2) item", "> quote", "---", "===", "___", "***"),
        *("a_b_c *d* **e**", "`code`", "[link](x)", "![image](x)", "<b>html</b>", "&amp; & &#38;", "a\\b", "~~x~~"),
        *("| a | b |", "-5.00", "3.14", "#tag", "<https://a.b>", "\\", "####### x", "=", "-"),
    ],
)
def test_markdown_shows_texts_as_they_are(text):
    document = format_markdown(make_result([make_box(text, 0, 0, 500)]))
    assert render(document) == (text, ["p"])
    below = format_markdown(make_result([make_box("above", 0, 0, 900), make_box(text, 0, 40, 100)]))
    shown, elements = render(below)
    assert shown.replace("\n", " ") == f"above {text}"
    assert set(elements) <= {"p", "br"}


def test_markdown_check_finds_markup():
    assert render("# heading\n") != ("# heading", ["p"])


def write_rows(*texts: str) -> str:
    return format_markdown(make_result([make_box(text, 0, 40 * i, 600) for i, text in enumerate(texts)]))


def test_markdown_joins_running_text():
    assert write_rows("Latin words are joined", "with a space") == "Latin words are joined with a space\n"
    assert write_rows("中文没有空格，", "所以不加") == "中文没有空格，所以不加\n"
    assert write_rows("한국어는", "띄어쓴다") == "한국어는 띄어쓴다\n"
    assert write_rows("a hyphen-", "ated word") == "a hyphenated word\n"
    assert write_rows("from 1990-", "2000 or Jean-", "Paul") == "from 1990- 2000 or Jean- Paul\n"


def test_markdown_keeps_the_breaks_of_rows():
    lines = [make_box(text, left, top, 90) for top in (0, 40) for text, left in ((f"item{top}", 0), ("5.00", 700))]
    document = format_markdown(make_result(lines))
    assert document == "item0 5.00\\\nitem40 5.00\n"
    assert render(document)[1] == ["p", "br"]


def test_markdown_pages_have_a_rule_between():
    pages = [make_result([make_box(text, 0, 0, 100)]) for text in ("one", "two")]
    document = format_markdown(pages)
    assert document == "one\n\n---\n\ntwo\n"
    assert render(document)[1] == ["p", "hr", "p"]
    assert format_markdown([make_result([]), *pages[:1]]) == "\n---\n\none\n"
