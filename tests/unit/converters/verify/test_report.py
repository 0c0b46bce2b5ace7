"""The report page, parsed as a browser would."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import get_args

import cv2
import numpy as np
import pytest

from converters.report import Check, ImageParity, Layer, LinePair, ParityReport, Trace, TracedTensor, Truth
from converters.verify.parity import TOLERANCES, check_figures, collect_figures, compare_arrays
from converters.verify.report.parity import MAX_PICTURES, write_report
from edge_ocr.core.types import TextLine

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;"
ORANGE = (213, 70, 0)
BLUE = (0, 114, 178)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: Element | None
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def find(self, tag: str, **wanted: str) -> list[Element]:
        found = []
        for child in self.children:
            if isinstance(child, str):
                continue
            attributes = child.attributes
            if child.tag == tag and all(value in attributes.get(name, "").split() for name, value in wanted.items()):
                found.append(child)
            found += child.find(tag, **wanted)
        return found

    def walk(self):
        yield self
        for child in self.children:
            if not isinstance(child, str):
                yield from child.walk()


class Page(HTMLParser):
    """A tree of elements; unbalanced tags are an error."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.root = self.place = Element("", {}, None)
        self.feed(source)
        self.close()
        assert self.place is self.root, f"<{self.place.tag}> is not closed"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        element = Element(tag, {name: value or "" for name, value in attrs}, self.place)
        self.place.children.append(element)
        if tag not in VOID:
            self.place = element

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert tag == self.place.tag, f"</{tag}> closes <{self.place.tag}>"
        self.place = self.place.parent

    def handle_data(self, data):
        self.place.children.append(data)


def read_page(report) -> Element:
    return Page(write_report(report)).root


def make_line(text, y=20, rec_score=0.99):
    polygon = np.array([[40, y], [180, y], [180, y + 20], [40, y + 20]], np.float32)
    return TextLine(polygon, 0.9, text, rec_score)


def make_pair(before, after, y=20):
    """A pair of lines; None is a missing line."""
    sides = [None if text is None else make_line(text, y) for text in (before, after)]
    return LinePair(*sides, 0.0 if None in sides else 1.0)


def make_image(*texts, name="receipt.jpg", truth=None, height=None, diff=1e-6):
    """A picture with a line for each (reference, exported) of `texts`, one below the other."""
    pairs = tuple(make_pair(*both, y=20 + 40 * i) for i, both in enumerate(texts))
    zeros = np.zeros((1, 4), np.float32)
    tensors = {"det": compare_arrays(zeros, zeros + np.float32(diff)), "rec": compare_arrays(zeros, zeros)}
    picture = np.full((height or 40 + 40 * len(texts), 220, 3), 255, np.uint8)
    return ImageParity(name, picture, tensors, pairs, pairs, truth)


def make_report(*images, checks=None, **fields):
    figures = collect_figures(images)
    if checks is None:
        checks = [Check("files", "manifest", True, "schema_version 1, valid"), *check_figures(figures, "fp32")]
    known = {
        "bundle": "my-bundle",
        "target": "armv8",
        "precision": "fp32",
        "lite_version": "v2.13-rc",
        "edge_ocr_version": "0.0.9",
        "runner": "graph on openvino",
        "reference": "det PP-OCRv4_mobile_det on openvino",
    }
    return ParityReport(**{**known, "checks": tuple(checks), "images": images, "figures": figures, **fields})


def make_trace(parted=None, count=12, threshold=2e-4):
    """A trace whose ops count from 1; `parted` is the first op that differs."""
    tensors = []
    for index in range(1, count + 1):
        agrees = parted is None or index < parted
        diff = (0.0 if index % 3 else 1e-6) if agrees else 0.4
        tensors.append(
            TracedTensor(index, "conv2d", "x", (f"conv_{index}.w_0",), f"out_{index}", diff, diff, agrees, diff)
        )
    if parted is None:
        return Trace(tuple(tensors), None, None, threshold)
    return Trace(tuple(tensors), parted - 1, parted - 2, threshold)


def find_pictures(page):
    """The JPEGs of the page as RGB, with their elements."""
    found = []
    for element in page.find("img"):
        head, _, data = element.attributes["src"].partition(",")
        assert head == "data:image/jpeg;base64"
        content = base64.b64decode(data, validate=True)
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        found.append((element, picture[..., ::-1]))
    return found


def has_colour(part, colour):
    return bool((np.abs(part.astype(int) - colour).max(axis=-1) < 60).any())


def find_rows(page, column):
    """Rows of the tables that have a column of this name, as texts by column."""
    rows = []
    for row in page.find("tr"):
        cells = {cell.attributes.get("data-label", ""): cell for cell in row.find("th") + row.find("td")}
        if column in cells:
            rows.append(cells)
    return rows


# --- verdict


def test_passed():
    page = read_page(make_report(make_image(("eight", "eight"))))
    (header,) = page.find("header")
    assert header.attributes["class"] == "passed"
    assert "PASSED" in header.find("h1")[0].text
    assert "FAILED" not in page.text
    assert "1 of 1." in header.text
    for fact in ("my-bundle", "armv8", "fp32", "v2.13-rc", "graph on openvino", "det PP-OCRv4_mobile_det on openvino"):
        assert fact in [element.text for element in header.find("dd")]
    assert "What failed" not in page.text
    assert "0.0.9" in page.find("main")[0].text


def test_failed_says_first_what_failed():
    page = read_page(make_report(make_image(("eight", "e1ght"), ("two", "two"))))
    (header,) = page.find("header")
    assert "FAILED" in header.find("h1")[0].text
    assert "1 of 1 picture" in header.text
    assert "1 of 2." in header.text
    headings = [element.text for element in page.find("h2")]
    assert headings[:2] == ["What failed", "All checks"]
    (failure,) = page.find("div", **{"class": "failure"})
    assert "texts.equal_share" in failure.text
    assert "0.5, expected at least 1" in failure.text
    assert page.find("title")[0].text.startswith("FAILED: my-bundle")


@pytest.mark.parametrize("layer", get_args(Layer))
def test_every_layer_has_a_meaning(layer):
    check = Check(layer, "name", False, "found, and expected")
    (failure,) = read_page(make_report(make_image(("a", "a")), checks=[check])).find("div", **{"class": "failure"})
    assert layer in failure.find("h3")[0].text
    assert len(failure.find("p")[0].text) > 30


def test_nothing_run_has_not_passed():
    """As for a damaged file: no pictures and no figures."""
    check = Check("files", "models/rec.nb", False, "sha256 is not what the manifest says")
    page = read_page(make_report(checks=[check], figures={}))
    assert "FAILED" in page.find("h1")[0].text
    assert "any picture" in page.find("header")[0].text
    assert "sha256 is not what the manifest says" in page.find("div", **{"class": "failure"})[0].text
    assert not page.find("img")
    # Without a failed check, too.
    page = read_page(make_report(checks=[replace(check, passed=True)], figures={}))
    assert "FAILED" in page.find("h1")[0].text


def test_checks_show_tolerance_and_reason():
    page = read_page(make_report(make_image(("eight", "e1ght"))))
    rows = {cells["figure"].text: cells for cells in find_rows(page, "tolerance")}
    (tolerance,) = (one for one in TOLERANCES if one.figure == "texts.equal_share")
    cells = rows["texts.equal_share"]
    assert "failed" in cells["result"].text
    assert (cells["found"].text, cells["tolerance"].text) == ("0", "at least 1")
    assert cells["why"].text == tolerance.reason
    assert "passed" in rows["manifest"]["result"].text
    assert rows["manifest"]["found"].text == "schema_version 1, valid"


def test_difference_that_is_not_finite():
    image = make_image(("a", "a"))
    ones = np.ones((1, 4), np.float32)
    page = read_page(make_report(replace(image, tensors={"det": compare_arrays(ones, ones * np.nan)})))
    (cells,) = find_rows(page, "all finite")
    assert cells["max |Δ|"].text == "not finite"
    assert cells["all finite"].text == "no"


def test_accuracy():
    truth = (Truth(4, 4, 4, 4.0), Truth(4, 3, 2, 2.5))
    page = read_page(make_report(make_image(("a", "a"), truth=truth)))
    rows = [[cell.text for cell in cells.values()] for cells in find_rows(page, "difference")]
    assert rows[0][1:] == ["1.0000", "0.7500", "-0.2500"]
    assert rows[1][1:] == ["1.0000", "0.5000", "-0.5000"]
    assert "4 labelled lines: reference 4 found, 4 exact; exported 3 found, 2 exact." in page.text
    assert "Accuracy" not in "".join(element.text for element in read_page(make_report(make_image())).find("h2"))


# --- content from files


def test_hostile_texts_are_text():
    trace = make_trace(3)
    tensors = [replace(one, op_type=HOSTILE, reference=HOSTILE, params=(HOSTILE,)) for one in trace.tensors]
    report = make_report(
        make_image((HOSTILE, HOSTILE + "x"), (HOSTILE, None), name=HOSTILE),
        checks=[Check("files", HOSTILE, False, HOSTILE), Check("files", HOSTILE, True, HOSTILE)],
        bundle=HOSTILE,
        target=HOSTILE,
        precision=HOSTILE,
        lite_version=HOSTILE,
        edge_ocr_version=HOSTILE,
        runner=HOSTILE,
        reference=HOSTILE,
        notes=(HOSTILE,),
        traces={"det": replace(trace, tensors=tuple(tensors))},
    )
    page = read_page(report)
    elements = list(page.walk())
    assert not {"script", "link", "iframe", "object", "base"} & {element.tag for element in elements}
    assert all(not name.startswith("on") for element in elements for name in element.attributes)
    assert [element.attributes["src"][:5] for element in page.find("img")] == ["data:"] * 2
    assert all(HOSTILE in element.attributes["alt"] for element in page.find("img"))
    assert page.find("dd")[0].text == HOSTILE
    assert page.find("section")[0].find("h3")[0].text.startswith(HOSTILE)
    assert find_rows(page, "rec score")[0]["reference"].text == HOSTILE
    assert HOSTILE in find_rows(page, "parameters")[0]["parameters"].text


def test_unseen_characters_are_named():
    unseen = {"\x07": "U+0007", "\u202e": "U+202E", "\u3000": "U+3000", "\ud800": "U+D800", "\x00": "U+0000"}
    source = write_report(make_report(make_image(("".join(unseen), "x"), name="\u202egpj.x")))
    source.encode("utf-8")
    assert not set(unseen) & set(source)
    page = Page(source).root
    assert find_rows(page, "rec score")[0]["reference"].text == "".join(f"‹{code}›" for code in unseen.values())
    assert page.find("section")[0].find("h3")[0].text.startswith("‹U+202E›gpj.x")


def test_page_is_self_contained():
    image = make_image(("a", "b"), ("文", "文"), truth=(Truth(1, 1, 1, 1.0),) * 2)
    report = make_report(image, traces={"rec": make_trace(4)}, notes=("a note",))
    page = read_page(report)
    for element in page.walk():
        assert element.attributes.get("src", "data:").startswith("data:")
        assert element.attributes.get("href", "#").startswith("#")
    source = write_report(report)
    assert "://" not in source
    assert "url(" not in source
    assert "@import" not in source
    (policy,) = (one.attributes["content"] for one in page.find("meta") if "http-equiv" in one.attributes)
    assert policy.startswith("default-src 'none'")
    targets = {element.attributes["id"] for element in page.walk() if "id" in element.attributes}
    assert {link.attributes["href"][1:] for link in page.find("a")} == targets
    assert page.find("html")[0].attributes["lang"] == "en"
    assert all(cell.attributes["scope"] in ("row", "col") for cell in page.find("th"))
    assert all(element.attributes["alt"] for element in page.find("img"))
    assert write_report(report) == source


# --- lines


def find_marks(cell):
    return [mark.text for mark in cell.find("mark")]


@pytest.mark.parametrize(
    ("before", "after", "marks"),
    [
        ("TOTAL 80", "TOTAL 30", (["8"], ["3"])),
        ("TOTAL", "TOTA", (["L"], [""])),
        ("a b", "ab", ([" "], [""])),
        ("<i>", "<b>", (["i"], ["b"])),
        ("共计", "其计", (["共"], ["其"])),
        ("same", "same", ([], [])),
    ],
)
def test_differing_characters_are_marked(before, after, marks):
    (cells,) = find_rows(read_page(make_report(make_image((before, after)))), "rec score")
    assert (cells["reference"].text, cells["exported"].text) == (before, after)
    assert (find_marks(cells["reference"]), find_marks(cells["exported"])) == marks


def test_line_without_match():
    page = read_page(make_report(make_image(("gone", None), (None, "new"))))
    first, second = find_rows(page, "rec score")
    assert (first["reference"].text, first["exported"].text, first["IoU"].text) == ("gone", "no line found", "–")
    assert (second["reference"].text, second["exported"].text) == ("no line found", "new")
    assert first["rec score"].text == "0.990 → –"
    assert not first["reference"].find("mark")
    assert page.find("section")[0].find("h3")[0].text.endswith("≠ 2 of 2 differ")


def test_box_without_match_and_text():
    page = read_page(make_report(make_image((None, ""), ("a", "a"))))
    assert page.find("section")[0].find("h3")[0].text.endswith("≠ 1 of 2 differ")
    assert find_rows(page, "rec score")[0]["exported"].text == "no text, or its score is too low"


def test_text_below_the_score_is_not_shown():
    """The boxes have all lines; the texts only those that are shown."""
    reference, exported = make_line("total"), make_line("tqtal", rec_score=0.3)
    image = replace(
        make_image(("total", "tqtal")),
        box_pairs=(LinePair(reference, exported, 1.0),),
        text_pairs=(LinePair(reference, replace(exported, text=""), 1.0),),
    )
    (cells,) = find_rows(read_page(make_report(image)), "rec score")
    assert cells["reference"].text == "total"
    assert cells["exported"].text == "no text, or its score is too low"
    # Shown on neither side: nothing differs.
    (cells,) = find_rows(read_page(make_report(replace(image, text_pairs=()))), "rec score")
    assert cells["reference"].text == cells["exported"].text == "no text, or its score is too low"


def test_many_equal_lines_are_folded():
    few = read_page(make_report(make_image(("a", "a")))).find("details")
    many = read_page(make_report(make_image(*[("a", "a")] * 20))).find("details")
    mixed = read_page(make_report(make_image(("a", "b"), *[("a", "a")] * 20))).find("details")
    assert ["open" in one.attributes for one in few] == [True]
    assert ["open" in one.attributes for one in many] == [False]
    assert ["open" in one.attributes for one in mixed] == [True, False]
    assert [len(find_rows(one, "IoU")) for one in mixed] == [1, 20]
    # Numbers are those of the boxes in the picture, including folded lines.
    assert [cells["line"].text for cells in find_rows(mixed[1], "IoU")] == [str(i) for i in range(2, 22)]


def test_very_many_lines():
    (details,) = read_page(make_report(make_image(*[("a", "a")] * 310))).find("details")
    assert len(find_rows(details, "IoU")) == 300
    assert details.find("summary")[0].text == "Identical lines: 310 (the first 300 are shown)"


def test_picture_without_text():
    page = read_page(make_report(make_image()))
    assert "Neither side found text." in page.text
    assert len(page.find("img")) == 2


@pytest.mark.parametrize(("text", "language"), [("中文", "zh"), ("カタカナ文字", "ja"), ("plain", "")])
def test_language_of_a_text(text, language):
    (cells,) = find_rows(read_page(make_report(make_image((text, text)))), "rec score")
    assert [element.attributes["lang"] for element in cells["reference"].find("bdi")] == [language]


# --- pictures


def test_boxes_are_drawn():
    image = make_image(("same", "same"), ("gone", None), ("eight", "e1ght"))
    pictures = find_pictures(read_page(make_report(image)))
    assert [element.attributes["alt"] for element, _ in pictures] == [
        "receipt.jpg with the boxes of the reference models: 3 boxes",
        "receipt.jpg with the boxes of the exported models: 2 boxes",
    ]
    expected = [[(BLUE, ORANGE), (ORANGE, BLUE), (ORANGE, BLUE)], [(BLUE, ORANGE), None, (ORANGE, BLUE)]]
    for (element, picture), colours in zip(pictures, expected, strict=True):
        # A small picture is doubled.
        assert picture.shape[:2] == (320, 440)
        assert (element.attributes["width"], element.attributes["height"]) == ("440", "320")
        for i, colour in enumerate(colours):
            band = picture[30 + 80 * i : 95 + 80 * i]
            if colour is None:
                assert not has_colour(band, ORANGE)
                assert not has_colour(band, BLUE)
            else:
                assert has_colour(band, colour[0])
                assert not has_colour(band, colour[1])
    # The page must not draw into the original picture.
    assert (image.image == 255).all()


def test_differing_boxes_are_drawn_on_top():
    pairs = (make_pair("eight", "e1ght"), make_pair("same", "same"))
    image = replace(make_image(("a", "a")), box_pairs=pairs, text_pairs=pairs)
    for _, picture in find_pictures(read_page(make_report(image))):
        assert has_colour(picture, ORANGE)
        assert not has_colour(picture[:, 90:], BLUE)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2400, 1200), (900, 450)), ((3, 5000), (1, 900)), ((1, 1), (2, 2)), ((600, 800), (675, 900))],
)
def test_size_of_pictures(shape, expected):
    image = replace(make_image(("a", "b")), image=np.full((*shape, 3), 128, np.uint8))
    for _, picture in find_pictures(read_page(make_report(image))):
        assert picture.shape[:2] == expected


def test_box_outside_of_the_picture():
    line = replace(make_line("far"), polygon=np.full((4, 2), 1e12, np.float32))
    pair = (LinePair(line, None, 0.0),)
    image = replace(make_image(), box_pairs=pair, text_pairs=pair)
    assert len(find_pictures(read_page(make_report(image)))) == 2


def test_many_pictures():
    images = [make_image(("a", "a"), name=f"good_{i}.png") for i in range(MAX_PICTURES + 2)]
    images.insert(5, make_image(("a", "b"), ("c", "d"), name="worst.png"))
    images.insert(9, make_image(("a", "b"), name="bad.png"))
    images.insert(3, make_image(("a", "a"), name="far.png", diff=0.5))
    page = read_page(make_report(*images))
    names = [section.find("h3")[0].text.split(" ")[0] for section in page.find("section")]
    assert names[:3] == ["worst.png", "bad.png", "far.png"]
    assert len(names) == MAX_PICTURES
    rest = find_rows(page, "picture")
    assert [cells["lines that differ"].text for cells in rest] == ["0"] * 5
    assert sorted(names + [cells["picture"].text for cells in rest]) == sorted(image.name for image in images)
    assert f"worst {MAX_PICTURES} of {len(images)} pictures" in page.text
    assert rest[0]["cls, max |Δ|"].text == "–"


def test_page_does_not_grow_with_pictures():
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    images = [replace(make_image(("a", "b")), image=noise) for _ in range(MAX_PICTURES)]
    source = write_report(make_report(*images))
    assert 1_000_000 < len(source) < 10_000_000
    sizes = {picture.shape[1] for _, picture in find_pictures(Page(source).root)}
    assert max(sizes) < 900
    ((_, picture), _) = find_pictures(read_page(make_report(images[0])))
    assert picture.shape[1] == 900


# --- traces


def test_trace_that_differs():
    page = read_page(make_report(make_image(("a", "b")), traces={"det": make_trace(5)}))
    (chart,) = page.find("svg")
    # Ops 1 to 4 agree.
    assert len(chart.find("circle")) == 4
    assert len(chart.find("path", **{"class": "different"})) == 8
    assert len(chart.find("path", **{"class": "parted"})) == 1
    texts = [element.text for element in chart.find("text")]
    assert "first difference: op 5" in texts
    assert "agrees below 2.0e-04" in texts
    assert "relative difference" in texts
    rows = find_rows(page, "reference tensor")
    assert [cells["op"].text for cells in rows] == [str(i) for i in range(1, 13)]
    assert (rows[4]["parameters"].text, rows[4]["reference tensor"].text) == ("conv_5.w_0", "out_5")
    assert (rows[3]["agrees"].text, rows[4]["agrees"].text) == ("✓ yes", "✗ no")
    assert "Op 5 conv2d (reads conv_5.w_0)" in page.text
    assert "open" not in page.find("details")[-1].attributes


def test_marks_of_a_chart_are_inside_it():
    trace = make_trace(5)
    tensors = list(trace.tensors)
    tensors[0] = replace(tensors[0], relative_diff=float("inf"), accumulated_diff=float("nan"), agrees=False)
    tensors[2] = replace(tensors[2], relative_diff=1e-12)
    page = read_page(make_report(make_image(("a", "b")), traces={"rec": replace(trace, tensors=tuple(tensors))}))
    (chart,) = page.find("svg")
    _, _, width, height = map(float, chart.attributes["viewbox"].split())
    for circle in chart.find("circle"):
        assert 0 < float(circle.attributes["cx"]) < width
        assert 0 < float(circle.attributes["cy"]) < height
    drawn = str([element.attributes for element in chart.walk()])
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert find_rows(page, "accumulated")[0]["relative"].text == "not finite"


def test_trace_that_agrees():
    page = read_page(make_report(make_image(("a", "a")), traces={"rec": make_trace(), "cls": make_trace(count=1)}))
    assert len(page.find("svg")) == 2
    assert not page.find("path", **{"class": "parted"})
    assert "No op" in page.text


def test_trace_without_counterparts():
    trace = make_trace()
    tensors = tuple(replace(one, reference=None, agrees=False) for one in trace.tensors)
    page = read_page(make_report(make_image(("a", "a")), traces={"rec": replace(trace, tensors=tensors)}))
    assert not page.find("svg")
    assert "No tensor has a counterpart in the reference." in page.text
    assert find_rows(page, "parameters")[0]["reference tensor"].text == "none with this shape"
