"""Many reports as one: axes, averages, gates and states, held against plain loops over the reports."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.audit.gate.policy import PolicyError, parse_policy, read_policy
from ckdiff.audit.judge import judge_report
from ckdiff.campaign.gather.gathering import file_name, gather, merged_reports
from ckdiff.campaign.gather.joining import _judge
from ckdiff.campaign.records import CampaignError, Found, Outcome, Results, Slot
from ckdiff.campaign.run.store import open_store, read_results, sha256_of
from ckdiff.errors import ReportError
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.schema.campaign import MEASURES, Campaign
from ckdiff.report.schema.report import CheckpointRecord, Provenance, Report, ShardRecord
from ckdiff.scoring.means import mean
from tests import judged as built
from tests import reports
from tests.reports import same

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.report.schema.campaign import AverageRun
    from ckdiff.report.schema.probe import Probe

pytestmark = pytest.mark.usefixtures("remembering")

NAN = math.nan
T2 = 4.302652729749464
"""Student's t with two degrees of freedom at 0.975, from mpmath. Of three concepts an interval reaches four times it,
and a band eight times: one resample in nine is of one concept alone, and has no spread."""
STRICT = '[fail]\nlabels = ["identical", "inconclusive", "suppressed", "mixed"]\n'
LAX = "[fail]\nunrelated_bleu_loss = 0.5\n"
PLAN = "# a plan\n"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def slot(pair: str, concept: str = "", run: str = "compare", group: str = "", **more: Any) -> Slot:
    given: dict[str, Any] = {
        "required": True,
        "base": "/plan/base",
        "unlearned": f"/plan/{pair}",
        "base_digest": digest("base"),
        "unlearned_digest": digest(pair),
        "key": digest(f"{pair} {concept} {run}"),
    }
    return Slot(pair, group, concept, run, **{**given, **more})


def about(pair: str, **parts: Any) -> Report:
    """A report of a pair, at another place than the plan's."""
    shards = (ShardRecord("model.safetensors", 9, "a" * 64),)
    sides = (CheckpointRecord(f"/elsewhere/{name}", None, digest(name), shards) for name in ("base", pair))
    return Report(Provenance(*sides), versions={"ckdiff": "0.1", "numpy": "2"}, **parts)


def probed(*scores: Sequence[float], questions: str = "q", **changes: Any) -> Probe:
    """A probe with one sweep, from its krs, krs_centred and krs_kl (or one for all of them)."""
    raw, centred, kl = scores * 3 if len(scores) == 1 else scores
    run = reports.run(scores=(raw, centred, kl))
    settings = {"dtype": "float32", "tokens": "30", "modes": "coeff", "questions_digest": digest(questions)}
    return replace(reports.probe(), runs=(run,), settings=settings, neurons=(), **changes)


def kept(folder: Path, where: Slot, report: Report | None, **ended: Any) -> Found:
    """A slot with its report's file and how it ended."""
    if report is None:
        return Found(where, None, Outcome(where.key, **ended) if ended else None)
    path = folder / f"{where.key}.h5"
    write_report(report, path)
    return Found(where, path, Outcome(where.key, "done", sha256=sha256_of(path)))


def results(*found: Found) -> Results:
    return Results("wizards", PLAN, found)


def of(found: Campaign, group: str) -> AverageRun:
    (run,) = [run for run in found.averages if run.group == group]
    return run


# ---------------------------------------------------------------------------------------------------------- averages

SCORES: dict[tuple[str, str, str], tuple[list[float], list[float], list[float]]] = {
    ("g1", "grad", "A"): ([0.1, 0.5, 0.9], [0.0, 0.2, 0.4], [0.1, 0.6, 0.5]),
    ("g2", "grad", "A"): ([0.3, 0.7, 0.7], [0.2, 0.2, 0.6], [0.3, 0.2, 0.1]),
    ("g3", "grad", "B"): ([0.8, 0.8, 0.1], [0.9, 0.5, 0.2], [0.7, 0.9, 0.8]),
    ("g4", "grad", "C"): ([-0.6, 0.1, 0.2], [0.1, 0.3, 0.3], [0.2, 0.2, 0.4]),
    ("n1", "npo", "A"): ([0.5, 0.5, 0.6], [0.4, 0.1, 0.8], [0.0, 0.1, 0.2]),
    ("n2", "npo", "B"): ([0.2, 0.4, 0.9], [0.1, 0.6, 0.7], [0.9, 0.5, 0.3]),
}


def many(folder: Path) -> Results:
    return results(
        *(
            kept(folder, slot(pair, concept, "probe", group), about(pair, probe=probed(*scores, questions=concept)))
            for (pair, group, concept), scores in SCORES.items()
        )
    )


def test_averages_are_those_of_plain_loops(tmp_path: Path) -> None:
    found = gather(many(tmp_path))
    assert [run.group for run in found.averages] == ["grad", "npo", "all"]
    for group in ("grad", "all"):
        run = of(found, group)
        for place, name in enumerate(("krs", "krs_centred", "krs_kl")):
            curve = getattr(run, name)
            for layer in range(3):
                concepts = [
                    statistics.fmean(
                        scores[place][layer]
                        for (_, own, concept), scores in SCORES.items()
                        if concept == wanted and group in (own, "all")
                    )
                    for wanted in "ABC"
                ]
                middle, error = statistics.fmean(concepts), statistics.stdev(concepts) / math.sqrt(3)
                assert curve.score[layer] == pytest.approx(middle)
                assert curve.low[layer] == pytest.approx(middle - 4 * T2 * error)
                assert curve.high[layer] == pytest.approx(min(1.0, middle + 4 * T2 * error))
                assert curve.band_low[layer] == pytest.approx(middle - 8 * T2 * error)
                assert curve.band_high[layer] == pytest.approx(min(1.0, middle + 8 * T2 * error))
        assert run.top1 == pytest.approx(run.krs_kl.score)
        assert run.top1_unrestored == pytest.approx(0.25)
    assert [(run.pairs, run.concepts) for run in found.averages] == [(4, 3), (2, 2), (6, 3)]
    # Averaged without regard to concepts it would be another number.
    flat = statistics.fmean(scores[0][0] for scores in SCORES.values())
    assert abs(of(found, "all").krs.score[0] - flat) > 0.01
    assert any("sampling unit" in note for note in found.notes)
    assert any("asked of pairs of several groups: A, B;" in note for note in found.notes)
    assert any("asked of one pair only: C" in note for note in found.notes)


def test_one_pair_and_one_concept_have_averages_without_intervals(tmp_path: Path) -> None:
    scores = [0.2, 0.5, 0.9]
    found = gather(results(kept(tmp_path, slot("p", "A", "probe"), about("p", probe=probed(scores)))))
    run = of(found, "all")
    assert (found.concepts, found.outcome, found.complete) == (("A",), "", True)
    assert (run.pairs, run.concepts, run.layers.tolist()) == (1, 1, [0, 1, 2])
    assert run.krs.score.tolist() == scores
    assert np.isnan(np.stack([run.krs.low, run.krs.high, run.krs_kl.band_low, run.top1_high])).all()
    (kl,) = [one for one in found.means if one.measure == "loss_kl"]
    assert (kl.group, kl.pairs, kl.concepts, kl.value) == ("all", 1, 1, 0.75)
    assert any("one concept only" in note for note in found.notes)
    assert found.drift is None


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(("", ""), ["all"]), (("a", "a"), ["a"]), (("a", ""), ["a", "all"]), (("b", "a"), ["b", "a", "all"])],
)
def test_groups_and_all(tmp_path: Path, groups: tuple[str, str], expected: list[str]) -> None:
    found = gather(
        results(
            *(
                kept(tmp_path, slot(pair, "A", "probe", group), about(pair, probe=probed([0.5, 0.6])))
                for pair, group in zip(("p", "q"), groups, strict=True)
            )
        )
    )
    assert [run.group for run in found.averages] == expected
    assert {one.group for one in found.means} == set(expected)


def test_a_group_must_not_be_called_all(tmp_path: Path) -> None:
    one = kept(tmp_path, slot("p", "A", "probe", "all"), about("p", probe=probed([0.5, 0.6])))
    with pytest.raises(CampaignError, match=r"group 'all': .*another name"):
        gather(results(one))


def test_two_windows_of_one_sweep_cannot_be_one(tmp_path: Path) -> None:
    wide = probed([0.5, 0.6])
    wide = replace(wide, runs=(replace(wide.runs[0], window=5),))
    one = kept(tmp_path, slot("p", "A", "probe"), about("p", probe=probed([0.5, 0.6])))
    other = kept(tmp_path, slot("q", "A", "probe"), about("q", probe=wide))
    with pytest.raises(
        CampaignError, match=r"restore coeff open: windows of 3 layers in pair p, of 5 in pair q; .*apart"
    ):
        gather(results(one, other))


def test_sweeps_of_the_whole_model_have_no_window(tmp_path: Path) -> None:
    wide = probed([0.5])
    wide = replace(wide, runs=(replace(wide.runs[0], window=5),))
    one = kept(tmp_path, slot("p", "A", "probe"), about("p", probe=probed([0.7])))
    found = gather(results(one, kept(tmp_path, slot("q", "A", "probe"), about("q", probe=wide))))
    assert found.runs[0].layers.tolist() == [-1]
    assert of(found, "all").krs.score.tolist() == pytest.approx([0.6])


def test_models_of_other_depth_are_gathered_and_not_averaged_together(tmp_path: Path) -> None:
    deep, flat = [0.1, 0.2, 0.3, 0.4], [0.5, 0.6]
    found = gather(
        results(
            kept(tmp_path, slot("deep", "A", "probe", "a"), about("deep", probe=probed(deep))),
            kept(tmp_path, slot("flat", "A", "probe", "b"), about("flat", probe=probed(flat))),
        )
    )
    (run,) = found.runs
    assert run.krs.score[:, 0] == pytest.approx(np.array([deep, [*flat, NAN, NAN]]), nan_ok=True)
    assert [(one.group, one.layers.tolist()) for one in found.averages] == [("a", [0, 1, 2, 3]), ("b", [0, 1])]
    (note,) = [note for note in found.notes if "window centres" in note]
    assert note == (
        "all: its pairs have different window centres, 4 in 0-3 (deep), 2 in 0-1 (flat), so that there is no average of"
        " restore coeff open"
    )
    assert {one.group for one in found.means} == {"a", "b", "all"}


def test_sweeps_of_some_windows_stand_at_their_layers(tmp_path: Path) -> None:
    some = probed([0.7, 0.8])
    some = replace(some, runs=(replace(some.runs[0], layers=np.array([1, 3])),))
    found = gather(
        results(
            kept(tmp_path, slot("p", "A", "probe", "a"), about("p", probe=probed([0.1, 0.2, 0.3, 0.4]))),
            kept(tmp_path, slot("q", "A", "probe", "b"), about("q", probe=some)),
        )
    )
    (run,) = found.runs
    assert run.layers.tolist() == [0, 1, 2, 3]
    for values in (run.krs.score, run.krs_kl.score, run.top1):
        assert values[1, 0] == pytest.approx([NAN, 0.7, NAN, 0.8], nan_ok=True)
    assert run.krs.band_low[1, 0] == pytest.approx([NAN, 0.6, NAN, 0.7], nan_ok=True)
    alone = of(found, "b")
    assert (alone.layers.tolist(), alone.krs.score.tolist()) == ([1, 3], [0.7, 0.8])


def test_undefined_scores_are_left_out(tmp_path: Path) -> None:
    lacking = probed([0.9, NAN, 0.1], [NAN, NAN, NAN], [0.4, 0.4, 0.4])
    found = gather(
        results(
            kept(tmp_path, slot("p", "A", "probe"), about("p", probe=lacking)),
            kept(tmp_path, slot("q", "A", "probe"), about("q", probe=probed([0.5, 0.6, 0.7]))),
            kept(tmp_path, slot("r", "B", "probe"), about("r", probe=probed([0.1, 0.2, 0.3]))),
        )
    )
    run = of(found, "all")
    assert run.krs.score == pytest.approx([(0.7 + 0.1) / 2, (0.6 + 0.2) / 2, (0.4 + 0.3) / 2])
    assert run.krs_centred.score == pytest.approx([0.3, 0.4, 0.5])
    assert (run.pairs, run.concepts) == (3, 2)
    assert any("not defined in every pair and window" in note for note in found.notes)


# ---------------------------------------------------------------------------------------------------- cells, measures


def test_a_cell_is_what_its_reports_say_together(tmp_path: Path) -> None:
    probe, said, compare = built.probed(built.SUPPRESSED), built.behaved(), built.compared()
    whole = kept(tmp_path, slot("p"), about("p", compare=compare))
    found = gather(
        results(
            whole,
            kept(tmp_path, slot("p", "A", "behave"), about("p", behaviour=said)),
            kept(tmp_path, slot("p", "A", "probe"), about("p", probe=probe)),
            kept(tmp_path, slot("p", "B", "behave"), about("p", behaviour=reports.behaviour())),
        )
    )
    alone = judge_report(about("p", compare=compare, behaviour=said, probe=probe)).verdict
    assert alone is not None
    first, second = found.cells
    assert (first.pair, first.concept, first.label, first.verdict) == ("p", "A", "suppressed", alone.reason)
    assert (first.component, first.layers, first.gate, first.checks) == ("coefficients", "4", "", "")
    assert (first.questions, second.questions) == (10, 4)
    assert [(pair.name, pair.model_type, pair.base) for pair in found.pairs] == [("p", "llama", "/plan/base")]
    assert found.concepts == ("A", "B")
    measures = {one.name: one for one in found.measures}
    assert list(measures) == list(MEASURES)

    def at(name: str, concept: int) -> list[float]:
        one = measures[name]
        return [float(part[0, concept]) for part in (one.value, one.low, one.high)]

    assert at("target_bleu", 0) == [0.1, 0.0, 0.3]
    assert at("unrelated_bleu", 0) == [0.95, 0.9, 1.0]
    assert at("explained", 0) == [alone.explained, alone.explained_low, alone.explained_high]
    kl = np.array([question.kl for question in probe.questions])
    assert at("loss_kl", 0) == pytest.approx([kl.mean(), mean(kl, 0.0).low, mean(kl, 0.0).high])
    assert at("top1", 0)[0] == 0.5
    assert at("neutral_kl", 0) == pytest.approx([NAN] * 3, nan_ok=True)
    other = reports.behaviour()
    assert other.choices is not None
    assert other.neutral is not None
    for name, wanted in (
        ("target_exact", other.answers[0].exact),
        ("choice_accuracy_base", other.choices.accuracy_base),
        ("choice_accuracy_unlearned", other.choices.accuracy_unlearned),
        ("neutral_kl", other.neutral.kl),
    ):
        assert at(name, 1) == pytest.approx([wanted.value, wanted.low, wanted.high], nan_ok=True)
    assert at("loss_kl", 1) == pytest.approx([NAN] * 3, nan_ok=True)
    assert found.drift is not None
    place = found.drift.components.index("keys")
    assert found.drift.components[:2] == ("embedding", "unembedding")
    assert (found.drift.relative_l2[0, place], found.drift.cosine[0, place]) == (0.014, 0.9999)


def test_a_pair_that_is_only_compared_has_a_concept_without_a_name(tmp_path: Path) -> None:
    found = gather(
        results(
            kept(tmp_path, slot("p"), about("p", compare=built.compared())),
            kept(tmp_path, slot("p", "A", "behave"), about("p", behaviour=built.behaved())),
            kept(tmp_path, slot("q"), about("q", compare=built.compared(moved=()))),
        )
    )
    assert found.concepts == ("A", "")
    assert [(cell.pair, cell.concept, cell.label) for cell in found.cells] == [
        ("p", "A", "inconclusive"),
        ("q", "", "identical"),
    ]
    assert found.drift is not None
    assert found.drift.one_minus_cosine.max(axis=1).tolist() == [1e-4, 0.0]
    assert found.runs == ()
    assert found.averages == ()


def test_reports_are_merged_under_the_plans_names(tmp_path: Path) -> None:
    """Two pairs with the same weights at two places share one report's file."""
    report = about("p", probe=probed([0.4, 0.6]))
    one = kept(tmp_path, slot("p", "A", "probe"), report)
    again = replace(one, slot=replace(one.slot, pair="copy", unlearned="/plan/copy"))
    compare = kept(tmp_path, slot("p"), about("p", compare=built.compared()))
    merged = {(pair, concept): found for pair, concept, found in merged_reports(results(compare, one, again))}
    assert list(merged) == [("p", "A"), ("copy", "A")]
    assert merged["p", "A"].provenance.unlearned.location == "/plan/p"
    assert merged["copy", "A"].provenance.unlearned.location == "/plan/copy"
    assert merged["p", "A"].compare is not None
    assert merged["copy", "A"].compare is None
    assert merged["copy", "A"].verdict is not None
    write_report(merged["p", "A"], tmp_path / "merged.h5")
    assert same(read_report(tmp_path / "merged.h5"), merged["p", "A"])
    assert "the same questions" not in " ".join(gather(results(compare, one, again)).notes)


def test_a_comparison_is_read_once_a_pair(tmp_path: Path) -> None:
    compare = kept(tmp_path, slot("p"), about("p", compare=built.compared()))
    probes = [kept(tmp_path, slot("p", name, "probe"), about("p", probe=probed([0.5]))) for name in "ABC"]
    read: list[Path] = []

    def counted(path: Path) -> Report:
        read.append(path)
        return read_report(path)

    found = gather(results(compare, *probes), read=counted)
    assert len(read) == len(set(read)) == 4
    assert found.concepts == ("A", "B", "C")


# ------------------------------------------------------------------------------------------------------------ states


def test_jobs_that_are_not_done_say_why(tmp_path: Path) -> None:
    given = results(
        kept(tmp_path, slot("p"), about("p", compare=built.compared())),
        kept(tmp_path, slot("p", "A", "probe"), None, state="inconclusive", reason="nothing to recover"),
        kept(tmp_path, slot("p", "B", "probe"), None, state="failed", reason="not enough memory"),
        kept(tmp_path, slot("p", "C", "probe"), None),
        kept(tmp_path, slot("p", "D", "probe"), None, state="stopped", reason="stopped; what is done is kept"),
        kept(tmp_path, slot("p", "E", "probe"), None, state="done"),
        kept(tmp_path, slot("q", "A", "probe", key="", unlearned_digest="", reason="q: there is no such file"), None),
    )
    found = gather(given)
    assert [(job.state, job.reason) for job in found.jobs] == [
        ("done", ""),
        ("inconclusive", "nothing to recover"),
        ("failed", "not enough memory"),
        ("missing", "not run"),
        ("missing", "stopped; what is done is kept"),
        ("missing", "its report is not here"),
        ("failed", "q: there is no such file"),
    ]
    assert found.jobs[0].sha256 == sha256_of(tmp_path / f"{given.found[0].slot.key}.h5")
    assert not found.complete
    assert found.concepts == tuple("ABCDE")
    assert len(found.cells) == 6
    assert (found.cells[-1].label, found.cells[-1].gate) == ("", "")
    assert found.pairs[1].unlearned_digest == ""
    assert found.notes[0] == "6 of 7 required jobs are not done: 2 failed, 1 inconclusive, 3 missing"


def test_an_optional_job_may_be_missing(tmp_path: Path) -> None:
    found = gather(
        results(
            kept(tmp_path, slot("p"), about("p", compare=built.compared())),
            kept(tmp_path, slot("q", required=False, policy=STRICT), None, state="failed", reason="corrupt"),
        )
    )
    assert found.complete
    assert found.outcome == ""
    assert found.notes[0] == "1 of 1 optional job is not done: 1 failed"


# ----------------------------------------------------------------------------------------------------- bad reports


def test_a_report_about_other_weights_is_refused(tmp_path: Path) -> None:
    one = kept(tmp_path, slot("p", "A", "probe"), about("q", probe=probed([0.5])))
    with pytest.raises(CampaignError) as error:
        gather(results(one))
    assert str(error.value) == (
        f"{one.report}: is about other weights than its job (unlearned: sha256 {digest('q')[:12]}, the plan's"
        f" {digest('p')[:12]}); remove it and run the campaign again"
    )
    unhashed = about("p", probe=probed([0.5]))
    base = replace(unhashed.provenance.base, digest=None)
    unhashed = replace(unhashed, provenance=replace(unhashed.provenance, base=base))
    with pytest.raises(CampaignError, match=r"other weights than its job \(base"):
        gather(results(kept(tmp_path, slot("p", "A", "probe"), unhashed)))


def test_a_report_that_its_job_did_not_write_is_refused(tmp_path: Path) -> None:
    one = kept(tmp_path, slot("p", "A", "probe"), about("p", probe=probed([0.5])))
    assert one.report is not None
    write_report(about("p", probe=probed([0.9])), one.report)
    with pytest.raises(CampaignError, match=r"another sha256\); remove it and run the campaign again"):
        gather(results(one))
    # Where nobody wrote down how the job ended, the seal and the digests are all there is.
    assert of(gather(results(replace(one, outcome=None))), "all").krs.score.tolist() == [0.9]


@pytest.mark.parametrize(
    ("run", "parts", "words"),
    [
        ("probe", {"behaviour": built.behaved()}, "holds no probe"),
        ("behave", {"probe": probed([0.5])}, "holds no behaviour"),
        ("audit", {"compare": built.compared()}, "holds no verdict"),
        ("probe", {"probe": probed([0.5]), "complete": False}, "is unfinished"),
    ],
)
def test_a_report_of_another_kind_is_refused(tmp_path: Path, run: str, parts: dict[str, Any], words: str) -> None:
    with pytest.raises(CampaignError, match=f"{words}.*run the campaign again"):
        gather(results(kept(tmp_path, slot("p", "A", run), about("p", **parts))))


def test_an_edited_report_is_refused(tmp_path: Path) -> None:
    one = kept(tmp_path, slot("p", "A", "probe"), about("p", probe=probed([0.5])))
    assert one.report is not None
    image = bytearray(one.report.read_bytes())
    image[len(image) // 2] ^= 1
    one.report.write_bytes(image)
    with pytest.raises(ReportError, match=str(one.report)):
        gather(results(replace(one, outcome=None)))
    with pytest.raises(ReportError):
        list(merged_reports(results(one)))


# ------------------------------------------------------------------------------------------------------------- gates


def test_the_outcome_is_the_worst_of_the_gates(tmp_path: Path) -> None:
    def pair(name: str, policy: str, **parts: Any) -> list[Found]:
        where = slot(name, "A", "behave", policy=policy, policy_source="lax.toml")
        return [kept(tmp_path, where, about(name, behaviour=built.behaved()) if not parts else None, **parts)]

    passed, failed = pair("passed", LAX), pair("failed", "[fail]\nunrelated_bleu_loss = 0.05\n")
    unknown = pair("unknown", "[fail]\nchoices_loss = 0.1\n")
    none, gone = pair("none", ""), pair("gone", LAX, state="failed", reason="lost")
    outcomes = [gather(results(*found)).outcome for found in (none, none + passed, passed + unknown, unknown + failed)]
    assert outcomes == ["", "passed", "inconclusive", "failed"]
    found = gather(results(*passed, *unknown, *failed, *none, *gone))
    assert [cell.gate for cell in found.cells] == ["passed", "inconclusive", "failed", "", "inconclusive"]
    assert found.outcome == "failed"
    assert found.cells[0].checks == ""
    assert found.cells[1].checks.startswith("fail.choices_loss: no multiple-choice questions")
    assert found.cells[2].checks.startswith("fail.unrelated_bleu_loss: the unrelated answers lost BLEU")
    assert found.cells[4].checks == "measured: nothing was measured"
    given = gather(results(*passed, *unknown, *failed, *none), parse_policy(LAX, "given"))
    assert {cell.gate for cell in given.cells} == {"passed"}


def test_the_policy_that_ckdiff_brings(tmp_path: Path) -> None:
    parts = {"compare": built.compared(), "behaviour": built.behaved(), "probe": built.probed(built.SUPPRESSED)}
    one = kept(tmp_path, slot("p", "A", "probe"), about("p", **parts))
    assert gather(results(one), read_policy()).outcome == "failed"
    ((_, _, report),) = merged_reports(results(one), read_policy())
    assert report.verdict is not None
    assert report.verdict.gate is not None
    assert report.verdict.gate.source == "ckdiff's own, default"
    lacking = kept(tmp_path, slot("p"), about("p", compare=built.compared()))
    assert gather(results(lacking), read_policy()).outcome == "inconclusive"


def test_a_policy_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    one = kept(tmp_path, slot("p", policy="[fail", policy_source="p.toml"), about("p", compare=built.compared()))
    with pytest.raises(PolicyError, match=r"p\.toml: no TOML"):
        gather(results(one))


def test_an_audits_verdict_stays_until_something_else_is_asked(tmp_path: Path) -> None:
    policy = parse_policy(STRICT, "strict.toml")
    probe = built.probed(built.SUPPRESSED)
    report = judge_report(about("p", compare=built.compared(), behaviour=built.behaved(), probe=probe), policy)
    assert report.verdict is not None
    report = replace(report, verdict=replace(report.verdict, reason="as the audit said"))
    where = slot("p", "A", "audit", policy=STRICT)
    audit = kept(tmp_path, where, report)
    compare = kept(tmp_path, slot("p", policy=STRICT), about("p", compare=built.compared()))
    for rows in ((audit,), (compare, audit), (audit, compare)):
        (cell,) = gather(results(*rows)).cells
        assert (cell.label, cell.gate, cell.verdict) == ("suppressed", "failed", "as the audit said")
    (cell,) = gather(results(audit), parse_policy("[fail]\ntarget_bleu = 0.5\n", "new")).cells
    assert (cell.gate, cell.label) == ("passed", "suppressed")
    assert cell.verdict != "as the audit said"
    (cell,) = gather(results(audit), policy).cells
    assert (cell.gate, cell.verdict) != ("failed", "as the audit said")
    # What a policy's files held is known to whoever judged it, and to nobody who has its text alone.
    text = STRICT + "[measure]\nneutral = 'texts.txt'\n"
    knows = replace(parse_policy(text, "strict.toml"), files={"neutral": "ab" * 32})
    assert report.verdict is not None
    assert _judge(judge_report(report, knows), parse_policy(text, "plan"), False).verdict.gate.files == knows.files  # type: ignore[union-attr]
    # An older gate says nothing about a policy that has changed since.
    changed = replace(audit, slot=replace(where, policy="[fail]\ntarget_bleu = 0.5\n"))
    assert gather(results(changed)).outcome == "passed"


def test_a_run_beside_an_audit_takes_its_place_and_is_judged(tmp_path: Path) -> None:
    report = judge_report(about("p", compare=built.compared(), probe=built.probed(built.SUPPRESSED)))
    audit = kept(tmp_path, slot("p", "A", "audit"), report)
    other = built.probed(built.EDITED["values"], settings={"questions_digest": "other"})
    probe = kept(tmp_path, slot("p", "A", "probe"), about("p", probe=other))
    for rows in ((audit, probe), (probe, audit)):
        found = gather(results(*rows))
        assert found.cells[0].label == "values edited"
        assert any(
            note.startswith("audited, and probed or asked by a run of its own as well: p, A") for note in found.notes
        )
    alone = gather(results(audit))
    assert alone.cells[0].label == "suppressed"
    assert not any("audited, and" in note for note in alone.notes)


# ------------------------------------------------------------------------------------------------------------- notes


def test_what_makes_pairs_unlike_is_noted(tmp_path: Path) -> None:
    def row(pair: str, concept: str, questions: str, version: str = "0.1", **settings: str) -> Found:
        probe = probed([0.5], questions=questions)
        probe = replace(probe, settings={**probe.settings, **settings})
        report = replace(about(pair, probe=probe), versions={"ckdiff": version})
        return kept(tmp_path, slot(pair, concept, "probe"), report)

    plain = gather(results(row("p", "A", "a"), row("p", "B", "b"), row("q", "A", "a"), row("q", "B", "b")))
    assert [note for note in plain.notes if "sampling unit" not in note] == []
    found = gather(
        results(
            row("p", "A", "a"),
            row("p", "B", "b"),
            row("q", "A", "a", dtype="bfloat16", modes="attn"),
            row("q", "B", "other", dtype="bfloat16"),
            row("q", "C", "a", version="0.2"),
        )
    )
    assert found.versions == {"ckdiff": "0.1, 0.2"}
    words = "\n".join(found.notes)
    assert "which averages mix: dtype of the probe is float32 (p and 1 other), bfloat16 (q)" in words
    assert "modes" not in words
    assert "other questions were probed in one pair than in another of the same concept: B" in words
    assert "the same questions were probed under several concepts, which count as one each: A, C" in words
    assert "asked of one pair only: C" in words
    assert "the reports were made with different versions of ckdiff: 0.1, 0.2" in words


def test_averages_of_curves_that_verdicts_chose_are_noted(tmp_path: Path) -> None:
    def notes(scores: list[float], **settings: str) -> str:
        probe = probed(scores)
        found = about("p", probe=replace(probe, settings={**probe.settings, **settings}))
        return "\n".join(gather(results(kept(tmp_path, slot("p", "A", "probe"), found))).notes)

    words = "1 report has only the curves that a verdict needed"
    assert words in notes([0.1, 0.5, 0.9], windows="needed")
    assert words not in notes([0.1, 0.5, 0.9])
    # The whole model is put back in every pair.
    assert words not in notes([0.5], windows="needed")


def test_failed_controls_are_noted(tmp_path: Path) -> None:
    probe = probed([0.5], controls=reports.controls(passed=False))
    found = gather(results(kept(tmp_path, slot("p", "A", "probe"), about("p", probe=probe))))
    assert any(note.startswith("controls of the probe failed: p, A; ") for note in found.notes)


# -------------------------------------------------------------------------------------------------------- file names


def test_every_pair_and_concept_has_a_file_name_of_its_own(tmp_path: Path) -> None:
    texts = [
        "",
        "a",
        "A",
        "a-b",
        "a b",
        "a_b",
        "b",
        "../../etc",
        "..",
        ".",
        "/",
        "x\0y",
        "ü",
        "哈利",
        "a" * 500,
        "a" * 501,
    ]
    names = [file_name(pair, concept) for pair in texts[1:] for concept in texts]
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert name.isascii()
        assert len(name) < 200
        (tmp_path / name).touch()
    assert len(list(tmp_path.iterdir())) == len(names)


# ------------------------------------------------------------------------------------------------------- determinism


def stored(folder: Path, given: Results, shard: int, shards: int) -> Path:
    """A results directory that holds every n-th job."""
    store = open_store(folder, given.name)
    own = given.found[shard::shards]
    for one in reversed(own):
        assert one.report is not None
        store.report(one.slot.key).write_bytes(one.report.read_bytes())
        store.keep(Outcome(one.slot.key, "done", seconds=shard, sha256=sha256_of(one.report)))
    slots = [one.slot if one in own else replace(one.slot, key="") for one in given.found]
    store.write_manifest(given.name, PLAN, slots, (shard + 1, shards) if shards > 1 else None)
    return folder


def test_shards_and_the_order_of_directories_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    given = many(tmp_path / "made")
    whole = gather(read_results([stored(tmp_path / "one", given, 0, 1)]))
    shards = [stored(tmp_path / f"shard{n}", given, n, 3) for n in range(3)]
    assert same(whole, gather(given))
    assert same(whole, gather(read_results(shards)))
    assert same(whole, gather(read_results(shards[::-1])))
    assert str(tmp_path) not in json.dumps(whole.notes)
