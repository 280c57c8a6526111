"""Numbers and names in words, for every presenter: numbers made short, names made safe."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))

UNDEFINED = "\N{EN DASH}"

FIRST_NAMED = 3

SAME_DIGITS = 12
"""Significant digits of an end that count; what lies behind them is the rounding of sums."""

BYTE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B"))


def number(value: float) -> str:
    """A drift in seven characters: scientific, "0" where it is exactly zero, a dash where it is not defined.

    >>> number(2.6e-7), number(0.0), number(float("inf"))
    ('2.6e-07', '0', '∞')
    """
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return "0" if value == 0 else f"{value:.1e}"


def percent(fraction: float) -> str:
    """A share; never "0 %" where there is something, nor "100 %" where something is left.

    >>> percent(0.0), percent(1e-9), percent(0.1234), percent(0.99999), percent(1.0)
    ('0 %', '<0.1 %', '12.3 %', '>99.9 %', '100 %')
    """
    if math.isnan(fraction):
        return UNDEFINED
    if fraction in (0.0, 1.0):
        return f"{fraction * 100:.0f} %"
    if fraction < 0.001:
        return "<0.1 %"
    return ">99.9 %" if fraction > 0.999 else f"{fraction * 100:.1f} %"


WHOLE_ALONE = 1e12
"""From here on a float is shown as it is: its digits behind the point are no knowledge."""


def end_text(value: float, show: Callable[[float], str], up: bool) -> str:
    """One end of an interval as `show` says numbers, rounded outwards: what is printed never claims more than is known.

    A lower end comes down to the next number of as many digits, an upper one goes up to it. A number that is one of
    these but for the rounding of sums (`SAME_DIGITS`) stays what it is.

    >>> two = "{:.2f}".format
    >>> end_text(0.9969, two, up=False), end_text(0.9902, two, up=True), end_text(1 - 0.7, two, up=True)
    ('0.99', '1.00', '0.30')
    >>> end_text(1e40, "{:.1e}".format, up=True)
    '1.0e+40'
    """
    text = show(value)
    if not math.isfinite(value) or abs(value) >= WHOLE_ALONE:
        return text
    shown = Decimal(text.strip("<>% ").replace(",", "")).as_tuple().exponent
    assert isinstance(shown, int)
    step = Decimal(1).scaleb(shown - 2 * text.endswith("%"))
    known = Decimal(f"{value:.{SAME_DIGITS - 1}e}")
    return show(float(known.quantize(step, ROUND_CEILING if up else ROUND_FLOOR)) + 0.0)  # never -0


def interval_text(low: float, high: float, show: Callable[[float], str]) -> str:
    """An interval as `[0.51, 0.70]`, each end rounded outwards by `end_text`; empty where it is not known.

    >>> interval_text(0.5149, 0.6951, "{:.2f}".format), interval_text(math.nan, 1.0, "{:.2f}".format)
    ('[0.51, 0.70]', '')
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{end_text(low, show, up=False)}, {end_text(high, show, up=True)}]"


def with_interval(value: float, low: float, high: float, show: Callable[[float], str]) -> str:
    """A number and its interval: `0.62 [0.51, 0.70]`; the interval is left out where it is not known."""
    return f"{show(value)} {interval_text(low, high, show)}".rstrip()


def amount(count: int, units: Iterable[tuple[float, str]] = UNITS) -> str:
    """A count in three digits and a unit.

    >>> amount(28_311_552), amount(999_999), amount(768)
    ('28.3 M', '1.00 M', '768')
    """
    for size, unit in units:
        if count >= size * 0.9995:
            scaled = count / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {unit}" if size > 1 else f"{count} {unit}"
    return str(count)


def count_of(count: int, noun: str) -> str:
    """A number and its noun: `1 tensor`, `2 tensors`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shape_text(shape: Sequence[int]) -> str:
    """A shape as `768x3072`; empty for a scalar."""
    return "x".join(map(str, shape))


def names_of(names: Sequence[str], limit: int = FIRST_NAMED) -> str:
    """The first names, and how many more there are.

    >>> names_of(["a", "b", "c"], limit=2)
    'a, b … and 1 more'
    """
    first = ", ".join(shorten(printable(name), 120) for name in names[:limit])
    return first if len(names) <= limit else f"{first} … and {len(names) - limit:,} more"


def layers_text(layers: Iterable[int]) -> str:
    """Layers in words: `layer 7`, `layers 0-4, 7`."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"layer{'s' if sum(map(len, runs)) > 1 else ''} {text}"


def place_text(pair: str, concept: str) -> str:
    """A pair and a concept of a campaign; a comparison has no concept.

    >>> place_text("npo", "hobbits"), place_text("npo", "")
    ('npo, hobbits', 'npo')
    """
    return f"{pair}, {concept}" if concept else pair


SETTING_LENGTH = 60
"""Characters of a setting in a line of them."""


def settings_line(settings: Mapping[str, str], hidden: Container[str]) -> str:
    """Settings on one line, without those that are hidden."""
    shown = {name: value for name, value in settings.items() if name not in hidden}
    return "; ".join(f"{printable(name)} {shorten(printable(value), SETTING_LENGTH)}" for name, value in shown.items())
