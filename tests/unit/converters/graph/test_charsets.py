import string

import pytest

from converters.graph.charsets import NAMED_CHARSETS, select_classes
from edge_ocr.core.charset import Charset
from edge_ocr.errors import ModelError, UsageError

CHARSET = Charset(("", "b", "文", "a", "1", "é", " "))


def select(choice):
    kept = select_classes(str(choice), CHARSET, "my_rec")
    return kept and "".join(CHARSET.classes[i] for i in kept)


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "characters.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_full_keeps_everything():
    assert select_classes("full", CHARSET, "my_rec") is None


def test_named_charsets_have_the_named_characters():
    assert sorted(NAMED_CHARSETS["ascii"]) == [chr(code) for code in range(32, 127)]
    assert set(string.digits) < set(NAMED_CHARSETS["digits"]) < set(NAMED_CHARSETS["ascii"])
    for characters in NAMED_CHARSETS.values():
        assert len(set(characters)) == len(characters)


def test_a_named_charset_keeps_what_the_model_has_in_its_order_blank_first():
    assert select_classes("ascii", CHARSET, "my_rec") == (0, 1, 3, 4, 6)
    assert select("digits") == "1 "


def test_a_file_keeps_its_characters_in_the_models_order(file):
    assert select(file(" \n文\nb\n")) == "b文 "
    assert select_classes(str(file("文")), CHARSET, "my_rec") == (0, 2)
    assert select(file("\ufeff1\r\né\r\n")) == "1é"


def test_all_classes_of_a_character_are_kept_and_empty_ones_by_full_only(file):
    charset = Charset(("", "a", "", "文", "a", "", " "))
    assert select_classes("ascii", charset, "my_rec") == (0, 1, 4, 6)
    assert select_classes(str(file("文\na\n")), charset, "my_rec") == (0, 1, 3, 4)
    assert select_classes("full", charset, "my_rec") is None


def test_characters_that_the_model_lacks_are_named(file):
    with pytest.raises(ModelError, match=r"my_rec .*2 .*'漢' 'z'$") as caught:
        select(file("a\n漢\nz\n"))
    assert "characters.txt" in caught.value.message
    assert caught.value.hint
    with pytest.raises(ModelError, match=r"52 .*32"):
        select(file("\n".join([*string.ascii_uppercase, *map(chr, range(0x400, 0x41A)), "a"])))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty$"),
        ("\n", "line 1"),
        ("a\n\nb\n", "line 2"),
        ("a\nb\na\n", r"'a' .*1 .*3"),
        (b"\xff\xfe", "is not UTF-8"),
        # The device looks up characters by class, and each class has only one.
        ("ab\n", "1 .*'ab'"),
    ],
)
def test_a_bad_file_is_refused(file, content, words):
    with pytest.raises(ModelError, match=words):
        select(file(content))


@pytest.mark.parametrize("choice", ["greek", "", "no/such/file.txt", "."])
def test_an_unknown_name_that_is_not_a_file_is_refused(choice):
    with pytest.raises(UsageError, match="--charset") as caught:
        select(choice)
    assert caught.value.hint == "use full, ascii, digits, or a file"


def test_a_model_with_none_of_a_named_charset_is_refused():
    with pytest.raises(ModelError, match="--charset digits: greek_rec"):
        select_classes("digits", Charset(("", "α", "β")), "greek_rec")
