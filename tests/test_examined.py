"""What an examiner tried against the verdict, its gates and the commands: less evidence never makes a release pass."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ckdiff.audit.gate.checks import CHECKS
from ckdiff.audit.gate.gate import gate
from ckdiff.audit.gate.policy import PolicyError, parse_policy, read_policy
from ckdiff.audit.judge import judge_report
from ckdiff.audit.verdict.verdict import judge
from ckdiff.audit.verify.report import check
from ckdiff.calls.compare import compare
from ckdiff.calls.specs import CompareSpec
from ckdiff.modes import MODES
from ckdiff.report.hdf5.file import write_report
from ckdiff.report.schema.probe import Curve
from ckdiff.report.schema.verdict import LABELS
from tests.judged import EDITED, SUPPRESSED, answered, behaved, both, compared, probed, report
from tests.reordering import reorder
from tests.reports import same
from tests.tiny_pairs import build, disturbed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.report.schema.report import Report

pytestmark = pytest.mark.usefixtures("remembering")

BLOCKING = 'labels = ["identical", "no effect on these questions", "suppressed", "mixed", "keys edited"]'
BLOCK = parse_policy(f"[fail]\n{BLOCKING}", "block.toml")
PARTS = ("score", "low", "high", "band_low", "band_high")


@cache
def suppressed() -> Report:
    return report(compare=compared(), probe=probed(SUPPRESSED), behaviour=behaved())


def probe_of(found: Report) -> Probe:
    assert found.probe is not None
    return found.probe


def kept(found: Report, keep: Callable[[ProbeRun], bool]) -> Report:
    """The report with some of its runs."""
    probe = probe_of(found)
    return replace(found, probe=replace(probe, runs=tuple(run for run in probe.runs if keep(run))))


def changed(found: Report, change: Callable[[ProbeRun], ProbeRun]) -> Report:
    probe = probe_of(found)
    return replace(found, probe=replace(probe, runs=tuple(map(change, probe.runs))))


def unscored(run: ProbeRun) -> ProbeRun:
    """The run as `--no-kl` leaves it."""
    nothing = np.full(len(run.layers), np.nan)
    return replace(run, krs_kl=Curve(*(nothing for _ in PARTS)))


def outcome(found: Report, policy: Any = BLOCK) -> str:
    return gate(judge_report(found), policy).outcome


# ------------------------------------------------------------------------------------------------- losing evidence


@pytest.mark.parametrize(
    "modes",
    [
        *((mode,) for mode in MODES),
        *itertools.combinations(MODES, 2),
        *(pytest.param(three, marks=pytest.mark.thorough) for three in itertools.combinations(MODES, 3)),
    ],
)
def test_a_suppressed_model_never_passes_by_probing_few_modes(modes: tuple[str, ...]) -> None:
    found = kept(suppressed(), lambda run: run.mode in modes)
    assert judge(found).label in ("suppressed", "mixed", "inconclusive")
    assert outcome(found) != "passed"
    assert outcome(found, read_policy()) != "passed"


def test_no_run_left_out_makes_a_suppressed_model_pass() -> None:
    for left in probe_of(suppressed()).runs:
        found = kept(suppressed(), lambda run, left=left: run is not left)  # type: ignore[misc]
        assert judge(found).label in ("suppressed", "inconclusive"), (left.mode, left.variant, left.direction)
        assert outcome(found) != "passed"


@pytest.mark.parametrize("variant", ["open", "whole"])
@pytest.mark.parametrize("direction", ["restore", "break"])
def test_half_of_the_runs_never_make_it_pass(variant: str, direction: str) -> None:
    for keep in (lambda run: run.variant == variant, lambda run: run.direction == direction):
        assert outcome(kept(suppressed(), keep)) != "passed"


def test_an_effect_in_all_layers_is_not_called_gone_by_its_windows() -> None:
    spread = {
        **both("coeff", 0.95, 0.95),
        ("coeff", "open", "restore"): [0.2] * 6,
        ("coeff", "open", "break"): [0.2] * 6,
    }
    whole = report(compare=compared(), probe=probed(spread), behaviour=behaved())
    assert judge(whole).label == "suppressed"
    windows = kept(whole, lambda run: run.variant == "open")
    assert judge(windows).label == "inconclusive"
    assert "--variant whole" in judge(windows).reason


def test_what_was_not_scored_is_as_if_it_had_not_run() -> None:
    for scores in (SUPPRESSED, EDITED["values"], both("coeff", 0.2, 0.3)):
        whole = report(compare=compared(), probe=probed(scores), behaviour=behaved())
        for modes in (("coeff",), ("values",), ("attn+coeff",), ("attn", "ancillary"), MODES):
            nan = changed(whole, lambda run, modes=modes: unscored(run) if run.mode in modes else run)  # type: ignore[misc]
            assert judge(nan).label == judge(kept(whole, lambda run, modes=modes: run.mode not in modes)).label  # type: ignore[misc]
            assert "nan" not in judge(nan).reason


def test_top1_that_was_not_measured_is_no_unchanged_answer() -> None:
    probe = probe_of(suppressed())
    questions = tuple(replace(one, top1=float("nan")) for one in probe.questions)
    summary = replace(probe.loss_unlearned, kl=float("nan"), top1=float("nan"))
    blind = changed(replace(suppressed(), probe=replace(probe, questions=questions, loss_unlearned=summary)), unscored)
    assert judge(blind).label == "inconclusive"
    assert judge(replace(blind, behaviour=None)).label == "inconclusive"
    benign = behaved(answered("target", 1.0, 0.7, 1.0, same=10))
    assert judge(replace(blind, behaviour=benign)).label == "no effect on these questions"


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.99), (float("nan"), float("nan")), (-np.inf, np.inf)])
@pytest.mark.parametrize("score", [0.45, 0.6, 0.79])
def test_a_wide_interval_settles_nothing(score: float, low: float, high: float) -> None:
    """0.45 [-0.5, 0.99] is no proof that nothing comes back, nor 0.79 that only a part does."""

    def widened(run: ProbeRun) -> ProbeRun:
        ends = np.full(len(run.layers), low), np.full(len(run.layers), high)
        curve = replace(run.krs_kl, band_low=ends[0], band_high=ends[1])
        return replace(run, krs_kl=curve) if run.mode == "coeff" else run

    found = report(compare=compared(), probe=probed(both("coeff", score, 0.9)), behaviour=behaved())
    assert judge(changed(found, widened)).label == "inconclusive"


def test_at_most_is_about_every_window() -> None:
    policy = parse_policy('[[fail.scores]]\nmode = "values"\nat_most = 0.5', "p.toml")

    def first(run: ProbeRun) -> ProbeRun:
        curve = Curve(*(getattr(run.krs_kl, part)[:1] for part in PARTS))
        return replace(run, layers=run.layers[:1], first=run.first[:1], last=run.last[:1], krs_kl=curve)

    assert outcome(suppressed(), policy) == "passed"
    assert outcome(changed(suppressed(), first), policy) == "inconclusive"


def test_how_much_states_bring_back_needs_all_of_them() -> None:
    policy = parse_policy("[fail]\nrecovered = 0.8", "p.toml")
    assert outcome(suppressed(), policy) == "failed"
    for mode in ("coeff", "attn", "attn+coeff"):
        assert outcome(kept(suppressed(), lambda run, mode=mode: run.mode == mode), policy) != "passed"  # type: ignore[misc]


def test_an_easy_question_does_not_outweigh_answers_that_changed() -> None:
    probe = probe_of(suppressed())
    easy = replace(probe, questions=tuple(replace(one, top1=1.0) for one in probe.questions[:1]))
    easy = replace(easy, settings={**easy.settings, "questions_digest": "cd" * 32})
    assert judge(replace(suppressed(), probe=easy)).label == "inconclusive"


# ----------------------------------------------------------------------------------------------------- any report

FIGURE = st.one_of(
    st.floats(-0.5, 1.2), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0, 1e300, -1e300, np.inf, -np.inf, np.nan])
)
RUNS = len(probe_of(suppressed()).runs)


def odd(run: ProbeRun, figures: list[float]) -> ProbeRun:
    own = iter(itertools.cycle(figures))
    curves: dict[str, Any] = {
        name: Curve(*(np.array([next(own) for _ in run.layers]) for _ in PARTS)) for name in ("krs_kl", "krs_centred")
    }
    return replace(run, **curves)


@settings(deadline=None, max_examples=25)
@given(
    figures=st.lists(st.lists(FIGURE, min_size=1, max_size=7), min_size=RUNS, max_size=RUNS),
    there=st.lists(st.booleans(), min_size=RUNS, max_size=RUNS),
    top1=st.lists(st.sampled_from([0.0, 0.5, 1.0, float("nan")]), min_size=10, max_size=10),
    divergence=FIGURE,
    cosine=st.sampled_from([1.0, 0.95, 0.5, 0.0, float("nan")]),
    asked=st.booleans(),
)
def test_any_figures_get_one_verdict_that_nothing_else_changes(
    figures: list[list[float]],
    there: list[bool],
    top1: list[float],
    divergence: float,
    cosine: float,
    asked: bool,
) -> None:
    probe = probe_of(suppressed())
    runs = tuple(odd(run, own) for run, own, held in zip(probe.runs, figures, there, strict=True) if held)
    questions = tuple(replace(one, top1=value) for one, value in zip(probe.questions, top1, strict=True))
    probe = replace(probe, runs=runs, questions=questions, loss_unlearned=replace(probe.loss_unlearned, kl=divergence))
    found = report(compare=compared(cosine=cosine), probe=probe, behaviour=behaved() if asked else None)
    verdict = judge(found)
    assert verdict.label in LABELS
    assert verdict.reason.endswith(".")
    assert all(not rule.fired for rule in verdict.rules if np.isnan(rule.value))
    again = judge(replace(found, probe=replace(probe, runs=runs[::-1])))
    assert (again.label, again.reason, again.layers) == (verdict.label, verdict.reason, verdict.layers)
    raw = replace(probe, runs=tuple(replace(run, krs=run.krs_centred, top1=run.top1 - 1) for run in runs))
    noted = replace(raw, notes=("a note",), model_type="other", settings={**probe.settings, "device": "cuda"})
    assert same(judge(replace(found, probe=noted, versions={"torch": "9"})), verdict)
    for policy in (BLOCK, read_policy()):
        found_gate = gate(replace(found, verdict=verdict), policy)
        assert found_gate.outcome != "passed" or verdict.label != "inconclusive"


def test_every_check_survives_a_report_of_nothing_but_infinities() -> None:
    def wild(value: float) -> Report:
        rows = (replace(answered("target", value, value, value)), replace(answered("unrelated", value, value, value)))
        return changed(replace(suppressed(), behaviour=behaved(*rows)), lambda run: odd(run, [value]))

    values = {"require.basis": "true", "require.digests": "true", "fail.unexpected_tensors": "true"}
    values |= {"fail.labels": '["suppressed"]', "fail.recovered": "0.5", "fail.target_bleu": "0.5"}
    values |= {"fail.unrelated_bleu_loss": "0.5", "require.widest_interval": "0.5", "require.coverage": "1"}
    assert values.keys() <= CHECKS.keys()
    for (name, text), value in itertools.product(values.items(), (np.nan, np.inf, -np.inf, 1e308, -1e308)):
        table, _, key = name.partition(".")
        assert outcome(wild(value), parse_policy(f"[{table}]\n{key} = {text}", "p.toml")) in (
            "passed",
            "failed",
            "inconclusive",
        )


# ------------------------------------------------------------------------------------------------ reordered neurons


def test_neurons_in_another_order_hide_nothing(tmp_path: Path) -> None:
    """A suppressed model is called suppressed, and does not pass, although its neurons and heads were shuffled."""
    model = build("llama")
    model.save_pretrained(tmp_path / "base")
    disturbed(model, 0.01).save_pretrained(tmp_path / "unlearned")
    reorder(tmp_path / "unlearned", tmp_path / "hidden")
    reports = []
    for name in ("unlearned", "hidden"):
        drift = compare(CompareSpec(str(tmp_path / "base"), str(tmp_path / name))).compare
        assert drift is not None
        reports.append(replace(suppressed(), compare=drift))
    plain, hidden = map(judge, reports)
    assert (hidden.label, hidden.reason, hidden.layers) == (plain.label, plain.reason, plain.layers)
    assert hidden.label == "suppressed"
    assert any(rule.fired for rule in hidden.rules if rule.name == "basis")
    assert outcome(reports[1], read_policy()) == outcome(reports[0], read_policy()) != "passed"


def test_neurons_of_one_layer_that_nothing_recognises_leave_no_basis(tmp_path: Path) -> None:
    """The greatest cosine of all is 1: it is the layer's own that counts."""
    build("llama").save_pretrained(tmp_path / "base")
    shutil.copytree(tmp_path / "base", tmp_path / "foreign")
    place = tmp_path / "foreign" / "model.safetensors"
    tensors, generator = load_file(place), torch.Generator().manual_seed(0)
    for part in ("gate_proj", "up_proj", "down_proj"):
        name = f"model.layers.2.mlp.{part}.weight"
        tensors[name] = torch.randn(tensors[name].shape, generator=generator)
    save_file(tensors, place, metadata={"format": "pt"})
    drift = compare(CompareSpec(str(tmp_path / "base"), str(tmp_path / "foreign"))).compare
    assert drift is not None
    assert drift.alignment == ()
    found = judge(replace(suppressed(), compare=drift))
    assert found.label == "inconclusive"
    assert "layer 2" in found.reason


# -------------------------------------------------------------------------------------------------------- policies


@pytest.mark.parametrize("digits", [20, 400, 5000])
@pytest.mark.parametrize(
    "text",
    [
        "[require]\nquestions = {}",
        "[fail]\nrecovered = {}",
        "[fail]\ndrift = {{components = [], relative_l2 = {}}}",
        '[[fail.scores]]\nmode = "coeff"\nat_most = {}',
        "[measure]\nwindow = {}\n[require]\nquestions = 1",
    ],
)
def test_numbers_of_any_length_are_numbers_or_refused(text: str, digits: int) -> None:
    if digits > 20 or "questions" in text:
        with pytest.raises(PolicyError, match=r"^p\.toml: [^\n]*$"):
            parse_policy(text.format("9" * digits), "p.toml")
    else:
        policy = parse_policy(text.format("9" * digits), "p.toml")
        assert outcome(suppressed(), policy) in ("passed", "failed", "inconclusive")


def test_an_endless_policy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "endless.toml").symlink_to("/dev/zero")
    with pytest.raises(PolicyError, match="not a regular file"):
        read_policy(tmp_path / "endless.toml")


# ---------------------------------------------------------------------------------------------------------- status


@pytest.mark.parametrize(("asked", "status"), [(10, 0), (11, 3)])
@pytest.mark.parametrize("way", ["nobody reads", "closed"])
def test_the_status_of_a_gate_is_its_own_whoever_reads(
    tmp_path: Path, warm: Path, way: str, asked: int, status: int
) -> None:
    """`ckdiff gate R | true` and `ckdiff gate R >&-` end as `ckdiff gate R` does."""
    write_report(suppressed(), tmp_path / "r.h5")
    (tmp_path / "p.toml").write_text(f"[require]\nquestions = {asked}\n")
    ends = {"nobody reads": "| (exec true); exit ${PIPESTATUS[0]}", "closed": ">&-"}
    line = f"'{warm}/ckdiff' gate r.h5 -p p.toml {ends[way]}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")


# ------------------------------------------------------------------------------------------------------- forgeries


@pytest.mark.parametrize(("kind", "value"), [("shown", 5.0), ("at_least", 5.0)])
def test_a_failed_control_is_not_hidden_by_its_kind(kind: Any, value: float) -> None:
    probe = probe_of(suppressed())
    controls = tuple(
        replace(one, kind=kind, value=value) if one.name == "self_patch" else one for one in probe.controls
    )
    forged = judge_report(replace(suppressed(), probe=replace(probe, controls=controls)))
    assert any("self_patch" in one.where and "kind" in one.where for one in check(forged).found)
    honest = check(judge_report(suppressed())).found
    assert not any("kind" in one.where for one in honest)
