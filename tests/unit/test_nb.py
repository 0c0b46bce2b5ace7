import struct

import pytest

from converters.nb import NbHeader, normalise, parse_header, read_header
from edge_ocr.errors import ModelError

TOPOLOGY = b"topology"


def build_nb(
    *, meta_version=2, version=b"v2.13-rc\0\x12\x34\xff\x7f\0\0\x01", header_size=6, records=(b"first", b"second!")
):
    return (
        struct.pack("<H16sQ", meta_version, version, len(TOPOLOGY))
        + TOPOLOGY
        + struct.pack("<HHHHI", 0, 0, header_size, len(records), 7)
        + b"".join(struct.pack("<I", len(record)) + record for record in records)
    )


def test_header_fields(tmp_path):
    path = tmp_path / "a.nb"
    path.write_bytes(build_nb())
    assert read_header(path) == NbHeader(2, "v2.13-rc", len(TOPOLOGY), 2, 7)


def test_normalise_zeroes_only_what_follows_the_version():
    data = build_nb()
    clean = normalise(data)
    assert clean == build_nb(version=b"v2.13-rc" + bytes(8))
    assert [i for i in range(len(data)) if data[i] != clean[i]] == [11, 12, 13, 14, 17]
    assert normalise(clean) == clean


def test_normalise_makes_files_with_different_leftovers_equal():
    other = build_nb(version=b"v2.13-rc\0\xaa\xbb\xcc\xdd\xee\xff\x11")
    assert other != build_nb()
    assert normalise(other) == normalise(build_nb())


@pytest.mark.parametrize("size", range(len(build_nb())))
def test_any_truncation_is_refused(size):
    with pytest.raises(ModelError):
        parse_header(build_nb()[:size])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (build_nb(meta_version=1), "meta version 1, expected 2"),
        (build_nb(version=b"v2.13-rc-and-more"[:16]), "where opt's version stands"),
        (build_nb(version=b"\xff\xfe junk\0"), "where opt's version stands"),
        (build_nb(version=bytes(16)), "where opt's version stands"),
        (build_nb(header_size=7), "parameter header of 7 bytes, expected 6"),
        (build_nb() + b"\0", "damaged or cut short"),
        (b"\x7fELF" + bytes(100), "not a .nb file"),
    ],
)
def test_foreign_and_damaged_files_are_refused(data, words):
    with pytest.raises(ModelError, match=words):
        normalise(data)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "rec.nb"
    with pytest.raises(ModelError, match=r"rec\.nb: cannot be read"):
        read_header(path)
    path.write_bytes(b"short")
    with pytest.raises(ModelError, match=r"rec\.nb: not a \.nb file") as caught:
        read_header(path)
    assert caught.value.hint
