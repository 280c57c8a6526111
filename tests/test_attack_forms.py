"""The questions in other clothes: all forms are said together, and what each of them brings is what it brings alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ckdiff.attacks import forms
from ckdiff.attacks.battery import Battery, run
from ckdiff.attacks.case import Options
from ckdiff.attacks.cost import Asked, estimate
from ckdiff.attacks.evidence import Evidence, Made, brought_back
from ckdiff.attacks.table import Work
from ckdiff.probes.forcing import read_apart
from ckdiff.probes.prompts import Prompt
from ckdiff.scoring.matching import z_of
from tests.test_attack_relearn import case_of, read

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.attacks.case import Case, Outcome
    from ckdiff.report.schema.attack import Attacked


@pytest.fixture(scope="module")
def case(learned: Path) -> Case:
    """A base that knows its facts, beside itself."""
    found = case_of(learned, "base")
    read(found, "base", "unlearned")
    return found


@pytest.mark.parametrize("side", ["base", "unlearned"])
def test_each_form_brings_what_its_prompts_bring_alone(case: Case, side: Attacked) -> None:
    live = case.job.pair.base
    with torch.inference_mode():
        found = list(forms.outcomes(case, live, side))
        asked = [form for form in forms._prompts(case) if not form[2]]
        assert [one.setting for one in found if one.reading is not None] == [name for name, _, _ in asked]
        replies = []
        for one, (name, ids, _) in zip((one for one in found if one.reading is not None), asked, strict=True):
            with case.loaded(live):
                alone = case.read(live, side, ids, matching=side != "base" or name == forms.AS_ASKED)
                replies.append(case.say(live, ids))
            reading = one.reading
            assert reading is not None
            assert reading.said == case.hits(replies[-1], alone.said)
            assert np.allclose(reading.level, alone.level, atol=1e-5)
            assert np.allclose(reading.table, alone.table, atol=1e-5, equal_nan=True)
            assert reading.unrelated == alone.unrelated
    # Other clothes bring other replies, so that none stands in another's place.
    assert len({tuple(one) for one in replies}) > len(replies) / 2


def test_unrelated_answers_are_read_once(case: Case) -> None:
    """The weights are the same in every form, and so is what they make of other questions."""
    live = case.job.pair.base
    with torch.inference_mode():
        texts = [one.reading.texts for one in forms.outcomes(case, live, "base") if one.reading is not None]
        with case.loaded(live):
            whole, part = (case.read(live, "base", matching=False, beside=yes) for yes in (True, False))
    assert texts[1:] == [2 * len(case.sought)] * (len(texts) - 1)
    assert whole.texts - part.texts == len(case.own["base"]) > 0
    assert np.isnan(part.unrelated)


def test_of_unrelated_answers_the_first_tokens_are_looked_at(
    case: Case, learned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckdiff.attacks.opening.UNRELATED_TOKENS", 1)
    short = case_of(learned, "base")
    read(short, "base")
    whole = [one.answer for one in case.own["base"]]
    assert [one.answer for one in short.own["base"]] == [answer[:1] for answer in whole] != whole
    assert short.plain["base"].unrelated == 1.0


def test_each_setting_says_what_it_could_have_shown(case: Case) -> None:
    """At that share of the base's own matching z is as high as one pairing in twenty has it, and below it is not."""
    live = case.job.pair.base
    with torch.inference_mode():
        made = [
            Made("forms", side, outcome)
            for side in ("base", "unlearned")
            for outcome in list(forms.outcomes(case, live, side))[:3]
        ]
    evidence = Evidence(case, made, None)
    rows = evidence.rows()
    mine = [row.detectable for row in rows if row.side == "unlearned"]
    assert [row.detectable for row in rows if row.side == "base"] == pytest.approx([np.nan] * 3, nan_ok=True)
    none, full = case.plain["unlearned"].table.copy(), case.plain["base"].table
    rest = none - none.mean(1, keepdims=True) - none.mean(0, keepdims=True) + none.mean()
    np.fill_diagonal(none, none.diagonal() - rest.diagonal())
    for share, one in zip(mine, made[3:], strict=True):
        assert one.outcome.reading is not None
        threshold = evidence._match([one.outcome.reading.table], evidence.groups).threshold
        assert z_of((1 - share) * none + share * full, evidence.groups) == pytest.approx(threshold, abs=1e-3)
    (tier,) = evidence.tiers(["forms"])
    assert 0 < min(mine) <= tier.detectable < 1


def test_a_plan_counts_what_goes_through_the_models(case: Case) -> None:
    names, options = ("forms", "samples", "quantise", "prune", "blend"), Options(samples=3)
    found = run(case.task, Battery(names, options=options), known=case.said)
    texts, *_, seconds = estimate(case.task, names, options, reference=False)
    for name in names:
        made = sum(row.texts for row in found.rows if row.attack == name)
        assert 0.75 * texts[name] < made <= texts[name], name
    assert sorted(seconds) == [0, 1]
    more = estimate(case.task, names, options, reference=True)[0]
    assert [more[name] > texts[name] for name in names] == [True] * 4 + [False]


def test_prompts_are_counted_once_for_all_answers() -> None:
    asked = Asked(questions=8, unrelated=2, prompt=100.0, answer=3.0, tokens=30)
    assert asked.positions(Work(matched=1)) == 8 * (100 + 8 * 3) + 2 * (100 + 16)
    assert asked.positions(Work(own=1)) == 8 * 103 + 2 * 116
    assert asked.positions(Work(said=2)) == 2 * 8 * (100 + 3 + 8)
    assert asked.positions(Work(steps=5)) == 5 * 3 * 8 * 103


def outcomes_of(case: Case, monkeypatch: pytest.MonkeyPatch, **templates: str) -> dict[str, Outcome]:
    """By name what templates bring of a base that knows everything, as if it were the unlearned model."""
    monkeypatch.setattr(forms, "FORMS", templates)
    with torch.inference_mode():
        return {one.setting: one for one in forms.outcomes(case, case.job.pair.base, "unlearned")}


def test_what_a_form_gives_away_is_not_scored(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an answer of two tokens that is told one: the other alone is matched, and the fact still counts."""
    one = next(one for one in case.sought if len(one.scored) > 1 and one.counts)
    piece = case.decode([one.matched[one.scored[0]]])
    words = one.text.split()
    found = outcomes_of(
        case,
        monkeypatch,
        part=f"{piece} {{q}}",
        whole=f"{one.text} {{q}}",
        turned=f"{' '.join(reversed(words))} {{q}}",
        plain="{q} {q}",
    )
    part, whole, turned, plain = (found[name] for name in ("part", "whole", "turned", "plain"))
    assert (part.decides, plain.decides, plain.note, plain.held_out) == (True, True, "", None)
    assert part.note.startswith(f"holds {piece.strip().lower()}")
    assert part.note.endswith("not scored")
    assert case.sought.index(one) in (part.held_out or ())
    at, ids = case.sought.index(one), next(ids for name, ids, _ in forms._prompts(case) if name == "part")
    mine = forms.without(case, forms.leaking(case, ids)).sought[at]
    assert 0 < len(mine.scored) < len(one.scored)
    with torch.inference_mode(), case.loaded(case.job.pair.base) as live:
        (read,) = read_apart(live, [Prompt(one.question, ids[at], one.matched)], case.way)
    assert part.reading is not None
    assert [other.cluster for other in case.sought].count(one.cluster) == 1
    own = part.reading.table[one.cluster, one.cluster]
    assert own == pytest.approx(float(read.log_p[list(mine.scored)].mean()), abs=1e-5)
    # An answer that is told whole leaves nothing to match, and proves nothing when it comes back.
    assert (whole.decides, whole.note.endswith("shown, never decides")) == (False, True)
    assert not turned.decides
    for outcome, proven in ((part, {one.cluster}), (whole, set()), (turned, set())):
        assert outcome.reading is not None
        said = replace(outcome, reading=replace(outcome.reading, said={at: one.text}))
        assert brought_back(case, Made("forms", "unlearned", said)) == proven


def test_an_answer_that_is_told_whole_is_named(case: Case) -> None:
    one = next(one for one in case.sought if one.counts)
    spelled = case.job.tokenizer(one.text, add_special_tokens=False)["input_ids"]
    told = forms.leaking(case, [(*other.ids, *spelled) for other in case.sought])
    assert one.words in told
    # However it was cut: of what is told whole no piece is new.
    mine = forms.without(case, (one.words,)).sought[case.sought.index(one)]
    assert (mine.scored, mine.counts) == ((), False)
    assert forms.without(case, ()) is case
