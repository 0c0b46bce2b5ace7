"""Makes damaged manifests, inference.yml files, dictionaries and pictures, and reads them in a separate process.

A program: `input_cases.py KIND FOLDER FIRST COUNT`. Left in FOLDER are `number`, of the case that is under way, and
`summary.json`. A case is the same on every machine. The process has limits on memory and on the time that
each case takes.
"""

from __future__ import annotations

import copy
import faulthandler
import functools
import hashlib
import io
import json
import os
import random
import re
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from types import MappingProxyType

import yaml

from edge_ocr.core import bundle as board_bundles
from edge_ocr.core.bundle import describe_machine, open_bundle
from edge_ocr.errors import EdgeOcrError, InputError

ROOT = Path(__file__).parent.parent.parent
SHARED = ROOT.parent / "shared" / "data" / "edge"
"""Odd pictures, on machines that have them."""

# By kind, as many as take some 15 seconds.
CASES = MappingProxyType({"manifest": 500, "yml": 1000, "dictionary": 2000, "picture": 4000, "shared": 400, "pdf": 400})

MEMORY_BYTES = 256 * 2**20
SECONDS = 10

# The size of pictures, so small that a decoder reserves far less than MEMORY_BYTES.
MAX_PIXELS = 2**21


# --- changes to bytes, to values and to YAML


def flip(rng, data, head=None):
    """Damage bytes in a few places, mostly in the first `head`."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not data:
            break
        end = min(head, len(data)) if head and rng.random() < 0.7 else len(data)
        place, length = rng.randrange(end), rng.choice((1, 2, 4, 8, 32, 200))
        how = rng.randrange(8)
        if how == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == 2:
            piece = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(data))))
            data[place : place + 4] = piece
        elif how == 3:
            data[place : place + 2] = struct.pack("<H", rng.choice((0, 1, 0x7FFF, 0x8000, 0xFFFF)))
        elif how == 4:
            del data[place:]
        elif how == 5:
            del data[place : place + length]
        elif how == 6:
            data[place:place] = data[place : place + length]
        else:
            data[place : place + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return bytes(data)


VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 255, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "a", "0", "/etc/passwd", "../outside.txt", "models/../../outside.txt", "a\0b", "\ud800",
    "é" * 300, "x" * 5000, "\\\\host\\share", "C:\\outside.txt", ".", "..", "dict.txt", "manifest.json",
    [], [None], [[]], ["a"] * 100, {}, {"": {}}, {"file": "../outside.txt"},
)  # fmt: skip

KEYS = ("", "file", "det", "..", "/etc/passwd", "../outside.txt", "a\0b", "é", "x" * 300, "\ud800", "\\a")


def list_places(value, place=()):
    """Yield the place of each value below a nested one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        if len(place) < 20:
            yield from list_places(inner, (*place, key))


def change_value(rng, root):
    """Change a nested value in a few places."""
    root = copy.deepcopy(root)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(list_places(root))
        if not places:
            break
        # Short ones often: a list of files has hundreds.
        short = [place for place in places if len(place) <= 3]
        *above, key = rng.choice(short if rng.random() < 0.5 else places)
        holder = functools.reduce(lambda inner, name: inner[name], above, root)
        how = rng.random()
        if how < 0.2:
            del holder[key]
        elif how < 0.3 and isinstance(holder, dict):
            holder[rng.choice(("", "file", "..", "/etc/passwd", "../outside.txt", "é", "x" * 300, "\ud800"))] = holder[
                key
            ]
        elif how < 0.4 and isinstance(holder, dict):
            holder[rng.choice(KEYS)] = holder.pop(key)
        elif how < 0.45:
            # Within the range of every JSON reader, and beyond.
            for _ in range(rng.choice((10, 100, 800, 1500))):
                holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
        elif how < 0.6:
            holder[key] = copy.deepcopy(find(root, rng.choice(places)))
        else:
            holder[key] = rng.choice(VALUES)
    return root


def find(root, place):
    """Return the value at a place; None if there is none any more."""
    for name in place:
        try:
            root = root[name]
        except (KeyError, IndexError, TypeError):
            return None
    return root


# --- manifests


def make_manifest(rng, seeds):
    manifest = rng.choice(seeds)
    how = rng.random()
    if how < 0.15:
        return flip(rng, json.dumps(manifest).encode())
    content = json.dumps(change_value(rng, manifest)).encode()
    if how < 0.25:
        # A key twice, a number of many digits, brackets without an end.
        content = rng.choice(
            (
                content.replace(b"{", b'{"files": [], ', 1),
                content.replace(b"0", b"9" * rng.choice((400, 5000)), rng.choice((1, 3))),
                content.replace(b"1", b"1e999", rng.choice((1, 3))),
                content.replace(b"[", b"[" * rng.choice((500, 100_000)), 1),
                content.replace(b'"', b'"\\ud800', rng.choice((1, 5))),
                content.decode().encode("utf-16"),
                b"\xef\xbb\xbf" + content,
            )
        )
    return content


def write_bundle(folder, content):
    path = folder / "bundle" / "manifest.json"
    path.write_bytes(content)
    return path.parent


def read_manifest(content, folder):
    from converters.bundle.reader import inspect_bundle

    # As on a board, whatever machine runs the tests.
    board_bundles.find_abi = lambda: "armv8"
    bundle = write_bundle(folder, content)
    ends = []
    try:
        inspection = inspect_bundle(bundle)
        ends.append("host: whole" if inspection.bundle else "host: checks failed")
        for check in inspection.checks:
            check_line(check.detail)
    except EdgeOcrError as error:
        check_message(error)
        ends.append("host: refused")
    try:
        device = open_bundle(bundle)
    except EdgeOcrError as error:
        check_message(error)
        return f"{ends[0]}, board: refused"
    engines = ("paddle_lite", "onnxruntime") if device.manifest.get("onnx") else ("paddle_lite",)
    libraries = device.manifest["lite"]["libraries"]
    uses = [
        device.explain_engines,
        lambda: describe_machine(device),
        device.check_files,
        device.read_charset,
        lambda: device.choose_engine("auto"),
        *(functools.partial(device.find_model, kind, engine) for kind in device.kinds for engine in engines),
        *(functools.partial(device.find_library, abi) for abi, has in libraries.items() if has.get("file")),
        *(functools.partial(device.find_shim, abi) for abi in libraries),
    ]
    damaged = 0
    for use in uses:
        try:
            use()
        except EdgeOcrError as error:
            check_message(error)
            damaged += 1
    return f"{ends[0]}, board: opened"


# --- inference.yml

YMLS = {
    "det": """\
Global: {model_name: PP-OCRv5_mobile_det}
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - DetLabelEncode: null
  - DetResizeForTest: {resize_long: 960}
  - NormalizeImage: {mean: [0.485, 0.456, 0.406], order: hwc, scale: 1./255., std: [0.229, 0.224, 0.225]}
  - ToCHWImage
PostProcess: {name: DBPostProcess, thresh: 0.3, box_thresh: 0.6, max_candidates: 1000, unclip_ratio: 1.5}
""",
    "rec": """\
Global: {model_name: PP-OCRv5_mobile_rec}
PreProcess:
  transform_ops:
  - DecodeImage: {img_mode: BGR}
  - MultiLabelEncode: {gtc_encode: NRTRLabelEncode}
  - RecResizeImg: {image_shape: [3, 48, 320]}
PostProcess:
  name: CTCLabelDecode
  character_dict: [a, '1', 2, on, ~, '''', é, 字, " "]
""",
    "cls": """\
PreProcess:
  transform_ops:
  - ClsResizeImg: {image_shape: [3, 48, 192]}
  - NormalizeImage: {mean: [0.5, 0.5, 0.5], scale: 0.00392156862745098, std: [0.5, 0.5, 0.5]}
PostProcess: {Topk: {topk: 1, label_list: [0_degree, 180_degree]}}
""",
}
YML_TEXTS = ("&a [*a]", "*a", "&a", "!!int ''", "!!bool x", "!!timestamp x", "!!binary x", "!!set {a}",
             "!!omap [a: 1]", "<<: {a: 1}", "? [a]", "- ", "[", "]", "{", "}", ": ", "|", ">", "'", '"', "#",
             "%YAML 9.9\n---\n", "---\n",
             "2001-99-99", "0x", "1_000", "190:20:30", ".nan", ".inf", "9" * 5000, "\t", "\0", "\x85", "\u2028",
             "!!python/object/apply:os.system [true]", "[" * 3000, "a: {" * 3000, "\n" + " " * 500)  # fmt: skip


def make_yml(rng, seeds):
    text = rng.choice(list(YMLS.values()))
    how = rng.random()
    if how < 0.25:
        return flip(rng, text.encode())
    if how < 0.5:
        for _ in range(rng.choice((1, 2, 3))):
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice(YML_TEXTS) + text[place + rng.choice((0, 0, 1, 10)) :]
        return text.encode()
    value = change_value(rng, yaml.safe_load(text))
    return yaml.dump(value, allow_unicode=rng.random() < 0.5, Dumper=yaml.SafeDumper).encode("utf-8", "replace")


def read_yml(content, folder):
    from edge_ocr.config import load_config
    from edge_ocr.models.inference_yml import read_inference_yml

    path, ends, read = folder / "inference.yml", "", 0
    path.write_bytes(content)
    for kind in ("det", "rec", "cls"):
        try:
            described = read_inference_yml(path, kind)
            load_config("OCR").with_model_settings(described.settings, "inference.yml")
            assert all(isinstance(text, str) for text in described.characters or ())
            read += 1
        except EdgeOcrError as error:
            check_message(error)
    return f"read as {read} kinds{ends}"


# --- dictionaries


def make_dictionary(rng, seeds):
    lines = [rng.choice(("a", "字", " ", "", "\u3000", "é", "\u2028", "\x85", "ab", "\r", "\0", "\ufeff", "\x1a", "😀"))
             for _ in range(rng.choice((0, 1, 2, 5, 40, 500)))]  # fmt: skip
    end = rng.choice(("\n", "\n", "\n", "\r\n", "\r", "\n\r", "\n\n"))
    content = "".join(line + end for line in lines).encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")))
    how = rng.random()
    if how < 0.4:
        return content
    if how < 0.5:
        return content.rstrip(b"\n")
    if how < 0.55:
        return content + rng.choice((b"x" * 10**5, b"\n" * 10**5, b"\0" * 10**5, b"\xf0\x9f\x98"))
    return flip(rng, content)


def read_dictionary_file(content, folder):
    from converters.bundle.reader import _read_charset
    from edge_ocr.core.bundle import DeviceBundle
    from edge_ocr.core.charset import Charset
    from edge_ocr.models.folder import read_dictionary

    path = folder / "bundle" / "dict.txt"
    path.write_bytes(content)
    try:
        characters = read_dictionary(path)
        for count in (0, 1, 2, len(characters), len(characters) + 1, len(characters) + 2, 10**9):
            try:
                assert len(Charset.fit(characters, count, "case").classes) == count
            except EdgeOcrError as error:
                check_message(error)
        end = "read"
    except EdgeOcrError as error:
        check_message(error)
        end = "refused"
    # In a bundle: host and board see the same classes, or none.
    sha256, classes = hashlib.sha256(content).hexdigest(), content.count(b"\n") + 1
    manifest = {
        "charset": {"file": "dict.txt", "classes": classes, "characters": classes - 1, "sha256": sha256},
        "files": {"dict.txt": {"sha256": sha256, "size_bytes": len(content)}},
    }
    seen = []
    charset, check = _read_charset(path.parent, manifest)
    check_line(check.detail)
    seen.append(charset and charset.classes)
    try:
        seen.append(DeviceBundle(path.parent, manifest, None, None, None, None, ()).read_charset().classes)
    except EdgeOcrError as error:
        check_message(error)
        seen.append(None)
    assert seen[0] == seen[1], "host and board see other classes"
    return f"{end}, in a bundle {'read' if seen[0] else 'refused'}"


# --- pictures


@functools.cache
def encode_pictures():
    """Return small pictures in every format, by name."""
    import cv2
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    photo = cv2.GaussianBlur(rng.integers(0, 255, (40, 56, 4), dtype=np.uint8), (0, 0), 3)
    found = {}

    def save(name, image, kind, **options):
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        found[name] = stream.getvalue()

    rgb, rgba = Image.fromarray(np.ascontiguousarray(photo[:, :, :3])), Image.fromarray(photo)
    grey = rgb.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image, kind, options in (
        ("png", rgb, "PNG", {}), ("png-a", rgba, "PNG", {"exif": exif}), ("png-p", rgb.quantize(16), "PNG", {}),
        ("png-1", grey.convert("1"), "PNG", {}), ("jpeg", rgb, "JPEG", {"exif": exif}), ("jpeg-l", grey, "JPEG", {}),
        ("jpeg-p", rgb, "JPEG", {"progressive": True}), ("jpeg-cmyk", rgb.convert("CMYK"), "JPEG", {}),
        ("webp", rgb, "WEBP", {"exif": exif}), ("webp-l", rgba, "WEBP", {"lossless": True}),
        ("webp-anim", rgb, "WEBP", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        ("gif", rgb, "GIF", {}), ("gif-anim", rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        ("bmp", rgb, "BMP", {}), ("bmp-p", rgb.quantize(16), "BMP", {}), ("ppm", rgb, "PPM", {}),
        ("pgm", grey, "PPM", {}), ("pbm", grey.convert("1"), "PPM", {}), ("avif", rgb, "AVIF", {}),
        ("jp2", rgb, "JPEG2000", {}),
        ("tiff-pages", rgb, "TIFF", {"save_all": True, "append_images": [grey]}),
        *((f"tiff-{how}", grey.convert("1") if how == "group4" else rgb, "TIFF", {"compression": how})
          for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")),
    ):  # fmt: skip
        save(name, image, kind, **options)
    deep = (photo[:, :, :3].astype(np.uint16) << 4) + 7
    for name, suffix, array in (
        ("png-16", ".png", deep),
        ("tiff-16", ".tif", deep),
        ("png-l16", ".png", deep[:, :, 0]),
    ):
        found[name] = cv2.imencode(suffix, array)[1].tobytes()
    return found


def make_picture(rng, seeds):
    pictures = encode_pictures()
    return damage_picture(rng, pictures[rng.choice(sorted(pictures))])


SIDES = (0, 1, 2, 55, 57, 1000, 1448, 1449, 4000, 13_000, 16_383, 32_767, 60_000, 65_535, 2**31 - 1, 2**32 - 1)


def damage_picture(rng, content):
    how = rng.random()
    if how < 0.4:
        content = declare_size(rng, content)
    if how > 0.3:
        content = flip(rng, content, 300)
    if content.startswith(b"\x89PNG") and rng.random() < 0.6:
        content = mend_png(content)
    return content


def declare_size(rng, content):
    """Change the width or height in a picture's header."""
    data, width, height = bytearray(content), rng.choice(SIDES), rng.choice(SIDES)

    def put(form, place, *values):
        size = struct.calcsize(form)
        if 0 <= place <= len(data) - size:
            mask = 2 ** (8 * size // len(values)) - 1
            struct.pack_into(form.upper(), data, place, *(value & mask for value in values))

    if content.startswith(b"\x89PNG"):
        put(">II", 16, width, height)
    elif content.startswith(b"\xff\xd8"):
        match = re.search(rb"\xff[\xc0-\xc2]", content)
        put(">HH", match.start() + 5 if match else -1, height, width)
    elif content.startswith(b"GIF8"):
        put("<HH", rng.choice((6, content.find(b"\x2c\0\0\0\0") + 5)), width, height)
    elif content.startswith(b"BM"):
        put("<II", 18, width, height)
    elif content.startswith(b"RIFF"):
        put("<HH", content.find(b"\x9d\x01\x2a") + 3, width, height)
        if b"VP8L" in content:
            put("<I", content.find(b"VP8L") + 9, (width & 0x3FFF) | (height & 0x3FFF) << 14)
        if b"VP8X" in content:
            put("<I", content.find(b"VP8X") + 12, width & 0xFFFFFF)
    elif content.startswith((b"II", b"MM")):
        order = "<" if content.startswith(b"II") else ">"
        (place,) = struct.unpack_from(f"{order}I", content, 4)
        for entry in range(place + 2, min(place + 300, len(content) - 12), 12):
            (tag,) = struct.unpack_from(f"{order}H", content, entry)
            if tag in (256, 257, 258, 259, 273, 277, 278, 279, 322, 323) and rng.random() < 0.4:
                put(f"{order}HI", entry + 2, rng.choice((3, 4, 16)), rng.choice((1, 1, 2**31)))
                put(f"{order}I", entry + 8, rng.choice((width, height)))
    elif re.match(rb"P[1-6]", content):
        return re.sub(rb"\d+ \d+", b"%d %d" % (width, height), content, count=1)
    elif b"ispe" in content:
        put(">II", content.find(b"ispe") + 8, width, height)
    elif b"ihdr" in content:
        put(">II", content.find(b"ihdr") + 4, height, width)
        put(">II", content.find(b"\xff\x51") + 6, width, height)
    return bytes(data)


def mend_png(content):
    """Correct the checksum of each chunk, without which decoders would refuse the file at once."""
    data, place = bytearray(content), 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        end = place + 8 + size
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(bytes(data[place + 4 : end])))
        place = end + 4
    return bytes(data)


def read_picture_file(content, folder):
    from edge_ocr.config import load_config
    from edge_ocr.core.pictures import decode_picture
    from edge_ocr.inputs import Source

    ends = []
    settings = load_config("OCR", {"Input.max_pixels": MAX_PIXELS}).input
    for read in (
        lambda: [page.image for page in Source(content, None).pages(settings)],
        lambda: [decode_picture(content, "picture")],
    ):
        try:
            images = read()
            assert all(image.ndim == 3 and image.shape[2] == 3 and image.dtype == "uint8" for image in images)
            assert all(0 < image.size <= 3 * MAX_PIXELS for image in images)
            ends.append("read")
        except InputError as error:
            check_message(error)
            if re.search(r"memory|alloc", error.message):
                # A decoder requested more than the limit: it trusted the declared size.
                raise AssertionError(error.message) from None
            ends.append("refused")
    return "host {}, board {}".format(*ends)


def make_shared(rng, seeds):
    names = sorted(path.name for path in SHARED.iterdir() if path.stat().st_size < 300_000)
    return damage_picture(rng, (SHARED / rng.choice([name for name in names if name != "gt.jsonl"])).read_bytes())


def encode_pdf():
    resources = b"/Resources << /XObject << /I 5 0 R >> >>"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] /Contents 4 0 R %b >>" % resources
    image = zlib.compress(bytes(64) + b"\xff" * 128)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        page,
        b"<< /Length 27 >>\nstream\nq 50 0 0 50 9 9 cm /I Do Q\nendstream",
        b"<< /Type /XObject /Subtype /Image /Width 8 /Height 8 /BitsPerComponent 8 /ColorSpace /DeviceRGB "
        b"/Filter /FlateDecode /Length %d >>\nstream\n%b\nendstream" % (len(image), image),
    ]
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, text in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, text)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"xref\n0 6\n0000000000 65535 f \n%btrailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(out),
    )
    return bytes(out)


def make_pdf(rng, seeds):
    content = encode_pdf()
    if rng.random() < 0.5:
        number = rng.choice((b"0", b"-1", b"1e9", b"99999", b"2147483647", b"4294967296", b"0.0001", b"nan", b"72"))
        for _ in range(rng.choice((1, 2))):
            match = rng.choice(list(re.finditer(rb"(?<=[ \[])\d+(?=[ \]])", content)))
            content = content[: match.start()] + number + content[match.end() :]
        return content
    return flip(rng, content)


def read_pdf(content, folder):
    from edge_ocr.config import load_config
    from edge_ocr.inputs import Source

    settings = load_config("OCR", {"Input.max_pixels": MAX_PIXELS}).input
    try:
        images = [page.image for page in Source(content, None).pages(settings)]
    except InputError as error:
        check_message(error)
        return "refused"
    assert all(0 < image.size <= 3 * MAX_PIXELS for image in images)
    return "read"


# --- the process that runs the cases


def check_message(error):
    check_line(error.message)


def check_line(text):
    if "\n" in text or len(text) > 2000:
        raise AssertionError(f"not one line: {text[:3000]!r}")


def raise_another_error(content, folder):
    return content["place"]


def take_memory(content, folder):
    return str(len(bytearray(2 * MEMORY_BYTES)))


def crash(content, folder):
    faulthandler._sigsegv()


def open_outside(content, folder):
    return (folder / "outside.txt").read_text()


# The last ones misbehave on purpose, to show that it is detected.
KINDS = {
    "manifest": (make_manifest, read_manifest),
    "yml": (make_yml, read_yml),
    "dictionary": (make_dictionary, read_dictionary_file),
    "picture": (make_picture, read_picture_file),
    "shared": (make_shared, read_picture_file),
    "pdf": (make_pdf, read_pdf),
    "another_error": (make_dictionary, raise_another_error),
    "memory": (make_dictionary, take_memory),
    "crash": (make_dictionary, crash),
    "outside": (make_dictionary, open_outside),
}


def read_seeds(folder):
    path = folder / "seeds.json"
    return json.loads(path.read_bytes()) if path.is_file() else []


def make_case(kind, number, seeds):
    """Return a damaged file; the same one for the same number and seeds."""
    # Python can also write values nested too deep for a reader.
    sys.setrecursionlimit(50_000)
    try:
        return KINDS[kind][0](random.Random(f"{kind} {number}"), seeds)
    finally:
        sys.setrecursionlimit(1000)


def watch_opening(folder):
    """Fail if a file is opened that a manifest might lead to."""
    outside = {str(folder / "outside.txt"), "/etc/passwd"}

    def refuse(event, arguments):
        if event == "open" and isinstance(arguments[0], str | bytes) and os.path.realpath(arguments[0]) in outside:
            raise AssertionError(f"opened {arguments[0]!r}")

    sys.addaudithook(refuse)


def read_peak():
    """Return the peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_cases(kind, folder, first, count):
    """Run cases; write the number of the current one, and at the end a summary, into `folder`."""
    faulthandler.enable()
    seeds, read = read_seeds(folder), KINDS[kind][1]
    # Libraries load parts on first use; that must happen before memory is limited.
    if kind in ("manifest", "yml", "dictionary"):
        contents = {"manifest": json.dumps(seeds[0] if seeds else None), "yml": YMLS["det"], "dictionary": "a\nb\n"}
        read(contents[kind].encode(), folder)
    elif kind in ("picture", "shared", "pdf"):
        for content in [encode_pdf()] if kind == "pdf" else encode_pictures().values():
            read(content, folder)
    watch_opening(folder)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    # Decoders in C may ignore a failed allocation, so memory is measured, not limited.
    room = MEMORY_BYTES if kind not in ("picture", "shared", "pdf") else 3 * 2**30
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = read_peak()
    ends, slowest, begun = Counter(), (0.0, first), time.monotonic()
    with (folder / "number").open("wb", buffering=0) as under_way:
        for number in range(first, first + count):
            os.pwrite(under_way.fileno(), str(number).encode(), 0)
            content = make_case(kind, number, seeds)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            started = time.perf_counter()
            ends[read(content, folder)] += 1
            slowest = max(slowest, (time.perf_counter() - started, number))
            if read_peak() - before > MEMORY_BYTES:
                raise AssertionError(f"{read_peak() - before:,} bytes of memory")
    faulthandler.cancel_dump_traceback_later()
    grown = read_peak() - before
    summary = {"ends": ends, "slowest": slowest, "grown_bytes": grown, "seconds": time.monotonic() - begun}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


if __name__ == "__main__":
    run_cases(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5]))
