"""The languages: their codes, and which recogniser reads which.

A recogniser reads a language if PaddleOCR says so (`PaddleOCR._get_ocr_model_names`, and for PP-OCRv6 the list in
RapidOCR's default_models.yaml) and its dictionary has every letter of the language. So PP-OCRv6 tiny does not read
Azerbaijani (ə) and Romanian (ș, ț), and no recogniser reads all of Vietnamese.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge_ocr.errors import UsageError


@dataclass(frozen=True)
class Language:
    """A language and the models for it."""

    code: str
    """ISO 639 code, with a script (ISO 15924) where the language has several."""
    name: str
    """English name."""
    recognizer: str
    """Registry name of the recogniser."""
    detector: str
    """Registry name of the detector."""
    is_right_to_left: bool
    lacks: str
    """What the recogniser cannot read; empty for nothing."""


_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "abq": "Abaza",
        "ady": "Adyghe",
        "af": "Afrikaans",
        "anp": "Angika",
        "ar": "Arabic",
        "av": "Avar",
        "az": "Azerbaijani",
        "ba": "Bashkir",
        "bal": "Balochi",
        "be": "Belarusian",
        "bg": "Bulgarian",
        "bgc": "Haryanvi",
        "bho": "Bhojpuri",
        "bih": "Bihari",
        "bs": "Bosnian",
        "bua": "Buryat",
        "ca": "Catalan",
        "ce": "Chechen",
        "ckb": "Central Kurdish",
        "cs": "Czech",
        "cv": "Chuvash",
        "cy": "Welsh",
        "da": "Danish",
        "dar": "Dargwa",
        "de": "German",
        "el": "Greek",
        "en": "English",
        "es": "Spanish",
        "et": "Estonian",
        "eu": "Basque",
        "fa": "Persian",
        "fi": "Finnish",
        "fr": "French",
        "ga": "Irish",
        "gl": "Galician",
        "gom": "Konkani",
        "hi": "Hindi",
        "hr": "Croatian",
        "hu": "Hungarian",
        "id": "Indonesian",
        "inh": "Ingush",
        "is": "Icelandic",
        "it": "Italian",
        "ja": "Japanese",
        "kaa": "Karakalpak",
        "kbd": "Kabardian",
        "kk": "Kazakh",
        "kn": "Kannada",
        "ko": "Korean",
        "ku": "Kurdish",
        "kv": "Komi",
        "ky": "Kyrgyz",
        "la": "Latin",
        "lb": "Luxembourgish",
        "lbe": "Lak",
        "lez": "Lezgian",
        "lt": "Lithuanian",
        "lv": "Latvian",
        "mag": "Magahi",
        "mai": "Maithili",
        "mhr": "Meadow Mari",
        "mi": "Maori",
        "mk": "Macedonian",
        "mn": "Mongolian",
        "mr": "Marathi",
        "ms": "Malay",
        "mt": "Maltese",
        "ne": "Nepali",
        "new": "Newar",
        "nl": "Dutch",
        "no": "Norwegian",
        "oc": "Occitan",
        "os": "Ossetian",
        "pl": "Polish",
        "ps": "Pashto",
        "pt": "Portuguese",
        "qu": "Quechua",
        "rm": "Romansh",
        "ro": "Romanian",
        "ru": "Russian",
        "sa": "Sanskrit",
        "sah": "Yakut",
        "sck": "Sadri",
        "sd": "Sindhi",
        "sk": "Slovak",
        "sl": "Slovenian",
        "sq": "Albanian",
        "sr-Cyrl": "Serbian, Cyrillic",
        "sr-Latn": "Serbian, Latin",
        "sv": "Swedish",
        "sw": "Swahili",
        "ta": "Tamil",
        "tab": "Tabasaran",
        "te": "Telugu",
        "tg": "Tajik",
        "th": "Thai",
        "tl": "Tagalog",
        "tr": "Turkish",
        "tt": "Tatar",
        "tyv": "Tuvan",
        "udm": "Udmurt",
        "ug": "Uyghur",
        "uk": "Ukrainian",
        "ur": "Urdu",
        "uz": "Uzbek",
        "vi": "Vietnamese",
        "xal": "Kalmyk",
        "zh": "Chinese, simplified",
        "zh-Hant": "Chinese, traditional",
    }
)

# Other names for the codes: PaddleOCR's, and codes without or with another script or region.
_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "ang": "anp",
        "arabic": "ar",
        "ava": "av",
        "bh": "bih",
        "ch": "zh",
        "che": "ce",
        "chinese_cht": "zh-Hant",
        "cyrillic": "bg",
        "devanagari": "hi",
        "eslav": "ru",
        "fil": "tl",
        "french": "fr",
        "german": "de",
        "japan": "ja",
        "jp": "ja",
        "korean": "ko",
        "latin": "la",
        "mah": "mag",
        "nb": "no",
        "nn": "no",
        "rs_cyrillic": "sr-Cyrl",
        "rs_latin": "sr-Latn",
        "sr": "sr-Cyrl",
        "zh-Hans": "zh",
        "zh-HK": "zh-Hant",
        "zh-MO": "zh-Hant",
        "zh-TW": "zh-Hant",
    }
)

_CHINESE = "en zh"
_V5 = "en ja zh zh-Hant"
_V6_TINY = (
    "af bs ca cs cy da de en es et eu fi fr ga gl hr hu id is it ku la lb lt lv mi ms mt nl no oc pl pt qu rm sk sl sq "
    "sr-Latn sv sw tl tr uz zh zh-Hant"
)
_LATIN = (
    "af bs ca cs da de en es et eu fi fr ga gl hr hu id is it ku lb lt ms nl no oc pl pt qu rm sk sl sq sr-Latn sv sw "
    "tl tr uz"
)
_V6 = f"{_V6_TINY} az ja ro vi"
_CYRILLIC = (
    "abq ady av ba be bg bua ce cv dar inh kaa kbd kk kv ky lbe "
    "lez mhr mk mn os ru sah sr-Cyrl tab tg tt tyv udm uk xal"
)
_ARABIC = "ar bal ckb fa ps sd ug ur"
_DEVANAGARI = "anp bgc bho bih gom hi mag mai mr ne new sa sck"

# Languages by recogniser; the first that has a language is the one that `--lang` chooses.
_READ: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        name: frozenset(codes.split())
        for name, codes in {
            "PP-OCRv6_small_rec": _V6,
            "PP-OCRv6_medium_rec": _V6,
            "PP-OCRv6_tiny_rec": _V6_TINY,
            "korean_PP-OCRv5_mobile_rec": "en ko",
            "eslav_PP-OCRv5_mobile_rec": "be en ru uk",
            "cyrillic_PP-OCRv5_mobile_rec": f"{_CYRILLIC} en",
            "arabic_PP-OCRv5_mobile_rec": f"{_ARABIC} en",
            "devanagari_PP-OCRv5_mobile_rec": f"{_DEVANAGARI} en",
            "th_PP-OCRv5_mobile_rec": "en th",
            "el_PP-OCRv5_mobile_rec": "el en",
            "ta_PP-OCRv5_mobile_rec": "en ta",
            "te_PP-OCRv5_mobile_rec": "en te",
            "latin_PP-OCRv5_mobile_rec": _LATIN,
            "en_PP-OCRv5_mobile_rec": "en",
            "PP-OCRv5_mobile_rec": _V5,
            "PP-OCRv5_server_rec": _V5,
            # PaddleOCR's `ka` is Kannada.
            "ka_PP-OCRv4_rec": "en kn",
            "ka_PP-OCRv3_mobile_rec": "en kn",
            "japan_PP-OCRv4_rec": "en ja",
            "japan_PP-OCRv3_mobile_rec": "en ja",
            "chinese_cht_PP-OCRv3_rec": "en zh-Hant",
            "chinese_cht_PP-OCRv3_mobile_rec": "en zh-Hant",
            "PP-OCRv4_mobile_rec": _CHINESE,
            "PP-OCRv4_server_rec": _CHINESE,
            "PP-OCRv4_server_rec_doc": _CHINESE,
            "ch_SVTRv2_rec": _CHINESE,
            "ch_RepSVTR_rec": _CHINESE,
        }.items()
    }
)
_LACKS: Mapping[str, str] = MappingProxyType({"vi": "most letters with tone marks"})
RECOGNIZERS = tuple(_READ)
"""The recognisers whose languages are known."""


def reads(recognizer: str, language: Language) -> bool:
    """Return whether a recogniser of the registry reads a language; False for one that is not in this file."""
    return language.code in _READ.get(recognizer, ())


def _describe(code: str, name: str) -> Language:
    recognizer = next(row for row, codes in _READ.items() if code in codes)
    is_v6 = recognizer.startswith("PP-OCRv6")
    return Language(
        code,
        name,
        recognizer,
        "PP-OCRv6_small_det" if is_v6 else "PP-OCRv5_mobile_det",
        code in _ARABIC.split(),
        _LACKS.get(code, ""),
    )


LANGUAGES: Mapping[str, Language] = MappingProxyType({code: _describe(code, name) for code, name in _NAMES.items()})
_CODES: Mapping[str, str] = MappingProxyType(
    {
        **{language.name.lower(): code for code, language in LANGUAGES.items()},
        **{alias.lower().replace("_", "-"): code for alias, code in _ALIASES.items()},
        **{code.lower(): code for code in LANGUAGES},
    }
)


def find_language(name: str) -> Language:
    """Return a language by its code (`de`, `de-AT`, `zh-Hant`), PaddleOCR's name (`german`) or English name.

    Raises UsageError, with the nearest names, if there is none.
    """
    wanted = name.strip().lower().replace("_", "-")
    language, _, region = wanted.rpartition("-")
    # A region does not change the letters, except in Chinese, whose regions are aliases.
    code = _CODES.get(wanted) or (_CODES.get(language) if len(region) == 2 else None)
    if code is None:
        close = dict.fromkeys(_CODES[found] for found in difflib.get_close_matches(wanted, _CODES, n=3, cutoff=0.6))
        nearest = " or ".join(f"{found} ({LANGUAGES[found].name})" for found in close)
        listing = "edge-ocr models languages"
        raise UsageError(
            f"unknown language {name!r}", f"did you mean {nearest}? {listing} shows all" if close else f"run {listing}"
        )
    return LANGUAGES[code]
