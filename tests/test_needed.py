"""Windows of what a verdict places alone: the same statements, fewer runs, and nothing that a gate would not see."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ckdiff.audit.gate.measures import windows_asked
from ckdiff.audit.gate.policy import parse_policy, read_policy
from ckdiff.audit.verdict.needed import lacking_modes, next_modes
from ckdiff.audit.verdict.verdict import judge
from ckdiff.audit.verify.differences import Differences
from ckdiff.audit.verify.probe import check_probe
from ckdiff.audit.verify.report import measures_not_met
from ckdiff.calls.audit import audit_pair
from ckdiff.calls.merge import combine_probes
from ckdiff.calls.specs import AuditSpec, audit_settings
from ckdiff.modes import MODES, without_window
from ckdiff.probes.kept_sweep import PartialError
from ckdiff.probes.outline import outline
from ckdiff.probes.preparation import prepare
from ckdiff.probes.probe import run
from ckdiff.progress import Listener, Stopped
from ckdiff.questions.questions import given_questions
from ckdiff.report.formats import say
from ckdiff.report.page.document import to_html
from ckdiff.report.words.probe import spared_text
from ckdiff.report.words.sections import WHOLE as EVERY_SECTION
from ckdiff.scoring.settings import Settings
from ckdiff.weights.opening import open_checkpoint
from tests.judged import EDITED, SUPPRESSED, at_layer, both, probed
from tests.reports import same
from tests.test_probe_cli import ASKED, made, place
from tests.test_tables import rendered
from tests.test_verdict import CASES, TWO, suppressed

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from ckdiff.probes.preparation import Job
    from ckdiff.report.schema.probe import Probe
    from ckdiff.report.schema.report import Report

__all__ = ["made", "place"]  # fixtures

SPREAD = {**SUPPRESSED, **at_layer("coeff", 4, 0.3, 0.7)}
"""No window of the coefficients is enough."""


def without_windows(found: Report, held: Collection[str] = ()) -> Report:
    """The report as an audit has it that has swept the windows of these modes."""
    if found.probe is None:
        return found
    runs = [one for one in found.probe.runs if without_window(one.mode, one.variant) or one.mode in held]
    settings = {**found.probe.settings, "windows": "needed"}
    return replace(found, probe=replace(found.probe, runs=tuple(runs), settings=settings))


def swept(found: Report) -> tuple[Report, list[tuple[str, ...]]]:
    """What an audit ends in, and the modes whose windows it sweeps in each round."""
    held: list[str] = []
    rounds: list[tuple[str, ...]] = []
    while True:
        part = without_windows(found, held)
        more = tuple(mode for mode in next_modes(part) if mode not in held)
        if not more:
            return part, rounds
        rounds.append(more)
        held += more


WHOLE = [case for case in CASES if case[0] != "not all put back"]
"""Of what nobody put back in the whole model, every window is swept."""


@pytest.mark.parametrize("found", [case[2] for case in WHOLE], ids=[case[0] for case in WHOLE])
def test_every_statement_is_that_of_all_windows(found: Report) -> None:
    part, _ = swept(found)
    one, other = judge(found), judge(part)
    assert (one.label, one.component, one.layers, one.knowledge) == (
        other.label,
        other.component,
        other.layers,
        other.knowledge,
    )
    assert lacking_modes(part) == ()


@pytest.mark.parametrize(
    ("scores", "rounds"),
    [
        (SUPPRESSED, [("coeff",)]),
        # A larger mode is looked at only where no window of the smaller is enough.
        (SPREAD, [("coeff",), ("attn+coeff",)]),
        ({**SPREAD, **both("attn", 0.95, 0.9)}, [("coeff",), ("attn",), ("attn+coeff",)]),
        (EDITED["keys"], [("keys",)]),
        (TWO, [("keys", "values")]),
        (both("coeff", 0.2, 0.3), []),
    ],
)
def test_which_windows_are_swept_follows_from_the_scores(scores: object, rounds: list[tuple[str, ...]]) -> None:
    found = suppressed(probe=probed(scores))  # type: ignore[arg-type]
    assert swept(found)[1] == rounds


def test_a_window_that_is_there_in_one_direction_only_is_swept_anew() -> None:
    found = without_windows(suppressed(), ("coeff",))
    assert found.probe is not None
    runs = [one for one in found.probe.runs if (one.mode, one.variant, one.direction) != ("coeff", "open", "break")]
    half = replace(found, probe=replace(found.probe, runs=tuple(runs)))
    assert (lacking_modes(found), lacking_modes(half)) == ((), ("coeff",))


def test_a_report_says_which_curves_are_not_there() -> None:
    part, _ = swept(suppressed())
    assert part.probe is not None
    assert spared_text(part.probe).startswith("of values, attn, attn+coeff, keys, mlp, gate, router, attn-weights the ")
    assert spared_text(probed(SUPPRESSED)) == ""
    every = without_windows(suppressed(), MODES).probe
    assert every is not None
    assert spared_text(every) == ""


def test_a_variant_without_runs_is_no_contradiction_where_windows_were_not_needed() -> None:
    part = without_windows(suppressed()).probe
    assert part is not None
    part = replace(part, runs=tuple(one for one in part.runs if one.variant == "whole"))

    def lacking(probe: Probe) -> list[str]:
        found = Differences()
        check_probe(probe, found)
        return [one.where for one in found.found if one.where == "probe: runs of the variants asked for"]

    assert lacking(part) == []
    assert len(lacking(replace(part, settings={**part.settings, "windows": "all"}))) == 1
    only = tuple(one for one in without_windows(suppressed()).probe.runs if one.variant == "open")  # type: ignore[union-attr]
    assert len(lacking(replace(part, runs=only))) == 1


def test_scores_that_cannot_be_read_meet_no_policy() -> None:
    part = without_windows(suppressed(), ("coeff",))
    assert part.probe is not None
    runs = tuple(replace(one, first=one.first[:0]) for one in part.probe.runs)
    broken = replace(part, probe=replace(part.probe, runs=runs))
    (said,) = measures_not_met(broken, read_policy())
    assert (said.name, said.outcome) == ("measure.windows", "inconclusive")
    assert measures_not_met(part, read_policy()) == ()


def test_a_policy_asks_for_the_windows_that_it_holds_to_a_score() -> None:
    row = '[[fail.scores]]\nmode = "{}"\nvariant = "{}"\nat_least = 0.5\n'
    text = row.format("values", "open") + row.format("keys", "whole") + row.format("ancillary", "open")
    assert windows_asked(parse_policy(text, "p")) == ("values",)
    assert windows_asked(None) == windows_asked(read_policy()) == ()
    assert read_policy().measure["windows"] == read_policy("not-recovered").measure["windows"] == "needed"


def test_two_probes_together_have_every_curve_or_say_so() -> None:
    part, whole = swept(suppressed())[0].probe, suppressed().probe
    assert part is not None
    assert whole is not None
    assert combine_probes(part, part).settings["windows"] == "needed"
    # What the older one has, the newer need not sweep.
    assert "windows" not in combine_probes(whole, part).settings
    assert "windows" not in combine_probes(part, whole).settings
    keys = replace(whole, runs=tuple(one for one in whole.runs if one.mode == "keys"))
    both_ways = combine_probes(part, replace(keys, settings={**keys.settings, "modes": "keys"}))
    assert both_ways.settings["windows"] == "needed"
    assert spared_text(both_ways).startswith("of values, attn, attn+coeff, mlp, ")


# --------------------------------------------------------------------------------------------------- on live models


def job(place: Path, **more: object) -> Job:
    settings = replace(audit_settings(), **{"modes": ("coeff", "attn", "values"), "window": 1, "tokens": 3, **more})  # type: ignore[arg-type]
    base, unlearned = (open_checkpoint(str(place / side)) for side in ("base", "unlearned"))
    return prepare(base, unlearned, given_questions(ASKED), settings)


class Choice:
    """Asks for the windows of one mode after the other, and knows what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Probe] = []

    def __call__(self, probe: Probe) -> list[str]:
        self.shown.append(probe)
        return ["coeff", "attn"] if "coeff" in windowed(probe) else ["coeff"]


def windowed(probe: Probe) -> list[str]:
    return list(dict.fromkeys(one.mode for one in probe.runs if one.variant == "open"))


def test_windows_are_added_once_the_whole_model_is_scored(place: Path) -> None:
    choice, told = Choice(), list[str]()
    listener = Listener(lambda stage, done, total, detail: told.append(detail) if stage == "layers" else None)
    found, every = run(job(place), listener, choose=choice), run(job(place, windows="all"))
    subjects = dict.fromkeys(detail.partition(": ")[2] for detail in told if detail)
    assert list(subjects) == ["what matters at all", "where, by coeff", "where, by attn"]
    assert [windowed(one) for one in (*choice.shown, found)] == [
        [],
        ["coeff"],
        *[["coeff", "attn"]] * 2,
    ]
    assert (found.settings["windows"], every.settings.get("windows")) == ("needed", None)
    assert windowed(every) == ["coeff", "attn", "values"]
    names = {(one.direction, one.mode, one.variant): one for one in every.runs}
    for one in found.runs:
        other = names[one.direction, one.mode, one.variant]
        assert one.layers.tolist() == other.layers.tolist()
        assert one.krs_kl.score == pytest.approx(other.krs_kl.score, abs=1e-5)
        assert one.loss_kl == pytest.approx(other.loss_kl, abs=1e-6)
    # Nothing that was scored is scored anew, and controls stand beside every window that there is.
    first, last = choice.shown[0], choice.shown[-1]
    assert all(any(one is other for other in last.runs) for one in first.runs)
    wrong = {(one.mode, one.variant) for one in found.controls if one.name == "wrong_prompt"}
    assert wrong == {("coeff", "open"), ("coeff", "whole"), ("attn", "open"), ("attn", "whole")}


def test_an_audit_sweeps_what_its_policy_holds_to_a_score(place: Path) -> None:
    settings = replace(audit_settings(), modes=("coeff", "values"), window=1, tokens=2, device="cpu")
    policy = parse_policy('[[fail.scores]]\nmode = "values"\nat_most = 0.5\n', "p")
    spec = AuditSpec(
        "base", "unlearned", asked=ASKED, tiers=(), neutral=False, most_unrelated=1, settings=settings, policy=policy
    )
    found = audit_pair(spec)
    assert found.probe is not None
    # Three facts place nothing, so that this is all.
    assert windowed(found.probe) == ["values"]
    assert found.probe.settings["windows"] == "needed"


def test_an_interrupted_audit_goes_on_in_the_round_that_it_was_in(place: Path) -> None:
    keep = place / "partial"
    whole, stops = run(job(place), choose=Choice()), 0
    while stops < 20:
        try:
            found = run(job(place), Listener(stop=lambda: True), (keep, "weights"), stops > 0, Choice())
            break
        except Stopped:
            stops += 1
    # After every layer, in each of three rounds.
    assert stops == 3 * 4
    assert same(found, whole)
    with pytest.raises(PartialError, match="other models, questions or settings"):
        run(job(place, windows="all"), None, (keep, "weights"), True)


def test_few_memory_means_more_passes_in_every_round(place: Path) -> None:
    base, unlearned = (open_checkpoint(str(place / side)) for side in ("base", "unlearned"))
    settings = Settings(("coeff", "attn"), ("open", "whole"), window=1, tokens=3, windows="needed")
    needed = outline(base, unlearned, given_questions(ASKED), settings)
    assert needed.least is not None
    assert needed.least[0] < needed.runs
    assert needed.least[1] < needed.seconds
    settings = replace(settings, memory=int(needed.memory / 0.8), stream="off")
    plain = prepare(base, unlearned, given_questions(ASKED), settings)
    one = run(plain, choose=Choice())
    assert len(plain.passes) == 3
    narrow = replace(settings, memory=int((plain.room - 0.6 * plain.spare) / 0.8))
    work = prepare(base, unlearned, given_questions(ASKED), narrow)
    other = run(work, choose=Choice())
    assert len(work.passes) > 3
    assert sorted(number for part in work.passes for number in part) == list(range(len(work.plan.runs)))
    for left, right in zip(one.runs, other.runs, strict=True):
        assert left.krs_kl.score == pytest.approx(right.krs_kl.score, abs=1e-5)


def test_what_cannot_be_judged_beforehand_is_swept_whole() -> None:
    plain = audit_settings()
    assert plain.windowed == frozenset()
    assert replace(plain, variants=("open",)).windowed is None
    assert replace(plain, variants=("whole",)).windowed is None
    assert replace(plain, windows="all").windowed is None
    assert replace(plain, neurons=True).windowed == frozenset({"coeff"})
    assert Settings().windowed is None


def test_every_view_says_which_curves_are_not_there() -> None:
    part, words = swept(suppressed())[0], "the verdict places nothing in their windows"
    views = [say(part, name, EVERY_SECTION) for name in ("table", "md")]
    texts = [*(view if isinstance(view, str) else rendered(view) for view in views), to_html(part)]
    assert [words in " ".join(text.split()) for text in texts] == [True] * 3
    every = [say(suppressed(), "md", EVERY_SECTION), to_html(suppressed())]
    assert not any(words in str(text) for text in every)
