"""How an interval was made stands beside the figures, in every form that people read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ckdiff.report.formats import say
from ckdiff.report.page.document import to_html
from ckdiff.report.terminal.view import to_view
from ckdiff.report.words.sections import Selection
from ckdiff.scoring.scores import BEFORE_CLUSTERS, METHOD
from tests.reports import attacks, behaviour, depth, probe, report
from tests.test_tables import rendered

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report


def made(method: str) -> Report:
    """A report whose sections say that of their intervals."""
    said = {"bootstrap": method}
    probed, asked = replace(probe(), settings=said), replace(behaviour(), settings=said)
    return report(None, probed, asked, attack=attacks(), depth=depth())


def table(found: Report, section: str) -> str:
    """The section on a terminal, on one line."""
    return " ".join(rendered(to_view(found, Selection(section))).split())


@pytest.mark.parametrize(
    ("method", "by"),
    [
        (METHOD, "bootstrap-t over clusters of questions"),
        (BEFORE_CLUSTERS, "bootstrap-t over questions"),
        ("", "bootstrap over questions"),
    ],
)
def test_every_form_says_how_intervals_were_made(method: str, by: str) -> None:
    found = made(method)
    for text in (
        *(table(found, one) for one in ("probe", "behaviour")),
        *(str(say(found, "md", Selection(one))) for one in ("probe", "behaviour")),
        to_html(found),
    ):
        assert f"by {by}" in text
    exact = "no wider than Clopper and Pearson's"
    text = table(found, "behaviour")
    assert (exact in text) == ("bootstrap-t" in by)
    assert f"95 % interval by {by.partition(' ')[0]} over texts" in text


@pytest.mark.parametrize("section", ["attack", "depth"])
@pytest.mark.parametrize("form", ["table", "md"])
def test_attacks_and_depth_say_it_too(section: str, form: str) -> None:
    said = say(made(METHOD), form, Selection(section))
    text = " ".join((said if isinstance(said, str) else rendered(said)).split())
    assert "In brackets: 95 %" in text or "in brackets: 95 %" in text
    assert "intervals by bootstrap-t over clusters of questions" in text
