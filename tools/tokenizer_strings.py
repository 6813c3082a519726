"""Strings that bring out the differences between tokenizers; the same for the same seed and count."""

from __future__ import annotations

import ast
import random
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

METADATA_MEMBER = "open_clip/zero_shot_metadata.py"

_PLAIN = (
    "a the photo image dog cat it's we're they'll I'd I've I'm don't CAN'T naïve café Zürich ÅNGSTRÖM straße "
    "İstanbul ΟΔΥΣΣΕΥΣ ΣΊΣΥΦΟΣ ﬁne ﬆop K ſun 'ſ Ⅷ ½ ² 3.14 1,000 2026-11-23 C++ c# f(x) e-mail@host.org #tag "
    "http://example.org/a?b=c&d=e AT&T R&D :-) <3 \\o/ hot-dog rock'n'roll o'clock ''s 'S 'T 'RE 'LL"
)
_WORDS = _PLAIN.split()
_SPECIALS = (
    "<|startoftext|>", "<|endoftext|>", "<|STARTOFTEXT|>", "<|EndOfText|>", "<|ſtartoftext|>", "<start_of_text>",
    "<end_of_text>", "<|startoftext", "startoftext|>", "<|", "|>", "</w>", "<w>", "a</w>",
)  # fmt: skip
_ENTITIES = (
    "&amp;", "&lt;", "&gt;", "&quot;", "&nbsp;", "&eacute;", "&amp;amp;", "&amp;eacute;", "&amp;lt;b&amp;gt;", "&#39;",
    "&#x27;", "&#x1F600;", "&amp;#233;", "&#0;", "&#28;", "&#x85;", "&#x80;", "&#xD800;", "&#1114112;", "&lt", "&amp",
    "&notit;", "&copy", "&;", "&", "&#", "&#x;", "&amp;amp;amp;", "&lt;|startoftext|&gt;", "&NotEqualTilde;", "&zwj;",
)  # fmt: skip
_BLANKS = (
    " ", "  ", "\t", "\n", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680", "\u180e",
    "\u2000", "\u2003", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff",
)  # fmt: skip
_EMOJI = (
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "👨🏾‍🚀", "🏳️‍🌈", "🇩🇪", "🇨🇳🇯🇵", "❤️", "❤", "☎︎", "1️⃣", "#️⃣", "🧑‍💻", "🐈‍⬛",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "☃", "\u200d", "\ufe0f", "🏿",
)  # fmt: skip
_SCRIPTS = (
    "狗的照片 一只坐在草地上的猫 漢字 﨎 〇 々 〜 「引用」 ，。！？ ＡＢＣ　１２３ ｶﾞｷﾞ",
    "犬の写真 ひらがな カタカナ が が ゔ ヷ ー 〆 ㍿ ①②③ ㈱",
    "한국어 사진 각 각 ㄱㄴㄷ 개의 사진",
    "صورة كلب العربية ١٢٣ مُحَمَّد ﷺ ﻻ لا ـ ؟ ، ی ک",
    "תמונה של כלב שָׁלוֹם ״״ ׳ ﬡ יִ",
    "фотография собаки Ёлка ѐ й Ї ѣ ҈",
    "कुत्ते की तस्वीर क्षि १२३ ज़ ড় ക്‍ഷ தமிழ் ಕನ್ನಡ ภาพสุนัข ๑๒ ຫມາ ခွေး ཁྱི་ ខ្មែរ",
    "φωτογραφία σκύλου ὀδυσσεύς ᾳ ᾼ ᾳͅ ͅ ά ά ϐ ς",
    "ảnh con chó Việt Nam ệ Å Å Å ñ ñ ẞ ß ŉ ǆ ǅ Ǆ ﬃ ı İ i̇",
    "𝔥𝔢𝔩𝔩𝔬 𝟙𝟚𝟛 𐐀𐐨 𒀀 𐎀 𠀀 𪚥 🄰 🅰 ㎏ ℃ ℵ Ω K ª º ʰ ˇ ˈ ˢ ー",
)
_MARKS = "!?.,;:'\"`´‘’“”«»‹›…–—-_/\\|()[]{}<>@#$%^&*+=~§¶†‡•°±×÷€£¥©®™"
_PLANES = ((0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x7FF), (0x800, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x3FFFF),
           (0x40000, 0xDFFFF), (0xE0000, 0x10FFFF))  # fmt: skip


def read_prompts(wheel: Path) -> list[str]:
    """List the 80 templates x 1,000 class names of ImageNet from the open_clip wheel, templates outermost."""
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read(METADATA_MEMBER).decode()
    values = {
        node.targets[0].id: node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    names = ast.literal_eval(values["IMAGENET_CLASSNAMES"])
    templates: list[Callable[[str], str]] = eval(ast.unparse(values["OPENAI_IMAGENET_TEMPLATES"]))
    return [template(name) for template in templates for name in names]


def make_strings(prompts: list[str], *, seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Make strings.

    Args:
        prompts: what `read_prompts` gave; a third of the strings are taken from them.
        seed: of the random choices.
        count: how many.

    Returns:
        Pairs of the kind of string and the string.
    """
    chance = random.Random(seed)
    kinds: dict[str, Callable[[random.Random], str]] = {
        "unicode": _random_unicode,
        "ascii": _random_ascii,
        "scripts": lambda chance: _join(chance, [part for line in _SCRIPTS for part in line.split(" ")], ("", " ")),
        "emoji": lambda chance: _join(chance, [*_EMOJI, *_WORDS], ("", " ")),
        "entities": lambda chance: _join(chance, [*_ENTITIES, *_WORDS], ("", " ")),
        "blanks": lambda chance: _join(chance, _WORDS, _BLANKS, edges=True),
        "control": _controls,
        "mojibake": _mojibake,
        "specials": lambda chance: _join(chance, [*_SPECIALS, *_WORDS, *_MARKS], ("", " ", "", "!")),
        "case": _mixed_case,
        "runs": lambda chance: "".join(
            chance.choice((*"aeolsth1!. ", "ab", "ha", "é", "的")) * chance.randint(1, 30) for _ in range(4)
        ),
    }
    third = count // 3
    yield from (("prompts", prompt) for prompt in chance.sample(prompts, min(third, len(prompts))))
    names = list(kinds)
    for number in range(count - min(third, len(prompts))):
        kind = names[number % len(names)]
        yield kind, kinds[kind](chance)


def is_settled(text: str) -> bool:
    """Whether every character was there in this Python's Unicode, so that later versions treat it the same."""
    return all(unicodedata.category(character) != "Cn" for character in text)


def _join(chance: random.Random, parts: list[str], separators: tuple[str, ...], *, edges: bool = False) -> str:
    chosen = [chance.choice(parts) + chance.choice(separators) for _ in range(chance.randint(1, 10))]
    return (chance.choice(separators) if edges else "") + "".join(chosen)


def _random_unicode(chance: random.Random) -> str:
    planes = [chance.choice(_PLANES) for _ in range(3)]
    return "".join(chr(chance.randint(*chance.choice(planes))) for _ in range(chance.randint(1, 24)))


def _random_ascii(chance: random.Random) -> str:
    return "".join(chr(chance.randint(0x20, 0x7E)) for _ in range(chance.randint(1, 40)))


def _controls(chance: random.Random) -> str:
    codes = [*range(0x20), *range(0x7F, 0xA0), 0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), 0xD800, 0xDFFF,
             *range(0xFFF0, 0x10000), 0xFDD0, 0x1FFFE, 0xE0001]  # fmt: skip
    words = [*_WORDS, "\x1b[31m", "\x1b[0m", "\ud83d\ude00"]
    return "".join(
        chance.choice((chr(chance.choice(codes)), chance.choice(words), " ")) for _ in range(chance.randint(1, 14))
    )


def _mojibake(chance: random.Random) -> str:
    text = _join(chance, [*_EMOJI, *(part for line in _SCRIPTS for part in line.split(" ")), *_MARKS, *_WORDS], (" ",))
    for _ in range(chance.randint(1, 2)):
        wrong = chance.choice(("latin-1", "cp1252", "cp1251", "cp1250", "cp437", "mac_roman"))
        text = text.encode("utf-8").decode(wrong, "replace")
    return text


def _mixed_case(chance: random.Random) -> str:
    text = _join(chance, [*_WORDS, *_SCRIPTS[5].split(), *_SCRIPTS[7].split(), *_SCRIPTS[8].split()], ("", " "))
    return "".join(chance.choice((str.upper, str.lower, str.title, str))(character) for character in text)
