"""`ckdiff verify`: forged reports, forged signatures and swapped files, each in a table that says what catches it.

Every attack is made with ckdiff's own reader and writer, so that the file's checksum is right. A report that was
changed by hand is mostly caught by itself, because one number follows from others. Whoever computes everything again
is caught by the signature alone: the table says which, and both columns are asserted.
"""

from __future__ import annotations

import base64
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from ckdiff.audit.gate.policy import parse_policy
from ckdiff.audit.judge import judge_report
from ckdiff.audit.signing import MOST_ENVELOPE, private_key, sign
from ckdiff.audit.verify.asked import check_questions
from ckdiff.audit.verify.behaviour import _perplexity
from ckdiff.audit.verify.differences import Differences
from ckdiff.audit.verify.probe import EVERYTHING, SELF_PATCH, texts_digest
from ckdiff.audit.verify.report import _check_older_band, check
from ckdiff.cli.app import run
from ckdiff.questions.questions import read_questions
from ckdiff.report.exports.attestation import PAYLOAD_TYPE, payload
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.probe import NeuronRecord, NeuronSet
from ckdiff.report.schema.report import Provenance, Report
from ckdiff.report.schema.verdict import LABELS
from ckdiff.scoring.field import mean_measure
from ckdiff.scoring.means import mean
from ckdiff.scoring.scores import QuestionLosses, loss_summary, probe_run
from ckdiff.weights.hashing import joint_digest
from tests.proofs import POLICY, Scene, proof, rejudged, scene
from tests.reports import attacks
from tests.reports import report as sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour, FieldMeasure
    from ckdiff.report.schema.comparison import Comparison
    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.report.schema.report import CheckpointRecord
    from ckdiff.report.schema.verdict import Verdict
    from tests.proofs import Proof

__all__ = ["proof", "scene"]  # fixtures
pytestmark = pytest.mark.usefixtures("remembering")

# ------------------------------------------------------------------------------------------------- parts of a report


def probe_of(report: Report) -> Probe:
    assert report.probe is not None
    return report.probe


def verdict_of(report: Report) -> Verdict:
    assert report.verdict is not None
    return report.verdict


def behaviour_of(report: Report) -> Behaviour:
    assert report.behaviour is not None
    return report.behaviour


def compare_of(report: Report) -> Comparison:
    assert report.compare is not None
    return report.compare


def with_run(report: Report, change: Callable[[ProbeRun], ProbeRun], number: int = 0) -> Report:
    found = probe_of(report)
    runs = [change(run) if index == number else run for index, run in enumerate(found.runs)]
    return replace(report, probe=replace(found, runs=tuple(runs)))


def with_curve(report: Report, **parts: float) -> Report:
    """Ends of krs_kl of the first run, moved."""

    def change(run: ProbeRun) -> ProbeRun:
        moved = {name: getattr(run.krs_kl, name) + by for name, by in parts.items()}
        return replace(run, krs_kl=replace(run.krs_kl, **moved))

    return with_run(report, change)


def scored(probe: Probe) -> Probe:
    """A probe whose scores, intervals and summaries are those of its losses: what a careful forger would do."""
    names = ("mse", "mse_centred", "kl", "top1", "js")
    unlearned = QuestionLosses(*(np.array([getattr(one, name) for one in probe.questions]) for name in names))
    runs = tuple(
        probe_run(
            direction=run.direction,  # type: ignore[arg-type]
            mode=run.mode,
            variant=run.variant,
            window=run.window,
            layers=run.layers,
            first=run.first,
            last=run.last,
            losses=QuestionLosses(run.loss_mse, run.loss_mse_centred, run.loss_kl, run.top1_questions, run.loss_js),
            unlearned=unlearned,
            clusters=[one.cluster for one in probe.questions],
        )
        for run in probe.runs
    )
    summary = loss_summary(unlearned.mse, unlearned.mse_centred, unlearned.kl, unlearned.top1, unlearned.js)
    return replace(probe, runs=runs, loss_unlearned=summary, controls=tuple(against(probe, runs)), neurons=())


def against(probe: Probe, runs: tuple[ProbeRun, ...]) -> Any:
    """Controls that stand beside the scores of these runs."""
    by_name = {(run.direction, run.mode, run.variant): run for run in runs}
    for control in probe.controls:
        run = by_name.get((control.direction, control.mode, control.variant))
        if run is None or control.name != "wrong_prompt":
            yield control
            continue
        index = run.layers.tolist().index(-1 if control.layer is None else control.layer)
        yield replace(control, against=float(getattr(run, control.score).score[index]))


def gentler_losses(report: Report) -> Report:
    """All of the base's coefficients bring nothing back: the losses say so, and everything follows from them."""
    found = probe_of(report)
    kl = np.array([question.kl for question in found.questions])

    def change(run: ProbeRun) -> ProbeRun:
        return replace(run, loss_kl=np.broadcast_to(kl, run.loss_kl.shape).copy()) if run.mode == "coeff" else run

    return rejudged(replace(report, probe=scored(replace(found, runs=tuple(map(change, found.runs))))))


def without_question(report: Report, everything: bool) -> Report:
    """The first target question left out: of the probe alone, or of everything, all of it computed again."""
    found = probe_of(report)

    def cut(run: ProbeRun) -> ProbeRun:
        names = ("loss_mse", "loss_mse_centred", "loss_kl", "loss_js", "top1_questions")
        return replace(run, **{name: getattr(run, name)[:, 1:] for name in names})

    probe = replace(found, questions=found.questions[1:], runs=tuple(map(cut, found.runs)))
    if not everything:
        return rejudged(replace(report, probe=scored(probe)))
    digest = texts_digest([question.text for question in probe.questions])
    probe = replace(probe, settings={**probe.settings, "questions_digest": digest})
    behaviour = with_answers(behaviour_of(report), "target", lambda one: replace(one, questions=one.questions[1:]))
    return rejudged(replace(report, probe=scored(probe), behaviour=behaviour))


def with_answers(found: Behaviour, name: str, change: Callable[[AnswerSet], AnswerSet]) -> Behaviour:
    """One set of answers changed, and its digest and means computed again."""
    return replace(found, answers=tuple(summed(change(one)) if one.name == name else one for one in found.answers))


def summed(one: AnswerSet) -> AnswerSet:
    clusters = [row.cluster for row in one.questions]

    def of(name: str, least: float, most: float) -> Any:
        return mean(np.array([float(getattr(row, name)) for row in one.questions]), least, most, clusters)

    def again(measure: FieldMeasure) -> FieldMeasure:
        each = {side: getattr(measure, f"each_{side}")[-len(one.questions) :] for side in ("base", "unlearned")}
        means: dict[str, Any] = {
            side: mean_measure(measure.name, np.array(values), clusters, one.name == "target")
            for side, values in each.items()
        }
        return replace(measure, each_base=each["base"], each_unlearned=each["unlearned"], **means)

    counts = [len(row.answer_base_ids) for row in one.questions]
    perplexities: dict[str, Any] = {
        f"perplexity_{side}": _perplexity([-getattr(row, f"logprob_{side}") for row in one.questions], counts)
        for side in ("base", "unlearned")
    }
    logprobs = {name: of(name, -math.inf, 0) for name in ("logprob_base", "logprob_unlearned")}
    digest = texts_digest([row.text for row in one.questions])
    shares = {name: of(name, 0, 1) for name in ("bleu", "chrf", "exact")}
    field = tuple(map(again, one.field))
    return replace(one, digest=digest, field=field, **shares, **logprobs, **perplexities)


def all_the_same(one: AnswerSet) -> AnswerSet:
    """Every unlearned answer is the base's: nothing was broken."""
    same: dict[str, Any] = {"bleu": 1.0, "chrf": 1.0, "exact": True}
    rows = tuple(
        replace(row, answer_unlearned=row.answer_base, answer_unlearned_ids=row.answer_base_ids, **same)
        for row in one.questions
    )
    return replace(one, questions=rows)


def with_target(report: Report, **changes: Any) -> Report:
    """The first target answer changed, and nothing that follows from it."""
    found = behaviour_of(report)
    target = found.answers[0]
    rows = (replace(target.questions[0], **changes), *target.questions[1:])
    return replace(report, behaviour=replace(found, answers=(replace(target, questions=rows), *found.answers[1:])))


def with_measure(report: Report, **changes: Any) -> Report:
    """The first measure of benchmarks of target questions changed."""
    found = behaviour_of(report)
    target = found.answers[0]
    rows = (replace(target.field[0], **changes), *target.field[1:])
    return replace(report, behaviour=replace(found, answers=(replace(target, field=rows), *found.answers[1:])))


def with_verdict(report: Report, **changes: Any) -> Report:
    return replace(report, verdict=replace(verdict_of(report), **changes))


def with_gate(report: Report, **changes: Any) -> Report:
    gate = verdict_of(report).gate
    assert gate is not None
    return with_verdict(report, gate=replace(gate, **changes))


def with_rule(report: Report, **changes: Any) -> Report:
    rules = verdict_of(report).rules
    return with_verdict(report, rules=(*rules[:-1], replace(rules[-1], **changes)))


def with_tensor(report: Report, **changes: float) -> Report:
    found = compare_of(report)
    number = next(index for index, row in enumerate(found.tensors) if not row.drift.identical)
    row = found.tensors[number]
    changed = replace(row, drift=replace(row.drift, **changes))  # type: ignore[arg-type]
    return replace(
        report, compare=replace(found, tensors=(*found.tensors[:number], changed, *found.tensors[number + 1 :]))
    )


def with_setting(report: Report, **changes: str) -> Report:
    found = probe_of(report)
    return replace(report, probe=replace(found, settings={**found.settings, **changes}))


def with_control(report: Report, name: str, **changes: Any) -> Report:
    found = probe_of(report)
    number = [control.name for control in found.controls].index(name)
    controls = list(found.controls)
    controls[number] = replace(controls[number], **changes)
    return replace(report, probe=replace(found, controls=tuple(controls)))


def without_control(report: Report, name: str) -> Report:
    found = probe_of(report)
    number = [control.name for control in found.controls].index(name)
    controls = found.controls[:number] + found.controls[number + 1 :]
    return replace(report, probe=replace(found, controls=controls))


def without_run(report: Report, mode: str, variant: str) -> Report:
    found = probe_of(report)
    runs = tuple(run for run in found.runs if (run.mode, run.variant, run.direction) != (mode, variant, "restore"))
    assert len(runs) == len(found.runs) - 1
    return replace(report, probe=replace(found, runs=runs))


def without_mode(report: Report) -> Report:
    """Attention was never looked at: no run, no control, no word of it in the settings, and a verdict without it."""
    found = probe_of(report)
    runs = tuple(run for run in found.runs if run.mode != "attn")
    controls = tuple(control for control in found.controls if control.mode != "attn")
    settings = {**found.settings, "modes": found.settings["modes"].replace(",attn", "", 1)}
    return rejudged(replace(report, probe=replace(found, runs=runs, controls=controls, settings=settings)))


def without_kl(report: Report) -> Report:
    """The score about behaviour of one run was never measured, and what rests on it is judged again."""
    found = probe_of(report)
    run, *others = found.runs
    nothing = np.full(run.loss_kl.shape, np.nan)
    losses = QuestionLosses(run.loss_mse, run.loss_mse_centred, nothing, run.top1_questions)
    unlearned = QuestionLosses(
        *(np.array([getattr(one, name) for one in found.questions]) for name in ("mse", "mse_centred", "kl", "top1"))
    )
    again = probe_run(
        direction=run.direction,  # type: ignore[arg-type]
        mode=run.mode,
        variant=run.variant,
        window=run.window,
        layers=run.layers,
        first=run.first,
        last=run.last,
        losses=losses,
        unlearned=unlearned,
    )
    return rejudged(replace(report, probe=replace(found, runs=(again, *others))))


def agreeing(report: Report) -> Report:
    """Every token of the base's answers is the unlearned model's favourite, it is said, while its answers differ."""
    found = probe_of(report)
    questions = tuple(replace(one, top1=1.0) for one in found.questions)
    summary = replace(found.loss_unlearned, top1=1.0)
    return rejudged(replace(report, probe=replace(found, questions=questions, loss_unlearned=summary)))


def with_shard(report: Report, whole: bool) -> Report:
    """Another sha256 of a file of the unlearned checkpoint; `whole`: and of the checkpoint."""
    record = report.provenance.unlearned
    shards = (replace(record.shards[0], sha256="ab" * 32), *record.shards[1:])
    digest = joint_digest((one.name, one.sha256 or "") for one in shards) if whole else record.digest
    return replace(
        report, provenance=replace(report.provenance, unlearned=replace(record, shards=shards, digest=digest))
    )


def swapped(report: Report) -> Report:
    return replace(report, provenance=Provenance(report.provenance.unlearned, report.provenance.base))


def relocated(report: Report) -> Report:
    record: CheckpointRecord = replace(report.provenance.base, location="/models/famous")
    return replace(report, provenance=replace(report.provenance, base=record))


LOOSE = POLICY.replace('labels = ["identical", "suppressed"]', 'labels = ["identical"]')


def another_policy(report: Report) -> Report:
    """A looser policy, and everything that follows from it."""
    return rejudged(with_gate(report, policy=LOOSE))


def without_choice_picks(report: Report) -> Report:
    found = behaviour_of(report)
    assert found.choices is not None
    rows = tuple(replace(row, picked_unlearned=1 - row.picked_unlearned) for row in found.choices.questions)
    return replace(report, behaviour=replace(found, choices=replace(found.choices, questions=rows)))


def with_neutral(report: Report, **changes: Any) -> Report:
    found = behaviour_of(report)
    assert found.neutral is not None
    texts = (replace(found.neutral.texts[0], **changes), *found.neutral.texts[1:])
    return replace(report, behaviour=replace(found, neutral=replace(found.neutral, texts=texts)))


def with_grid(report: Report) -> Report:
    found = compare_of(report)
    return replace(report, compare=replace(found, grid=replace(found.grid, relative_l2=found.grid.relative_l2 * 0.5)))


def with_component(report: Report) -> Report:
    found = compare_of(report)
    rows = [replace(row, drift=replace(row.drift, relative_l2=row.drift.relative_l2 / 10)) for row in found.components]
    return replace(report, compare=replace(found, components=tuple(rows)))


def without_tensor(report: Report) -> Report:
    found = compare_of(report)
    return replace(report, compare=replace(found, tensors=found.tensors[:-1]))


def with_window(report: Report) -> Report:
    return with_run(report, lambda run: replace(run, first=run.first * 0))


def asked_otherwise(report: Report) -> Report:
    found = probe_of(report)
    first, *rest = found.questions
    return replace(report, probe=replace(found, questions=(replace(first, text="Who is nobody?"), *rest)))


def without_behaviour(report: Report, name: str) -> Report:
    found = behaviour_of(report)
    return replace(report, behaviour=replace(found, answers=tuple(one for one in found.answers if one.name != name)))


class Attack(NamedTuple):
    """What is done to a report, and the word of a difference that tells of it; None: only the key catches it."""

    edit: Callable[[Report], Report]
    caught: str | None


ATTACKS: dict[str, Attack] = {
    # edited numbers
    "a score": Attack(lambda r: with_curve(r, score=-0.2), "krs_kl[0] and"),
    "an interval": Attack(lambda r: with_curve(r, low=0.05, high=-0.05), "krs_kl_low"),
    "a band": Attack(lambda r: with_curve(r, band_high=-0.1), "krs_kl_band_high"),
    "a loss": Attack(lambda r: with_run(r, lambda run: replace(run, loss_kl=run.loss_kl * 2)), "krs_kl[0]"),
    "losses, and all that follows": Attack(gentler_losses, None),
    "the mean of ratios": Attack(
        lambda r: with_run(r, lambda run: replace(run, krs_mean_of_ratios=run.krs_mean_of_ratios + 1)), "mean_of_ratios"
    ),
    "the unlearned model's loss": Attack(
        lambda r: replace(r, probe=replace(probe_of(r), loss_unlearned=replace(probe_of(r).loss_unlearned, kl=1e-4))),
        "loss_unlearned/kl",
    ),
    "a window's layers": Attack(with_window, "/first"),
    "BLEU": Attack(lambda r: with_target(r, bleu=0.9), "target/0/bleu"),
    "a measure of benchmarks": Attack(
        lambda r: with_measure(r, unlearned=Mean(0.0, 0.0, 0.0)), "target/field/probability_unlearned"
    ),
    "values of a measure removed": Attack(lambda r: with_measure(r, each_base=()), "field/probability_base: values"),
    "chrF": Attack(lambda r: with_target(r, chrf=0.9), "target/0/chrf"),
    "an answer": Attack(
        lambda r: with_target(r, answer_unlearned=behaviour_of(r).answers[0].questions[0].answer_base), "target/0/bleu"
    ),
    # What ids say is known to the tokenizer alone; but other words with the same BLEU have other characters.
    "an answer, to no better one": Attack(
        lambda r: with_target(r, answer_unlearned="nothing of the kind"), "target/0/chrf"
    ),
    "exact": Attack(
        lambda r: with_target(r, exact=not behaviour_of(r).answers[0].questions[0].exact), "target/0/exact"
    ),
    "log p of an answer": Attack(lambda r: with_target(r, logprob_unlearned=-0.5), "logprob_unlearned"),
    "answers, and all that follows": Attack(
        lambda r: rejudged(replace(r, behaviour=with_answers(behaviour_of(r), "unrelated", all_the_same))), None
    ),
    "picks of multiple choice": Attack(without_choice_picks, "accuracy_unlearned"),
    "a neutral text's loss": Attack(lambda r: with_neutral(r, nll_unlearned=0.1), "perplexity_unlearned"),
    "a neutral text": Attack(lambda r: with_neutral(r, text="Another text."), "neutral/digest"),
    "a tensor's angle": Attack(lambda r: with_tensor(r, one_minus_cosine=1e-9, cosine=1 - 1e-9), "relative_l2"),
    "a tensor's length": Attack(lambda r: with_tensor(r, relative_l2=1e-9), "relative_l2"),
    "how much of a tensor changed": Attack(lambda r: with_tensor(r, changed=1), "changed_fraction"),
    "drift of components": Attack(with_component, "compare/components"),
    "the grid": Attack(with_grid, "compare/grid/relative_l2"),
    # removed metrics, runs, questions, controls
    "a run removed": Attack(lambda r: without_run(r, "coeff", "whole"), "no run that it belongs to"),
    "a run of weights removed": Attack(lambda r: without_run(r, "values", "whole"), "verdict/"),
    "a mode removed, and all that follows": Attack(without_mode, None),
    "a question removed from the probe": Attack(lambda r: without_question(r, everything=False), "questions_digest"),
    "a question removed everywhere": Attack(lambda r: without_question(r, everything=True), None),
    "unrelated answers removed": Attack(lambda r: without_behaviour(r, "unrelated"), "verdict/"),
    "all behaviour removed": Attack(lambda r: replace(r, behaviour=None), "verdict/"),
    "the probe removed": Attack(lambda r: replace(r, probe=None), "verdict/"),
    "a tensor removed": Attack(without_tensor, "compare/components"),
    "the band of an older verdict": Attack(
        lambda r: with_verdict(r, edition=1, explained_low=0.9), "verdict/explained"
    ),
    "a label by older rules": Attack(
        lambda r: with_verdict(r, edition=1, label=LABELS[0]), "by edition 1 of the rules, now"
    ),
    "the verdict removed": Attack(lambda r: replace(r, verdict=None), None),
    "the gate removed": Attack(lambda r: with_verdict(r, gate=None), None),
    "a self-patch control removed": Attack(lambda r: without_control(r, "self_patch"), "probe/controls"),
    "a wrong-prompt control removed": Attack(lambda r: without_control(r, "wrong_prompt"), "probe/controls"),
    "a control flipped": Attack(lambda r: with_control(r, "everything", passed=False), ": passed"),
    "a control of everything that brought half": Attack(lambda r: with_control(r, "everything", value=0.5), ": passed"),
    "the score that a control stands beside": Attack(
        lambda r: rejudged(with_control(r, "wrong_prompt", against=0.123)), ": against"
    ),
    "the knowledge": Attack(lambda r: with_verdict(r, knowledge="gone"), "verdict/knowledge"),
    "what is lacking": Attack(lambda r: with_verdict(r, lacking=()), "verdict/lacking"),
    "what the policy's files held": Attack(lambda r: with_gate(r, files={"neutral": "ab" * 32}), None),
    "a note about the policy": Attack(lambda r: with_gate(r, notes=("all is well",)), "verdict/gate/notes"),
    "a control's bound": Attack(lambda r: with_control(r, "self_patch", bound=1.0), ": bound"),
    "a control that can no longer fail": Attack(
        lambda r: rejudged(with_control(r, "self_patch", value=5.0, kind="shown", passed=True)), ": kind"
    ),
    "krs_kl of a mode": Attack(without_kl, "losses kl"),
    "tokens that agree, answers that do not": Attack(agreeing, "one story"),
    "all settings": Attack(lambda r: rejudged(replace(r, probe=replace(probe_of(r), settings={}))), "probe/settings"),
    "a control's figure": Attack(lambda r: with_control(r, "self_patch", value=1e-7), None),
    # the verdict, its thresholds, and the policy
    "the label": Attack(lambda r: with_verdict(r, label="values edited"), "verdict/label"),
    "the reason": Attack(lambda r: with_verdict(r, reason="All is well."), "verdict/reason"),
    "a threshold": Attack(lambda r: with_rule(r, threshold=0.99), "/threshold"),
    "a rule's outcome": Attack(lambda r: with_rule(r, fired=not verdict_of(r).rules[-1].fired), "/fired"),
    "a rule removed": Attack(lambda r: with_verdict(r, rules=verdict_of(r).rules[:-1]), "rules: how many"),
    "what was not measured": Attack(lambda r: with_verdict(r, unmeasured=()), "verdict/unmeasured"),
    "the gate's outcome": Attack(
        lambda r: with_gate(r, outcome="failed" if verdict_of(r).gate.outcome == "passed" else "passed"),  # type: ignore[union-attr]
        "verdict/gate/outcome",
    ),
    "a check removed": Attack(lambda r: with_gate(r, checks=verdict_of(r).gate.checks[1:]), "gate/checks"),  # type: ignore[union-attr]
    "the policy's text": Attack(lambda r: with_gate(r, policy=LOOSE), "verdict/gate/digest"),
    "a policy that is none": Attack(lambda r: with_gate(r, policy="="), "no policy"),
    "another policy, and all that follows": Attack(another_policy, None),
    # provenance and metadata
    "base and unlearned swapped": Attack(swapped, None),
    "a shard's digest": Attack(lambda r: with_shard(r, whole=False), "provenance/unlearned/digest"),
    "a shard's digest, and the checkpoint's": Attack(lambda r: with_shard(r, whole=True), None),
    "no digests": Attack(
        lambda r: replace(r, provenance=replace(r.provenance, base=replace(r.provenance.base, digest=None))),
        "provenance/base/digest",
    ),
    "the location": Attack(relocated, None),
    "versions": Attack(lambda r: replace(r, versions={**r.versions, "torch": "9.9"}), None),
    "a setting": Attack(lambda r: with_setting(r, device="cuda"), None),
    "modes asked for": Attack(lambda r: with_setting(r, modes="coeff"), "settings/modes"),
    "notes": Attack(lambda r: replace(r, probe=replace(probe_of(r), notes=("all is well",))), None),
    "a question's text": Attack(asked_otherwise, "questions_digest"),
    "incomplete": Attack(lambda r: replace(r, complete=False), None),
}


def test_the_table_is_long_enough() -> None:
    assert len(ATTACKS) + len(ENVELOPES) + len(FILES) >= 20


def test_the_untouched_report_is_verified(scene: Scene) -> None:
    # Through the reader and the writer once more, as every attack goes: the same report gives the same bytes.
    scene.write(read_report(scene.root / "report.h5"))
    status, out = scene.verify()
    assert status == 0
    assert out.startswith("consistent, origin unproven: ")
    assert "verified" not in out
    everything = ("--base", scene.root / "base", "--unlearned", scene.root / "unlearned")
    status, out = scene.verify_signed(*everything, "--policy", scene.root / "policy.toml")
    assert status == 0
    assert out.startswith("verified: ")
    assert "files of base and unlearned hashed" in out


def test_a_policy_that_asks_nothing_of_the_knowledge_passes_by_name_alone(scene: Scene) -> None:
    text = '[require]\nsections = ["compare"]'
    (scene.root / "other.toml").write_text(text)
    scene.write(judge_report(scene.report, parse_policy(text, "other.toml")))
    path = scene.root / "report.h5"
    status, out, err = scene.call("verify", path, "--require-passed")
    assert (status, out.count("\n")) == (3, 1)
    why = "ckdiff: inconclusive: the gate passed by a policy (other.toml) that does not ask what became"
    assert err.splitlines()[-1].startswith(why)
    assert scene.call("verify", path, "--require-passed", "--policy", scene.root / "other.toml")[0] == 0
    assert scene.call("verify", path)[0] == 0
    asks = parse_policy('[require]\nknowledge = ["unknown"]', "asks.toml")
    scene.write(judge_report(scene.report, asks))
    assert scene.call("verify", path, "--require-passed")[0] == 0


UNASKED = "does not ask about the knowledge: 'unknown'"


@pytest.mark.parametrize(
    ("text", "end", "status"),
    [
        ('[require]\nsections = ["compare"]', f"the gate passed, by a policy (other.toml) that {UNASKED}", 3),
        ("[fail]\nlabels = {labels}", "the gate failed", 1),
        ("[require]\nquestions = 999", "the gate was inconclusive", 3),
        (None, "not judged", 3),
    ],
)
def test_a_genuine_report_says_what_its_gate_said(scene: Scene, text: str | None, end: str, status: int) -> None:
    judged = None if text is None else parse_policy(text.format(labels=list(LABELS)), "other.toml")
    scene.write(judge_report(scene.report, judged))
    if judged is not None:
        _, _, err = scene.call("attest", scene.root / "report.h5", "--key", scene.root / "ours.pem")
        assert err.endswith(f"; {end}\n")
        assert scene.verify_signed("--require-passed")[0] == status
        assert scene.verify_signed()[1].endswith(f"; {end}\n")
    found, out = scene.verify("--require-passed")
    assert (found, out.endswith(f"; {end}\n")) == (status, True)
    assert scene.verify()[0] == 0


@pytest.mark.parametrize("name", ATTACKS)
def test_forged_reports_differ(proof: Proof, name: str) -> None:
    attack = ATTACKS[name]
    found = [str(one) for one in check(attack.edit(replace(proof.report))).found]
    assert attack.caught is None if not found else any(str(attack.caught) in one for one in found), found


FILED = [name for number, (name, attack) in enumerate(ATTACKS.items()) if attack.caught is None or number % 8 == 0]
"""Those that go through a file and the command as well, as the others do in thorough tests."""


@pytest.mark.parametrize(
    "name", [name if name in FILED else pytest.param(name, marks=pytest.mark.thorough) for name in ATTACKS]
)
def test_forged_reports(scene: Scene, name: str) -> None:
    attack = ATTACKS[name]
    forged = attack.edit(scene.report)
    scene.write(forged)
    status, out = scene.verify()
    if attack.caught is None:
        assert (status, out.count("\n")) == (0, 1), out
        assert out.startswith("consistent, origin unproven: ")
    else:
        assert status == 1
        assert any(attack.caught in line for line in out.splitlines()[:-1]), out
    assert "verified" not in out
    if attack.caught is None:  # what a report does not say of itself, its attestation does
        status, out = scene.verify_signed()
        assert status == 1
        assert "attestation" in out
        assert not out.startswith("verified")
        assert out.splitlines()[-1].startswith("differs: ")


def test_another_policy_is_caught_by_naming_the_right_one(scene: Scene) -> None:
    scene.write(another_policy(scene.report))
    assert scene.verify()[0] == 0
    status, out, err = scene.call("verify", scene.root / "report.h5", "--policy", scene.root / "policy.toml")
    assert status == 1
    assert "against the policy given" in out
    assert "by the policy " in err
    assert "not by the one given, which alone is no sign of an edit: `ckdiff gate REPORT --policy FILE --save`" in err
    assert "by the policy " not in scene.call("verify", scene.root / "report.h5")[2]


def test_a_verdict_of_older_rules_with_the_same_band_is_no_forgery(scene: Scene) -> None:
    assert scene.report.verdict is not None
    scene.write(with_verdict(scene.report, edition=scene.report.verdict.edition - 1))
    assert scene.verify()[0] == 0
    # The band of several modes at once is no curve's own.
    said = with_verdict(scene.report, explained=0.9, explained_low=0.8, explained_high=1.0)
    probed, verdict = scene.report, said.verdict
    assert verdict is not None
    for again, differs in ((verdict, 0), (replace(verdict, explained_low=0.7), 1)):
        found = Differences()
        _check_older_band(probed, verdict, again, found)
        assert len(found.found) == differs


def test_swapped_provenance_is_caught_by_the_files(scene: Scene) -> None:
    scene.write(swapped(scene.report))
    status, out = scene.verify("--base", scene.root / "base")
    assert status == 1
    assert "sha256" in out


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"])
def test_another_file_around_the_weights_is_caught(name: str, scene: Scene) -> None:
    """The weights are the same, what they are told is not: changed, added or taken away."""
    sides = ("--base", scene.root / "base", "--unlearned", scene.root / "unlearned")
    path = scene.root / "unlearned" / name
    if name == "config.json":
        path.write_text(path.read_text().replace("{", '{"rope_theta": 9.0,', 1))
    elif path.exists():
        path.unlink()
    else:
        path.write_text("{{ messages }}")
    status, out = scene.verify_signed(*sides)
    assert status == 1
    assert f"unlearned: {name}: sha256" in out
    assert out.count("sha256") == 1


def test_settings_and_how_it_was_measured_are_signed(scene: Scene) -> None:
    own = json.loads(content_of(scene))["predicate"]["ckdiff"]
    assert own["format"] == 3
    assert own["settings"]["base"] == {one.name: one.sha256 for one in scene.report.provenance.base.settings}
    assert {"config.json", "tokenizer.json"} <= own["settings"]["unlearned"].keys()
    assert own["measured"]["probe"] == dict(probe_of(scene.report).settings)
    assert {"dtype", "tokens", "window"} <= own["measured"]["probe"].keys()
    assert own["measured"]["behaviour"] == dict(behaviour_of(scene.report).settings)


def test_a_statement_of_the_older_form_is_verified_as_it_was_signed(scene: Scene) -> None:
    """It lacks what an older ckdiff did not sign; a newer one that lacks it, or an unknown one, is none."""
    whole = json.loads(content_of(scene))
    for form, status in ((1, 0), (2, 1), (0, 1), (3, 1), (4, 1), ("1", 1), (True, 1)):
        newer = ("settings", "measured", "references")
        own = {key: value for key, value in whole["predicate"]["ckdiff"].items() if key not in newer}
        changed = {**whole, "predicate": {**whole["predicate"], "ckdiff": {**own, "format": form}}}
        signed_again(scene, json.dumps(changed).encode())
        assert scene.verify_signed()[0] == status, form


def test_a_report_that_says_nothing_of_its_settings_is_read_and_verified(scene: Scene) -> None:
    sides = scene.report.provenance
    bare = Provenance(replace(sides.base, settings=()), replace(sides.unlearned, settings=()))
    scene.write(replace(scene.report, provenance=bare))
    assert scene.verify("--base", scene.root / "base")[0] == 0


# ------------------------------------------------------------------------------------------------------- envelopes


def rewritten(scene: Scene, **changes: Any) -> None:
    scene.sidecar.write_text(json.dumps(scene.envelope() | changes))


def signed_again(scene: Scene, content: bytes, key: str = "ours", kind: str = PAYLOAD_TYPE) -> Any:
    scene.sidecar.write_bytes(sign(content, kind, private_key(scene.root / f"{key}.pem")))
    return scene.envelope()


def content_of(scene: Scene) -> bytes:
    return base64.b64decode(scene.envelope()["payload"])


def foreign_with_our_keyid(scene: Scene) -> None:
    keyid = scene.envelope()["signatures"][0]["keyid"]
    found = signed_again(scene, content_of(scene), "theirs")
    found["signatures"][0]["keyid"] = keyid
    scene.sidecar.write_text(json.dumps(found))


def of_another_report(scene: Scene) -> None:
    other = rejudged(replace(scene.report, versions={"ckdiff": "0"}))
    write_report(other, scene.root / "other.h5")
    assert scene.call("attest", scene.root / "other.h5", "-k", scene.root / "ours.pem", "-o", scene.sidecar)[0] == 0


def edited_payload(scene: Scene) -> None:
    text = content_of(scene).replace(b'"FAILED"', b'"PASSED"').replace(b'"failed"', b'"passed"')
    assert text != content_of(scene) or b'"PASSED"' in text
    rewritten(scene, payload=base64.b64encode(text + b" ").decode())


def stated(change: Callable[[Any], object]) -> Callable[[Scene], None]:
    """A statement that the right key has signed, about the right file, and that says something else than it."""

    def attack(scene: Scene) -> None:
        tree = json.loads(content_of(scene))
        change(tree)
        signed_again(scene, payload(tree))

    return attack


def directory(scene: Scene) -> None:
    scene.sidecar.unlink()
    scene.sidecar.mkdir()


def twice(scene: Scene) -> None:
    rewritten(scene, signatures=scene.envelope()["signatures"] * 2)


ENVELOPES: dict[str, tuple[Callable[[Scene], object], str]] = {
    "deleted": (lambda s: s.sidecar.unlink(), "no such file"),
    "a directory": (directory, "cannot be read"),
    "stripped": (lambda s: rewritten(s, signatures=[]), "no signature"),
    "no signatures at all": (lambda s: s.sidecar.write_text("{}"), "not a DSSE envelope"),
    "foreign": (lambda s: signed_again(s, content_of(s), "theirs"), "another key"),
    "foreign, under our key's id": (foreign_with_our_keyid, "not one of this key"),
    "of another report": (of_another_report, "configuration[0].digest.sha256"),
    "edited payload": (edited_payload, "not one of this key"),
    "another payload type": (lambda s: rewritten(s, payloadType="text/plain"), "payload is a text/plain"),
    "another payload type, signed": (lambda s: signed_again(s, content_of(s), kind="text/plain"), "text/plain"),
    "truncated": (lambda s: s.sidecar.write_bytes(s.sidecar.read_bytes()[:-40]), "not a DSSE envelope"),
    "empty": (lambda s: s.sidecar.write_bytes(b""), "not a DSSE envelope"),
    "huge": (lambda s: s.sidecar.write_bytes(b" " * (MOST_ENVELOPE + 1)), "too large"),
    "deep": (lambda s: s.sidecar.write_text("[" * 100_000), "not a DSSE envelope"),
    "a list": (lambda s: s.sidecar.write_text("[1]"), "not a DSSE envelope"),
    "signatures that are a text": (lambda s: rewritten(s, signatures="yes"), "not a DSSE envelope"),
    "signed twice by one key": (twice, "not a DSSE envelope"),
    "no signature in it": (lambda s: rewritten(s, signatures=[{"keyid": "a", "sig": ""}]), "another key"),
    "payload that is no JSON": (lambda s: signed_again(s, b"nothing"), "no JSON"),
    "payload that is no object": (lambda s: signed_again(s, b"[]"), "no statement"),
    "a label": (stated(lambda t: t["predicate"]["ckdiff"]["verdict"].update(label="values edited")), ".label"),
    "a result": (stated(lambda t: t["predicate"].update(result="WARNED")), "predicate.result"),
    "a figure": (stated(lambda t: t["predicate"]["ckdiff"]["verdict"].update(detectable=0.01)), ".detectable"),
    "a figure that is text": (stated(lambda t: t["predicate"]["ckdiff"]["verdict"].update(score="0.1")), ".score"),
    "a threshold": (
        stated(lambda t: t["predicate"]["ckdiff"]["verdict"]["rules"][0].update(threshold=7)),
        "rules[0].threshold",
    ),
    "a rule left out": (stated(lambda t: t["predicate"]["ckdiff"]["verdict"]["rules"].pop()), "rules: how many"),
    "a metric left out": (stated(lambda t: t["predicate"]["ckdiff"]["verdict"].pop("explained")), ".explained"),
    "a subject left out": (stated(lambda t: t["subject"].pop()), "subject: how many"),
    "a subject": (stated(lambda t: t["subject"][0]["digest"].update(sha256="0" * 64)), "subject[0].digest"),
    "a policy digest": (
        stated(lambda t: t["predicate"]["configuration"][1]["digest"].update(sha256="0" * 64)),
        "configuration[1].digest",
    ),
    "a failed test left out": (stated(lambda t: t["predicate"].update(failedTests=["none"])), "failedTests"),
    "another predicate type": (
        stated(lambda t: t.update(predicateType="https://slsa.dev/provenance/v1")),
        "predicateType",
    ),
    "something more": (stated(lambda t: t["predicate"].update(waiver="approved")), "predicate.waiver"),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_forged_attestations(scene: Scene, name: str) -> None:
    attack, word = ENVELOPES[name]
    attack(scene)
    status, out = scene.verify_signed()
    assert status == 1, out
    assert word in out
    assert not out.startswith("verified")


def test_without_a_key_nothing_is_said_about_the_signature(scene: Scene) -> None:
    rewritten(scene, signatures=[])
    status, out, err = scene.call("verify", scene.root / "report.h5")
    assert status == 0
    assert out.startswith("consistent, origin unproven: ")
    assert "verified" not in out + err
    assert "not looked at; --key FILE checks its signature" in err


def test_a_second_signature_takes_nothing_away(scene: Scene) -> None:
    ours = scene.envelope()
    theirs = signed_again(scene, base64.b64decode(ours["payload"]), "theirs")
    ours["signatures"] += theirs["signatures"]
    scene.sidecar.write_text(json.dumps(ours))
    assert scene.verify_signed()[0] == 0
    assert scene.verify("--key", scene.root / "theirs.pem.pub")[0] == 0


def test_an_attestation_in_another_place(scene: Scene) -> None:
    shutil.move(scene.sidecar, scene.root / "elsewhere.json")
    assert scene.verify_signed()[0] == 1
    assert scene.verify_signed("--attestation", scene.root / "elsewhere.json")[0] == 0


def test_a_renamed_report_is_still_the_one_that_was_signed(scene: Scene) -> None:
    shutil.move(scene.root / "report.h5", scene.root / "release.h5")
    shutil.move(scene.sidecar, scene.root / "release.h5.intoto.json")
    status, out, _ = scene.call("verify", scene.root / "release.h5", "-k", scene.root / "ours.pem.pub")
    assert status == 0
    assert out.startswith("verified: ")


# ----------------------------------------------------------------------------------------------------------- files


def weights(scene: Scene, side: str) -> Path:
    return scene.root / side / "model.safetensors"


def one_byte(scene: Scene) -> None:
    place = weights(scene, "base")
    content = bytearray(place.read_bytes())
    content[-5] ^= 1
    place.write_bytes(content)


def sharded(scene: Scene) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights(scene, "base"))
    names = sorted(tensors)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for name, part in halves.items():
        save_file({tensor: tensors[tensor] for tensor in part}, scene.root / "base" / name)
    weight_map = {tensor: name for name, part in halves.items() for tensor in part}
    (scene.root / "base" / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    weights(scene, "base").unlink()


FILES: dict[str, tuple[Callable[[Scene], object], str]] = {
    "one byte": (one_byte, "model.safetensors: sha256"),
    "the other checkpoint": (
        lambda s: shutil.copy(weights(s, "unlearned"), weights(s, "base")),
        "model.safetensors: sha256",
    ),
    "the same tensors in two files": (sharded, "no such file"),
}


@pytest.mark.parametrize("name", FILES)
def test_swapped_checkpoints(scene: Scene, name: str) -> None:
    attack, word = FILES[name]
    attack(scene)
    assert scene.verify_signed()[0] == 0
    for options in ((), ("--key", scene.root / "ours.pem.pub")):
        status, out = scene.verify(*options, "--base", scene.root / "base")
        assert status == 1
        assert word in out


def test_a_checkpoint_that_is_not_there(scene: Scene) -> None:
    assert scene.call("verify", scene.root / "report.h5", "--base", scene.root / "nope")[0] == 2


def test_a_report_without_hashes_proves_no_files(scene: Scene) -> None:
    base = scene.report.provenance.base
    bare = replace(base, digest=None, shards=tuple(replace(shard, sha256=None) for shard in base.shards))
    scene.write(rejudged(replace(scene.report, provenance=replace(scene.report.provenance, base=bare))))
    assert scene.verify()[0] == 0
    status, out = scene.verify("--base", scene.root / "base")
    assert status == 1
    assert "sha256: stored nothing" in out


# ---------------------------------------------------------------------------------------------- words and statuses


def test_nothing_to_verify_is_inconclusive(scene: Scene) -> None:
    scene.write(Report(scene.report.provenance))
    status, out = scene.verify()
    assert status == 3
    assert out.startswith("inconclusive: ")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nope.h5",), "no such report"),
        (("policy.toml",), "not an HDF5 file"),
        (("damaged.h5",), "checksum"),
        (("report.h5", "--key", "nope.pem"), "cannot be read"),
        (("report.h5", "--key", "ours.pem"), "private key"),
        (("report.h5", "--key", "policy.toml"), "not a public key"),
        (("report.h5", "--attestation", "report.h5.intoto.json"), "--key"),
        (("report.h5", "--policy", "nope.toml"), "cannot be read"),
    ],
)
def test_unusable_input(scene: Scene, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], word: str) -> None:
    monkeypatch.chdir(scene.root)
    content = bytearray((scene.root / "report.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (scene.root / "damaged.h5").write_bytes(content)
    status, out, err = scene.call("verify", *arguments)
    assert (status, out) == (2, "")
    assert word in err
    assert len(err.splitlines()) == 1


def test_made_up_reports_differ(scene: Scene) -> None:
    # The samples of other tests hold figures that follow from nothing.
    from tests.reports import behaviour, comparison, probe, verdict

    scene.write(sample(comparison(), probe(), behaviour(), verdict()))
    status, out = scene.verify()
    assert status == 1
    assert "more\ndiffers: " in out
    places = {one.where.partition("/")[0] for one in check(read_report(scene.root / "report.h5")).found}
    assert places == {"provenance", "compare", "probe", "behaviour", "verdict"}


def test_hostile_values_are_differences_and_no_traceback(proof: Proof) -> None:
    def found(report: Report) -> str:
        return "\n".join(map(str, check(report).found))

    report = proof.report
    assert "cannot be computed" in found(with_setting(report, tokens="many"))
    short = with_run(report, lambda run: replace(run, first=run.first[:0]))
    assert "windows" in found(short)
    assert "shape" in found(with_run(report, lambda run: replace(run, top1=run.top1[:0])))
    assert "window centres" in found(replace(report, probe=replace(probe_of(report), layer_count=10**15)))
    odd = with_run(report, lambda run: replace(run, loss_kl=run.loss_kl[:, :0]))
    assert "losses kl" in found(odd)
    assert "\x1b" not in found(with_verdict(report, reason="\x1b[31mred"))


def with_neurons(found: Probe) -> Probe:
    """The same probe with a set of two neurons that brings back what its window does."""
    run = next(run for run in found.runs if (run.direction, run.mode, run.variant) == ("restore", "coeff", "whole"))
    score = float(run.krs_kl.score[0])
    one = NeuronSet(
        direction="restore",
        layer=-1,
        first=0,
        last=found.layer_count - 1,
        goal=0.8 if score > 0 else 1.2,
        candidates=64,
        window_score=score,
        score=score,
        low=float(run.krs_kl.low[0]),
        high=float(run.krs_kl.high[0]),
        krs=float(run.krs.score[0]),
        krs_centred=float(run.krs_centred.score[0]),
        random_score=0.0,
        random_low=-0.1,
        random_high=0.1,
        random_sets=10,
        sizes=np.array([1, 2]),
        sizes_score=np.array([score - abs(score) - 1, score]),
        loss_mse=run.loss_mse[0],
        loss_mse_centred=run.loss_mse_centred[0],
        loss_kl=run.loss_kl[0],
        neurons=(NeuronRecord(0, 3, 0.5), NeuronRecord(2, 1, 0.4)),
    )
    return replace(found, neurons=(one,), settings={**found.settings, "neurons": f"{one.goal:g}"})


def test_neuron_sets(proof: Proof) -> None:
    found = with_neurons(probe_of(proof.report))

    def differs(**changes: Any) -> str:
        sets = (replace(found.neurons[0], **changes), *found.neurons[1:])
        forged = replace(proof.report, probe=replace(found, neurons=sets))
        return "\n".join(map(str, check(forged).found))

    one = found.neurons[0]
    assert "neurons" not in differs()
    assert "/score" in differs(score=one.score + 0.1)
    assert "/low" in differs(low=one.low - 0.1)
    assert "/krs" in differs(krs=one.krs + 0.1)
    assert "/score" in differs(loss_kl=one.loss_kl * 1.5)
    assert "window_score" in differs(window_score=one.window_score + 0.1)
    assert "/goal" in differs(goal=0.1)
    assert "in the set" in differs(neurons=(*one.neurons, replace(one.neurons[0], neuron=10**6)))
    assert "outside the window" in differs(neurons=(replace(one.neurons[0], layer=99), *one.neurons[1:]))


def test_bounds_are_those_of_the_probe() -> None:
    from ckdiff.probes import assembly
    from ckdiff.probes.preparation import DTYPES

    made = [assembly.everything_control("restore", "krs_kl", value) for value in (EVERYTHING, EVERYTHING - 1e-6)]
    assert [(one.passed, one.bound, one.kind) for one in made] == [
        (True, EVERYTHING, "at_least"),
        (False, EVERYTHING, "at_least"),
    ]

    assert assembly.EVERYTHING == EVERYTHING
    assert {name: assembly.SELF_PATCH[dtype] for name, dtype in DTYPES.items()} == SELF_PATCH


def test_torch_is_not_needed(proof: Proof) -> None:
    code = "import sys; from ckdiff.cli.app import run; status = run(sys.argv[1:]); "
    code += "sys.exit(status or 'torch' in sys.modules)"
    arguments = ("verify", str(proof.root / "report.h5"), "--key", str(proof.root / "ours.pem.pub"))
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("verified: ")


# ------------------------------------------------------------------------------------------------- the question file


def test_the_facts_of_a_report_are_those_of_its_question_file(proof: Proof, tmp_path: Path) -> None:
    def told(name: str, lines: list[dict[str, str]], report: Report = proof.report) -> list[str]:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)))
        found = Differences()
        check_questions(report, read_questions(path), found)
        assert found.compared > 1
        return [one.where for one in found.found]

    texts = [row.text for row in probe_of(proof.report).questions]
    plain = [{"question": text} for text in texts]
    assert told("plain", plain) == []
    assert told("one", [row | {"fact": "one"} for row in plain]) == [
        "probe: facts by their file", "behaviour/target: facts by their file",
    ]  # fmt: skip
    assert told("other", [{"question": text + "!"} for text in texts]) == [
        "probe: questions", "behaviour/target: questions",
    ]  # fmt: skip
    # Numbers of facts are names; which questions share one is what counts, and older reports say nothing of it.
    found = probe_of(proof.report)
    for shift in (7, -1):
        rows = [replace(row, cluster=-1 if shift < 0 else row.cluster + shift) for row in found.questions]
        report = replace(proof.report, probe=replace(found, questions=tuple(rows)))
        assert told("again", plain, report) == []
    rows = [replace(row, cluster=0) for row in found.questions]
    report = replace(proof.report, probe=replace(found, questions=tuple(rows)))
    assert told("forged", plain, report) == ["probe: facts by their file"]
    # An attack keeps no whole answers of the base: of a file without answers it says nothing, of one with them it does.
    attack = attacks(settings={"questions_digest": read_questions(tmp_path / "plain.jsonl").digest})
    asked = [replace(attack.questions[0], text=text, cluster=number) for number, text in enumerate(texts)]
    attack = replace(attack, questions=tuple(asked))
    assert told("attacked", plain, replace(proof.report, attack=attack)) == []
    answered = [row | {"answer": "Ada"} for row in plain]
    (tmp_path / "answered.jsonl").write_text("\n".join(map(json.dumps, answered)))
    attack = replace(attack, settings={"questions_digest": read_questions(tmp_path / "answered.jsonl").digest})
    assert told("answered", answered, Report(proof.report.provenance, attack=attack)) == ["attack: facts by their file"]


def test_verify_takes_a_question_file(proof: Proof, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_text("Who is somebody else?\n")
    assert run(["verify", str(proof.root / "report.h5"), "--questions", str(tmp_path / "asked.txt")]) == 1
    assert "behaviour/target: questions: stored" in capsys.readouterr().out


def test_the_docs_list_every_forgery() -> None:
    from forgeries import expected

    told = (Path(__file__).parents[1] / "docs" / "verify.md").read_text(encoding="utf-8")
    listed = told.partition("<!-- forgeries -->\n")[2].partition("\n<!-- end of forgeries -->")[0]
    assert listed == expected(), "python benchmarks/forgeries.py --expect prints it"
