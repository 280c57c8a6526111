"""What follows from a probe's per-question losses: `follow_probe(found)`; `check_probe` says what else is not right.

Every score, interval, band, mean of ratios, top1 and loss summary follows from losses of runs and of the unlearned
model; windows follow from their centres; which runs and controls there must be follows from the settings; what a
control says of itself follows from its figure and its bound. The losses themselves follow from nothing in a report.
Needs no torch.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.audit.verify.walk import control_name, set_name
from ckdiff.modes import MODES
from ckdiff.questions.values import canonical_digest
from ckdiff.report.schema.probe import SCORES, SWEEP, Curve
from ckdiff.scoring.controls import EVERYTHING, KINDS, SELF_PATCH, passes
from ckdiff.scoring.runs import tiles, window_of
from ckdiff.scoring.scores import METHOD, QuestionLosses, curve, loss_summary, probe_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.probe import Control, NeuronSet, Probe, ProbeRun


WRITTEN = (
    *("modes", "variants", "directions", "window", "layers", "tokens", "dtype"),
    *("kl", "questions_digest", "bootstrap"),
)
"""Settings that every probe writes, and that checks hang on."""


LOSSES = {"mse": "loss_mse", "mse_centred": "loss_mse_centred", "kl": "loss_kl", "top1": "top1_questions"}
"""Losses of a question, each with the field of a run that holds it for every window."""


ROUNDING = 1e-9


def follow_probe(found: Probe) -> dict[str, Any]:
    """Everything that follows from what a probe stores."""
    if not found.questions:
        return {}
    unlearned = _unlearned(found)
    return {
        "settings": _settings(found),
        "loss_unlearned": loss_summary(*(getattr(unlearned, name) for name in LOSSES)),
        "runs": [_run(found, run, unlearned) for run in found.runs],
        "controls": [_control(found, control) for control in found.controls],
        "neurons": [_neurons(found, one, unlearned) for one in found.neurons],
    }


def check_probe(found: Probe, differences: Differences) -> None:
    """What must be there, and what must not be so."""
    if not found.questions:
        if found.runs:
            differences.add("probe/questions", "none", f"{len(found.runs)} runs that scored some")
        return
    differences.present("probe/settings", WRITTEN, found.settings)
    for run in found.runs:
        _check_run(found, run, differences)
    _check_scope(found, differences)
    _check_controls(found, differences)
    for one in found.neurons:
        _check_neurons(found, one, differences)


def texts_digest(texts: Sequence[str]) -> str:
    """The digest of a set of questions whose file gives no answers."""
    return canonical_digest([[text, None] for text in texts])


def answerless(source: str) -> bool:
    """Whether questions of such a source have no answers, so that their digest follows from their texts."""
    return source in ("command line", "general questions of ckdiff") or source.endswith(", text")


def _unlearned(found: Probe) -> QuestionLosses:
    return QuestionLosses(*(np.array([getattr(one, name) for one in found.questions], "f8") for name in LOSSES))


def _settings(found: Probe) -> dict[str, str]:
    wanted = {"bootstrap": METHOD}
    if answerless(found.settings.get("questions_source", "")):
        wanted["questions_digest"] = texts_digest([question.text for question in found.questions])
    return {name: text for name, text in wanted.items() if name in found.settings}


# --------------------------------------------------------------------------------------------------------------- runs


def _path(run: ProbeRun) -> str:
    return "/".join(getattr(run, name) for name in SWEEP)


def _lacks(found: Probe, run: ProbeRun) -> tuple[str, str, str] | None:
    """What of a run is not there for each window and question: what, how much there is, how much there must be."""
    centres, shape = len(run.layers), (len(run.layers), len(found.questions))
    if not centres == len(run.first) == len(run.last):
        return "windows", f"{centres} centres", f"{len(run.first)} first, {len(run.last)} last"
    held = {name: getattr(run, field).shape for name, field in LOSSES.items()}
    wrong = (name for name in held if held[name] != shape)
    return next(((f"losses {name}", f"{held[name]}", f"{shape} (centres, questions)") for name in wrong), None)


def _run(found: Probe, run: ProbeRun, unlearned: QuestionLosses) -> dict[str, Any]:
    if _lacks(found, run):
        return {}
    whole = (0, found.layer_count - 1)
    windows = [whole if n < 0 else window_of(n, run.window, found.layer_count) for n in run.layers.tolist()]
    first, last = np.array(windows, dtype=np.int64).reshape(-1, 2).T
    again = probe_run(
        direction=run.direction,  # type: ignore[arg-type]  # whatever it is called, it is scored the same way
        mode=run.mode,
        variant=run.variant,
        window=run.window,
        layers=run.layers,
        first=first,
        last=last,
        losses=QuestionLosses(*(getattr(run, name) for name in LOSSES.values())),
        unlearned=unlearned,
    )
    names = (*SCORES, "krs_mean_of_ratios", "top1", "first", "last")
    window = {"window": int(found.settings["window"])} if "window" in found.settings else {}
    return {**{name: getattr(again, name) for name in names}, **window}


def _check_run(found: Probe, run: ProbeRun, differences: Differences) -> None:
    """It is whole, and has the window centres that the settings ask for."""
    where, layers, held = f"probe/{_path(run)}", found.settings.get("layers"), run.layers.tolist()
    if lacks := _lacks(found, run):
        differences.add(f"{where}: {lacks[0]}", *lacks[1:])
        return
    if found.settings.get("kl") != "no" and (np.isnan(run.loss_kl) & ~np.isnan(run.loss_mse)).any():
        differences.add(f"{where}: losses kl", "not measured", "measured: the settings ask for them")
    if layers == "all" and held != [-1] and len(held) != found.layer_count:
        differences.add(f"{where}: window centres", len(held), found.layer_count)
    elif layers is not None and held != [-1]:
        wanted = list(range(len(held))) if layers == "all" else [int(part) for part in layers.split(",")]
        differences.exact(f"{where}: window centres", held, wanted)


def _check_scope(found: Probe, differences: Differences) -> None:
    """Every mode, variant and direction that was asked for has a run, and no run is of any other."""
    for field in SWEEP:
        setting = f"{field}s"
        if setting in found.settings:
            asked, held = found.settings[setting].split(","), [getattr(run, field) for run in found.runs]
            differences.present(f"probe: runs of the {setting} asked for", asked, held)
            differences.present(f"probe/settings/{setting}", dict.fromkeys(held), asked)
    for number, question in enumerate(found.questions):
        if "tokens" in found.settings and len(question.answer_ids) > int(found.settings["tokens"]):
            differences.add(
                f"probe/questions/{number}: tokens", len(question.answer_ids), f"at most {found.settings['tokens']}"
            )


# ----------------------------------------------------------------------------------------------------------- controls


def _control(found: Probe, control: Control) -> dict[str, Any]:
    passed = passes(control.kind, control.value, control.bound)
    bounds = {"everything": EVERYTHING, "self_patch": SELF_PATCH.get(found.settings.get("dtype", ""))}
    follows = {"against": _beside(found, control), "bound": bounds.get(control.name)}
    known = {name: value for name, value in follows.items() if value is not None}
    return {"kind": KINDS.get(control.name, control.kind), "passed": passed, **known}


def _beside(found: Probe, control: Control) -> float | None:
    """The score of the run that a control with another question's states belongs to; None where there is none."""
    layer = -1 if control.layer is None else control.layer
    for run in found.runs if control.name == "wrong_prompt" and control.score in SCORES else ():
        of = (run.direction, run.mode, run.variant) == (control.direction, control.mode, control.variant)
        if of and layer in run.layers.tolist():
            own: Curve = getattr(run, control.score)
            return float(own.score[run.layers.tolist().index(layer)])
    return None


def _check_controls(found: Probe, differences: Differences) -> None:
    held = Counter(f"probe/controls/{control_name(control)}" for control in found.controls)
    for control in found.controls:
        if control.name == "wrong_prompt" and _beside(found, control) is None:
            differences.add(f"probe/controls/{control_name(control)}", "a control", "no run that it belongs to")
    for name, count in held.items():
        if count > 1:
            differences.add(name, f"{count} times", "once")
    differences.present("probe/controls", _wanted_controls(found), held)


def _wanted_controls(found: Probe) -> Iterable[str]:
    """Names of the controls that such a probe always has."""
    unlearned = _unlearned(found)
    defined = [score for score, name in zip(SCORES, LOSSES, strict=False) if getattr(unlearned, name).mean() > 0]
    for direction in dict.fromkeys(run.direction for run in found.runs):
        yield f"probe/controls/self_patch {direction}"
        yield from (f"probe/controls/everything {direction} {score}" for score in defined)
    for run in found.runs:
        if len(found.questions) > 1 and run.mode in MODES and MODES[run.mode].states:
            centres = run.layers.tolist()
            for layer in centres if centres == [-1] else tiles(centres, run.window):
                place = "the whole model" if layer < 0 else f"layer {layer}"
                own = f"probe/controls/wrong_prompt {run.direction} {run.mode} {run.variant} {place}"
                yield from (f"{own} {score}" for score in defined)


# ------------------------------------------------------------------------------------------------------------ neurons


def _neurons(found: Probe, one: NeuronSet, unlearned: QuestionLosses) -> dict[str, Any]:
    wanted: dict[str, Any] = {"window_score": _window_score(found, one)}
    for name, loss in {"krs": "mse", "krs_centred": "mse_centred", "score": "kl"}.items():
        own, whole = getattr(one, f"loss_{loss}"), getattr(unlearned, loss)
        if own.shape == whole.shape:
            again = curve(own[None], whole, one.direction)  # type: ignore[arg-type]  # as in `_run`
            wanted[name] = float(again.score[0])
            if name == "score":
                wanted |= {"low": float(again.low[0]), "high": float(again.high[0])}
    return wanted


def _window_score(found: Probe, one: NeuronSet) -> float:
    """krs_kl of the window that a set is about; NaN where there is no such run."""
    for run in found.runs:
        if (run.direction, run.mode) == (one.direction, "coeff") and one.layer in run.layers.tolist():
            index = run.layers.tolist().index(one.layer)
            window = int(run.first[index]), int(run.last[index])
            if window == (one.first, one.last) and run.variant in ("open", "whole"):
                return float(run.krs_kl.score[index])
    return math.nan


def _check_neurons(found: Probe, one: NeuronSet, differences: Differences) -> None:
    """The set is the smallest size that was found to reach the goal, and its ranking is one."""
    where, questions = f"probe/neurons {set_name(one)}", (len(found.questions),)
    for name in ("loss_mse", "loss_mse_centred", "loss_kl"):
        if getattr(one, name).shape != questions:
            differences.add(f"{where}: {name}", f"{getattr(one, name).shape}", f"{questions} (questions)")
    if "neurons" in found.settings:
        differences.exact(f"{where}/goal", f"{one.goal:g}" in found.settings["neurons"].split(","), True)
    sizes, scores = one.sizes.tolist(), one.sizes_score.tolist()
    size, enough = len(one.neurons), one.goal * one.window_score - ROUNDING
    reached = [tried for tried, score in zip(sizes, scores, strict=False) if score >= enough]
    differences.exact(f"{where}: neurons in the set", size, min(reached, default=max(sizes, default=0)))
    differences.exact(f"{where}: sizes tried, ascending", sizes, sorted(set(sizes)))
    if size in sizes:
        differences.close(f"{where}/sizes_score of {size}", scores[sizes.index(size)], one.score, absolute=ROUNDING)
    shares = np.array([row.contribution for row in one.neurons], dtype=np.float64)
    differences.exact(f"{where}: the ranking falls", bool((np.diff(shares) <= 0).all()), True)
    outside = [row for row in one.neurons if not one.first <= row.layer <= one.last]
    differences.exact(f"{where}: neurons outside the window", len(outside), 0)
    differences.exact(f"{where}: neurons named twice", size - len({(row.layer, row.neuron) for row in one.neurons}), 0)
