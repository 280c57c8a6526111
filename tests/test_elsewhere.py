"""What an audit finds lost where nobody asked: the same as `discover` finds, said beside what was asked about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.calls.audit import audit_pair, keep_older
from ckdiff.calls.discover import discover
from ckdiff.calls.elsewhere import discovering
from ckdiff.errors import CkdiffError
from ckdiff.progress import Listener
from ckdiff.report.words.discovery import elsewhere
from ckdiff.report.words.summary import lost_elsewhere, summary_facts
from tests.reports import behaviour, discovery, report, verdict
from tests.test_probe_cli import ckdiff, made, place
from tests.test_resuming import AUDIT, Told, bytes_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ckdiff", "made", "place"]


def test_an_audit_looks_where_nobody_asks_as_discover_does(place: Path) -> None:
    """The questions are about one thing; loss is looked for in texts of nothing."""
    spec, told = replace(AUDIT, discover=True), Told()
    found = audit_pair(spec, told.listener())
    assert found.discovery is not None
    alone = replace(found, discovery=discover(discovering(spec)).discovery)
    assert bytes_of(alone, "alone.h5") == bytes_of(found, "found.h5")
    assert [name for name, _, _ in told.parts] == ["compare", "behave", "probe", "discover"]
    assert told.parts[-1][1:] == (4, 4)
    plain = audit_pair(AUDIT)
    assert plain.discovery is None
    assert replace(found, discovery=None).verdict == plain.verdict
    # What an earlier audit discovered asks nothing, and stays.
    assert bytes_of(keep_older(found, plain, Listener()), "k.h5") == bytes_of(found, "found.h5")


@pytest.mark.parametrize(
    ("changes", "asked", "says"),
    [
        ({"outcome": "none", "topic": ""}, (), "nothing else that was lost stands out above noise"),
        ({"outcome": "ruined", "ruin": 0.5}, (), "everything: 50.0 % of what the base knows"),
        ({}, ("Who rules Velmar?", "the heron"), "stand out among what was lost"),
    ],
)
def test_every_outcome_has_its_clause(changes: dict[str, Any], asked: tuple[str, ...], says: str) -> None:
    assert says in elsewhere(replace(discovery(), **changes), asked)


def test_what_was_asked_about_is_lost_nowhere_else() -> None:
    found = discovery()
    first, *others = [one for one in found.words if one.content]
    sure = replace(found, words=(replace(first, word="Velmar", p=0.001), *(replace(one, p=1.0) for one in others)))
    sure = replace(sure, candidates=tuple(replace(one, p=1.0) for one in sure.candidates))
    assert elsewhere(sure, ["Who founded VELMAR?"]) == 'what stands out was asked about: "Velmar"'
    assert elsewhere(sure, ["Who founded Vel mar?"]) == '"Velmar" stands out among what was lost'
    best = replace(sure, candidates=(replace(sure.candidates[0], name="The Odd Town", p=0.01), *sure.candidates[1:]))
    assert elsewhere(best, ["velmar", "the town", "is odd"]).startswith('what stands out was asked about: "The Odd')
    assert elsewhere(best, ["velmar", "the town"]) == '"The Odd Town" stands out among what was lost'


@pytest.mark.parametrize(
    ("answer", "given", "says"),
    [("A Harry.", "A Potter.", "asked about"), ("A.", "A Potter.", "among what"), ("A Harry.", "", "among what")],
)
def test_what_the_base_answers_was_asked_about(answer: str, given: str, says: str) -> None:
    said, found = behaviour(), discovery(words=())
    target = next(one for one in said.answers if one.name == "target")
    row = replace(target.questions[0], text="Who?", answer_base=answer, answer_given=given)
    said = replace(said, answers=(replace(target, questions=(row,)),))
    best = replace(found, candidates=(replace(found.candidates[0], p=0.01), *found.candidates[1:]))
    assert says in lost_elsewhere(report(None, behaviour=said), best)


def test_an_audit_looks_elsewhere_with_the_tokenizer_that_it_was_given(place: Path) -> None:
    """Without any it is refused before anything is done."""
    apart = place / "apart"
    apart.mkdir()
    for path in (place / "base").glob("tokenizer*"):
        path.rename(apart / path.name)
    told, asked = Told(), replace(AUDIT, settings=replace(AUDIT.settings, tokenizer=apart))
    assert audit_pair(replace(asked, discover=True)).discovery is not None
    with pytest.raises(CkdiffError, match="no tokenizer beside the weights"):
        audit_pair(replace(AUDIT, discover=True), told.listener())
    assert told.parts == []


def test_the_first_screen_says_it_where_somebody_looked() -> None:
    whole = report(None, behaviour=behaviour(), discovery=discovery(), verdict=verdict())
    facts = dict(summary_facts(whole, verdict(), "r.h5"))
    assert "stand" in facts["elsewhere"]
    assert "elsewhere" not in dict(summary_facts(replace(whole, discovery=None), verdict(), "r.h5"))
