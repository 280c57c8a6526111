"""Scripts whose words no blank divides: `set_apart(text)` puts blanks around each of their characters."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right

RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x312F),  # radicals, CJK punctuation, kana, bopomofo
    (0x3190, 0x4DBF),  # kanbun, strokes, enclosed forms, ideographs
    (0x4E00, 0xA4CF),  # ideographs, Yi
    (0xA980, 0xA9FF),  # Javanese, more of Myanmar
    (0xAA60, 0xAADF),  # more of Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0xFE10, 0xFE1F),  # vertical forms
    (0xFE30, 0xFE4F),  # compatibility forms
    (0xFF00, 0xFFEF),  # full and half width
    (0x1AFF0, 0x1B16F),  # more kana
    (0x20000, 0x3FFFF),  # more ideographs
)
"""First and last characters; Korean divides its words by blanks and is not among them."""
FIRSTS = tuple(first for first, _ in RANGES)


def set_apart(text: str) -> str:
    """A text with a blank around every character of such a script; its marks (vowel signs, tones) stay with it.

    >>> set_apart("Tokyo\u306f\u6771\u4eac.")
    'Tokyo \u306f \u6771 \u4eac .'
    """
    if not has_blankless(text):
        return text
    parts: list[str] = []
    before = False
    for char in text:
        if before and unicodedata.category(char).startswith("M"):
            parts[-1] += char
            continue
        here = is_blankless(char)
        parts.append(f" {char}" if here or before else char)
        before = here
    return "".join(parts)


def has_blankless(text: str) -> bool:
    """Whether a text holds a character of such a script."""
    return not text.isascii() and any(map(is_blankless, text))


def is_blankless(char: str) -> bool:
    """Whether a character is one of such a script."""
    place = bisect_right(FIRSTS, ord(char)) - 1
    return place >= 0 and ord(char) <= RANGES[place][1]
