"""Table of languages by name or code, for manifests, metrics, model families and cards."""

from __future__ import annotations

from dataclasses import dataclass

from sottovoce.errors import SamplesError

_TABLE = """
aa aar Afar|ab abk Abkhazian|af afr Afrikaans|ak aka Akan|am amh Amharic|an arg Aragonese|ar ara Arabic
as asm Assamese|av ava Avaric|ay aym Aymara|az aze Azerbaijani|ba bak Bashkir|be bel Belarusian
bg bul Bulgarian|bi bis Bislama|bm bam Bambara|bn ben Bengali, Bangla|bo bod Tibetan|br bre Breton
bs bos Bosnian|ca cat Catalan, Valencian|ce che Chechen|ch cha Chamorro|co cos Corsican|cr cre Cree
cs ces Czech|cu chu Church Slavic|cv chv Chuvash|cy cym Welsh|da dan Danish|de deu German, Deutsch
dv div Divehi, Maldivian|dz dzo Dzongkha|ee ewe Ewe|el ell Greek|en eng English|eo epo Esperanto
es spa Spanish, Castilian, Español|et est Estonian|eu eus Basque|fa fas Persian, Farsi|ff ful Fulah
fi fin Finnish|fj fij Fijian|fo fao Faroese|fr fra French, Français|fy fry Western Frisian, Frisian
ga gle Irish|gd gla Scottish Gaelic, Gaelic|gl glg Galician|gn grn Guarani|gu guj Gujarati|gv glv Manx
ha hau Hausa|he heb Hebrew|hi hin Hindi|ho hmo Hiri Motu|hr hrv Croatian|ht hat Haitian Creole, Haitian
hu hun Hungarian|hy hye Armenian|hz her Herero|ia ina Interlingua|id ind Indonesian|ie ile Interlingue
ig ibo Igbo|ii iii Sichuan Yi|ik ipk Inupiaq|io ido Ido|is isl Icelandic|it ita Italian, Italiano
iu iku Inuktitut|ja jpn Japanese, 日语, 日文, 日本語|jv jav Javanese|ka kat Georgian|kg kon Kongo|ki kik Kikuyu
kj kua Kuanyama|kk kaz Kazakh|kl kal Greenlandic, Kalaallisut|km khm Khmer|kn kan Kannada
ko kor Korean, 韩语, 한국어|kr kau Kanuri|ks kas Kashmiri|ku kur Kurdish|kv kom Komi|kw cor Cornish
ky kir Kyrgyz, Kirghiz|la lat Latin|lb ltz Luxembourgish, Letzeburgesch|lg lug Ganda|li lim Limburgish|ln lin Lingala
lo lao Lao|lt lit Lithuanian|lu lub Luba-Katanga|lv lav Latvian|mg mlg Malagasy|mh mah Marshallese
mi mri Maori|mk mkd Macedonian|ml mal Malayalam|mn mon Mongolian|mr mar Marathi|ms msa Malay|mt mlt Maltese
my mya Burmese, Myanmar|na nau Nauru|nb nob Norwegian Bokmål|nd nde North Ndebele|ne nep Nepali|ng ndo Ndonga
nl nld Dutch, Flemish|nn nno Norwegian Nynorsk, Nynorsk|no nor Norwegian|nr nbl South Ndebele|nv nav Navajo
ny nya Chichewa, Nyanja|oc oci Occitan|oj oji Ojibwa|om orm Oromo|or ori Odia, Oriya|os oss Ossetian
pa pan Punjabi, Panjabi|pi pli Pali|pl pol Polish|ps pus Pashto, Pushto|pt por Portuguese, Português|qu que Quechua
rm roh Romansh|rn run Rundi|ro ron Romanian, Moldavian, Moldovan|ru rus Russian, Русский|rw kin Kinyarwanda
sa san Sanskrit|sc srd Sardinian|sd snd Sindhi|se sme Northern Sami|sg sag Sango|si sin Sinhala, Sinhalese
sk slk Slovak|sl slv Slovenian|sm smo Samoan|sn sna Shona|so som Somali|sq sqi Albanian|sr srp Serbian
ss ssw Swati|st sot Southern Sotho|su sun Sundanese|sv swe Swedish|sw swa Swahili|ta tam Tamil|te tel Telugu
tg tgk Tajik|th tha Thai|ti tir Tigrinya|tk tuk Turkmen|tl tgl Tagalog|tn tsn Tswana|to ton Tongan
tr tur Turkish|ts tso Tsonga|tt tat Tatar|tw twi Twi|ty tah Tahitian|ug uig Uyghur, Uighur|uk ukr Ukrainian
ur urd Urdu|uz uzb Uzbek|ve ven Venda|vi vie Vietnamese|vo vol Volapük|wa wln Walloon|wo wol Wolof
xh xho Xhosa|yi yid Yiddish|yo yor Yoruba|za zha Zhuang|zh zho Chinese, Mandarin, 中文, 汉语, 普通话, 国语|zu zul Zulu
yue yue Cantonese, 粤语, 广东话, 廣東話
wuu wuu Wu Chinese, Wu, 吴语, Shanghainese|nan nan Min Nan Chinese, Hokkien, 闽南语
hak hak Hakka Chinese, Hakka, 客家话|gan gan Gan Chinese|hsn hsn Xiang Chinese|cdo cdo Min Dong Chinese
lzh lzh Literary Chinese|fil fil Filipino|haw haw Hawaiian|ceb ceb Cebuano|ast ast Asturian|kea kea Kabuverdianu
ckb ckb Central Kurdish, Sorani|luo luo Luo|kam kam Kamba|nso nso Northern Sotho|umb umb Umbundu
"""
"""Two-letter code (ISO 639-1) if there is one, three-letter code, and the names, the usual English one first."""

_OTHER_CODES = """
cmn zh|chi zh|cn zh|tib bo|cze cs|wel cy|ger de|gre el|baq eu|per fa|fre fr|arm hy|ice is|geo ka|jp ja|kr ko|mao mi
mac mk|may ms|bur my|dut nl|rum ro|slo sk|alb sq|jw jv|iw he|in id|ji yi|arb ar|pes fa|swh sw|zsm ms|lvs lv|ekk et
khk mn|uzn uz|azj az|npi ne|ory or|plt mg|zh-yue yue|zh-min-nan nan
"""
"""Older codes, and codes of the main language of a group, each with the code in the table. ``kr`` is Kanuri by ISO
639-1, but in speech data it means Korean, after the country."""

CHINESE = frozenset({"zh", "yue", "wuu", "nan", "hak", "gan", "hsn", "cdo", "lzh"})
"""Languages written in Chinese characters."""
UNSPACED = CHINESE | {"ja", "th", "lo", "km", "my", "bo", "dz"}
"""Languages that are written without spaces between words, for which a word error rate has no meaning."""


@dataclass(frozen=True)
class Language:
    """Language with its code and name."""

    code: str
    """Code by ISO 639-1, or by ISO 639-3 if that has none."""
    name: str
    """English name."""


def find_language(text: str) -> Language | None:
    """Find a language by code, tag or name in any case: ``zh``, ``zh-Hans-CN``, ``cmn``, ``Chinese``, ``中文``."""
    tag = "-".join(" ".join(text.split()).casefold().replace("_", "-").split("-"))
    if language := _LANGUAGES.get(tag):
        return language
    parts = tag.split("-")
    for count in range(len(parts) - 1, 0, -1):
        # A tag has script and country after the language; a name with a hyphen has not.
        if all(_is_subtag(part) for part in parts[count:]) and (language := _BY_CODE.get("-".join(parts[:count]))):
            return language
    return None


def language_code(text: str) -> str:
    """Return the code of a language given by code, tag or name.

    Raises:
        SamplesError: The table has no such language.
    """
    if not isinstance(text, str) or (language := find_language(text)) is None:
        shown = repr(str(text)[:40])
        raise SamplesError(f"{shown} is not a language; give a name or an ISO 639 code, such as Chinese or zh")
    return language.code


def language_name(code: str) -> str:
    """Return the English name of a language in the table, by its code."""
    return _BY_CODE[code].name


def _is_subtag(part: str) -> bool:
    """Return true for a script, a country or a variant by BCP 47, but not for two letters that are only a language."""
    if part in ("en", "ja", "ko", "zh"):  # not countries
        return False
    return (len(part) in (2, 4) and part.isalpha()) or (len(part) == 3 and part.isdigit()) or 5 <= len(part) <= 8


def _read_table() -> tuple[dict[str, Language], dict[str, Language]]:
    by_code: dict[str, Language] = {}
    everything: dict[str, Language] = {}
    for entry in "|".join(_TABLE.strip().splitlines()).split("|"):
        short, long, names = entry.split(" ", 2)
        known = [name.strip() for name in names.split(",")]
        language = Language(short, known[0])
        by_code |= {short: language, long: language}
        everything |= {name.casefold(): language for name in known}
    others = (entry.split() for entry in "|".join(_OTHER_CODES.strip().splitlines()).split("|"))
    by_code |= {other: by_code[code] for other, code in others}
    return by_code, everything | by_code


_BY_CODE, _LANGUAGES = _read_table()
