"""What is printed of an interval never claims more than is known: low ends come down, high ends go up, everywhere."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ckdiff.audit.verdict.sentences import score_text as sentence
from ckdiff.audit.verdict.sentences import surely_text
from ckdiff.report.formats import say
from ckdiff.report.page.document import to_html
from ckdiff.report.schema.probe import Curve
from ckdiff.report.words.behaviour import share_text, short_number
from ckdiff.report.words.numbers import UNDEFINED, end_text, interval_text
from ckdiff.report.words.probe import loss_text, score_text
from tests import reports

if TYPE_CHECKING:
    from collections.abc import Callable

CODE = Path(__file__).parent.parent / "ckdiff"
SHOWN: dict[str, Callable[[float], str]] = {
    "score": score_text,
    "share": share_text,
    "number": short_number,
    "loss": loss_text,
    "two": "{:.2f}".format,
    "percent": "{:.1%}".format,
}


@pytest.mark.parametrize(
    ("show", "value", "low", "high"),
    [
        ("two", 0.9969, "0.99", "1.00"),
        ("two", 0.25, "0.25", "0.25"),
        ("two", 1 - 0.7, "0.30", "0.30"),
        ("two", 0.1 + 0.2, "0.30", "0.30"),
        ("two", 0.30001, "0.30", "0.31"),
        ("two", -0.0004, "-0.01", "0.00"),
        ("two", 0.0, "0.00", "0.00"),
        ("score", 0.7999, "0.79", "0.80"),
        ("score", -0.001, "-0.01", "0.00"),
        ("score", 9.991, "9.99", "10"),
        ("score", 99.2, "99", ">99"),
        ("score", -99.2, "<-99", "-99"),
        ("score", -4e5, "<-99", "<-99"),
        ("score", float("nan"), UNDEFINED, UNDEFINED),
        ("share", 0.003, "0", "0.01"),
        ("share", 0.997, "0.99", "1"),
        ("share", 0.344, "0.34", "0.35"),
        ("share", 1.0, "1", "1"),
        ("number", 3.46e-4, "3.4e-04", "3.5e-04"),
        ("number", -1234.5, "-1235", "-1234"),
        ("number", float("inf"), "∞", "∞"),
        ("loss", 0.12345, "0.123", "0.124"),
        ("percent", 0.12345, "12.3%", "12.4%"),
        ("percent", 0.125, "12.5%", "12.5%"),
    ],
)
def test_ends_are_rounded_outwards(show: str, value: float, low: str, high: str) -> None:
    assert (end_text(value, SHOWN[show], up=False), end_text(value, SHOWN[show], up=True)) == (low, high)


@given(st.floats(-99, 99), st.sampled_from(["score", "number", "loss", "two"]))
def test_no_end_is_printed_inside_its_interval(value: float, show: str) -> None:
    low, high = (float(end_text(value, SHOWN[show], up=up).strip("<>")) for up in (False, True))
    rounding = 1e-11 * abs(value)
    assert low <= value + rounding
    assert high >= value - rounding


def test_an_interval_without_both_ends_is_none() -> None:
    for ends in ((0.1, np.nan), (np.nan, 0.1)):
        assert interval_text(*ends, score_text) == ""
    assert interval_text(0.121, 0.129, score_text) == "[0.12, 0.13]"


def test_sentences_are_sure_of_no_more_than_they_know() -> None:
    row = reports.explanation("coeff", kl=0.9985, kl_low=0.9969, kl_high=0.9991)
    assert surely_text(row) == "surely more than 0.99"
    assert sentence(row) == "1.00 [0.99, 1.00]"


# ---------------------------------------------------------------------------------------------------------- formats

LOW, HIGH = 0.4969, 0.5031
"""Ends that both look like 0.50 where they are rounded as other numbers are."""


def narrowed(value: Any) -> Any:
    """The same record, every interval in it from `LOW` to `HIGH`."""
    if isinstance(value, Curve):
        return Curve(*(np.full_like(value.score, end) for end in (0.5, LOW, HIGH, LOW, HIGH)))
    if isinstance(value, tuple):
        return tuple(map(narrowed, value))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    names = [field.name for field in dataclasses.fields(value) if field.init]
    ends = {name: LOW if name.endswith("low") else HIGH for name in names if re.search("low$|high$", name)}
    return dataclasses.replace(value, **({name: narrowed(getattr(value, name)) for name in names} | ends))


def printed(name: str) -> str:
    full = reports.report(
        reports.comparison(),
        reports.probe(),
        reports.behaviour(),
        reports.verdict(reason="", side_effects=(), rules=()),
        reports.attacks(),
    )
    found = narrowed(full)
    if name == "page":
        return to_html(found)
    text = io.StringIO()
    Console(file=text, width=400, color_system=None).print(say(found, name), markup=False)
    return text.getvalue()


@pytest.mark.parametrize(("name", "least"), [("table", 12), ("md", 12), ("page", 12)])
def test_every_format_rounds_outwards(name: str, least: int) -> None:
    ends = re.findall(r"\[(-?\d+\.\d+), (-?\d+\.\d+)\\?\]", printed(name))
    assert set(ends) == {("0.49", "0.51")}
    assert len(ends) >= least


def test_no_other_code_formats_an_end() -> None:
    """One function rounds ends: nothing else formats what is called low or high by itself."""
    alone = re.compile(r"\{[^{}]*(low|high)\b(\[[^]]*\])?:[^{}]*[f%]\}|(score|share|loss)_text\([^()]*\.(low|high)\)")
    found = [
        f"{path.relative_to(CODE)}: {line.strip()}"
        for path in sorted(CODE.rglob("*.py"))
        for line in path.read_text().splitlines()
        if alone.search(line)
    ]
    assert found == []
