"""A probe computed again from its stored per-question losses: `check_probe(found, differences)`. Needs no torch.

Every score, interval, band, mean of ratios, top1 and loss summary follows from losses of runs and of the unlearned
model; windows follow from their centres; which runs and controls there must be follows from the settings; what a
control says of itself follows from its figure and its bound. The losses themselves follow from nothing in a report.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.needed import windows_of
from ckdiff.modes import MODES, VARIANTS
from ckdiff.questions.clusters import find_clusters
from ckdiff.questions.questions import Question
from ckdiff.questions.values import canonical_digest
from ckdiff.report.schema.probe import SCORES, Curve
from ckdiff.scoring.clusters import ALONE
from ckdiff.scoring.runs import tiles, window_of
from ckdiff.scoring.scores import LOSS_OF, QuestionLosses, curve, loss_summary, method_of, probe_run
from ckdiff.scoring.settings import NEEDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.probe import Control, NeuronSet, Probe, ProbeRun
    from ckdiff.shapes import Float64


NEAR = {"relative": 1e-9, "absolute": 1e-9}
"""Scores are shares of 1, so that they are held to an absolute difference too."""


EVERYTHING = 0.9999


SELF_PATCH = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 0.25, "float16": 0.05}
"""Bounds of controls, those of `probes.assembly`, which needs torch; a test holds the two against each other."""


KINDS = {"self_patch": "at_most", "everything": "at_least", "wrong_prompt": "shown"}
"""How each control is held to its bound."""


WRITTEN = (
    "modes",
    "variants",
    "directions",
    "window",
    "layers",
    "tokens",
    "dtype",
    "kl",
    "questions_digest",
    "bootstrap",
)
"""Settings that every probe writes, and that checks hang on."""


LOSSES = ("mse", "mse_centred", "kl", "top1", "js")


CURVE_FIELDS = ("score", "low", "high", "band_low", "band_high")


ROUNDING = 1e-9


def check_probe(found: Probe, differences: Differences) -> None:
    """Compute everything again that follows from what a probe stores."""
    losses = {name: np.array([getattr(question, name) for question in found.questions], "f8") for name in LOSSES}
    unlearned = QuestionLosses(**losses)
    if not found.questions:
        if found.runs:
            differences.add("probe/questions", "none", f"{len(found.runs)} runs that scored some")
        return
    differences.present("probe/settings", WRITTEN, found.settings)
    if "bootstrap" in found.settings:
        said = found.settings["bootstrap"]
        differences.exact("probe/settings/bootstrap", said, method_of(said, clusters_of(found)))
    summary = loss_summary(*losses.values())
    for name in ("mse", "mse_centred", "kl", "top1", "shift_share", "js"):
        differences.close(
            f"probe/loss_unlearned/{name}", getattr(found.loss_unlearned, name), getattr(summary, name), **NEAR
        )
    for run in found.runs:
        _check_run(found, run, unlearned, differences)
    _check_scope(found, differences)
    _check_controls(found, unlearned, differences)
    for one in found.neurons:
        _check_neurons(found, one, unlearned, differences)


def texts_digest(texts: Sequence[str]) -> str:
    """The digest of a set of questions whose file gives no answers."""
    return canonical_digest([[text, None] for text in texts])


def answerless(source: str) -> bool:
    """Whether questions of such a source have no answers, so that their digest follows from their texts."""
    return source in ("command line", "general questions of ckdiff") or source.endswith(", text")


def _name(run: ProbeRun) -> str:
    return f"probe/{run.direction}/{run.mode}/{run.variant}"


def _check_run(found: Probe, run: ProbeRun, unlearned: QuestionLosses, differences: Differences) -> None:
    where, shape = _name(run), (len(run.layers), len(found.questions))
    if not len(run.layers) == len(run.first) == len(run.last):
        differences.add(
            f"{where}: windows", f"{len(run.layers)} centres", f"{len(run.first)} first, {len(run.last)} last"
        )
        return
    stored = (run.loss_mse, run.loss_mse_centred, run.loss_kl, run.top1_questions, run.loss_js)
    for name, values in zip(LOSSES, stored, strict=True):
        if values.shape != shape:
            differences.add(f"{where}: losses {name}", f"{values.shape}", f"{shape} (centres, questions)")
            return
    if found.settings.get("kl") != "no" and (np.isnan(run.loss_kl) & ~np.isnan(run.loss_mse)).any():
        differences.add(f"{where}: losses kl", "not measured", "measured: the settings ask for them")
    again = probe_run(
        direction=run.direction,  # type: ignore[arg-type]  # whatever it is called, it is scored the same way
        mode=run.mode,
        variant=run.variant,
        window=run.window,
        layers=run.layers,
        first=run.first,
        last=run.last,
        losses=QuestionLosses(*stored),
        unlearned=unlearned,
        clusters=clusters_of(found),
    )
    for score in LOSS_OF:
        _check_curve(f"{where}/{score}", getattr(run, score), getattr(again, score), differences)
    differences.arrays(f"{where}/krs_mean_of_ratios", run.krs_mean_of_ratios, again.krs_mean_of_ratios, **NEAR)
    differences.arrays(f"{where}/top1", run.top1, again.top1, **NEAR)
    _check_windows(found, run, differences)


def clusters_of(found: Probe) -> list[int]:
    """Of its questions; what intervals resample."""
    return [question.cluster for question in found.questions]


def _check_curve(where: str, stored: Curve, again: Curve, differences: Differences) -> None:
    for part in CURVE_FIELDS:
        name = where if part == "score" else f"{where}_{part}"
        differences.arrays(name, getattr(stored, part), getattr(again, part), **NEAR)


def _check_windows(found: Probe, run: ProbeRun, differences: Differences) -> None:
    """First and last layer of each window, and which centres there must be."""
    whole = (0, found.layer_count - 1)
    windows = [
        whole if centre < 0 else window_of(centre, run.window, found.layer_count) for centre in run.layers.tolist()
    ]
    for name, side in (("first", 0), ("last", 1)):
        wanted = np.array([window[side] for window in windows], dtype=np.int64)
        differences.arrays(f"{_name(run)}/{name}", getattr(run, name), wanted)
    if "window" in found.settings:
        differences.exact(f"{_name(run)}/window", str(run.window), found.settings["window"])
    layers = found.settings.get("layers")
    if layers is not None and not (len(run.layers) == 1 and run.layers[0] == -1):
        held = run.layers.tolist()
        if layers == "all" and len(held) != found.layer_count:
            differences.add(f"{_name(run)}: window centres", len(held), found.layer_count)
        else:
            differences.exact(f"{_name(run)}: window centres", held, _centres(layers, len(held)))


def _centres(setting: str, layers: int) -> list[int]:
    return list(range(layers)) if setting == "all" else [int(part) for part in setting.split(",")]


def _check_scope(found: Probe, differences: Differences) -> None:
    """Every mode, variant and direction that was asked for has a run, and no run is of any other."""
    for setting, field in (("modes", "mode"), ("variants", "variant"), ("directions", "direction")):
        if setting in found.settings:
            asked, held = found.settings[setting].split(","), [getattr(run, field) for run in found.runs]
            due = [name for name in asked if setting != "variants" or not _may_lack(found, name)]
            differences.present(f"probe: runs of the {field}s asked for", due, held)
            differences.present(f"probe/settings/{setting}", dict.fromkeys(held), asked)
    texts = [question.text for question in found.questions]
    if "questions_digest" in found.settings and answerless(found.settings.get("questions_source", "")):
        differences.exact("probe/settings/questions_digest", found.settings["questions_digest"], texts_digest(texts))
    if answerless(found.settings.get("questions_source", "")):
        _check_clusters(found, differences)
    for number, question in enumerate(found.questions):
        if "tokens" in found.settings and len(question.answer_ids) > int(found.settings["tokens"]):
            differences.add(
                f"probe/questions/{number}: tokens", len(question.answer_ids), f"at most {found.settings['tokens']}"
            )


def _may_lack(found: Probe, variant: str) -> bool:
    """Whether no run need have a variant: windows that no verdict asked for were not swept."""
    return windows_of(found) == NEEDED and variant in VARIANTS and not VARIANTS[variant].whole


def _check_clusters(found: Probe, differences: Differences) -> None:
    """Where no file says which questions are about one fact, those with one answer or one wording are; more may be."""
    clusters = clusters_of(found)
    if all(cluster == ALONE for cluster in clusters):
        return
    asked = [Question(question.text) for question in found.questions]
    alike = find_clusters(asked, [" ".join(map(str, question.answer_ids)) for question in found.questions])
    for one in dict.fromkeys(alike):
        own = sorted({cluster for cluster, other in zip(clusters, alike, strict=True) if other == one})
        where = f"probe/questions/{alike.index(one)}: clusters of those about the same fact"
        differences.exact(where, len(own) if ALONE not in own else alike.count(one), 1)


def _check_controls(found: Probe, unlearned: QuestionLosses, differences: Differences) -> None:
    runs = {(run.direction, run.mode, run.variant): run for run in found.runs}
    for control in found.controls:
        where = _control_name(control)
        differences.exact(f"{where}: kind", control.kind, KINDS.get(control.name, control.kind))
        differences.exact(f"{where}: passed", control.passed, _passes(control))
        if control.name == "wrong_prompt":
            _check_against(where, control, runs.get((control.direction, control.mode, control.variant)), differences)
        elif control.name == "everything":
            differences.close(f"{where}: bound", control.bound, EVERYTHING)
        elif control.name == "self_patch" and found.settings.get("dtype") in SELF_PATCH:
            differences.close(f"{where}: bound", control.bound, SELF_PATCH[found.settings["dtype"]])
    held = Counter(map(_control_name, found.controls))
    for name, count in held.items():
        if count > 1:
            differences.add(name, f"{count} times", "once")
    differences.present("probe/controls", _wanted_controls(found, unlearned), held)


def _control_name(control: Control) -> str:
    layer = "the whole model" if control.layer is None else f"layer {control.layer}"
    run = f" {control.mode} {control.variant} {layer}" if control.mode else ""
    score = f" {control.score}" if control.score else ""
    return f"probe/controls/{control.name} {control.direction}{run}{score}"


def _passes(control: Control) -> bool:
    if control.kind == "shown":
        return True
    return control.value <= control.bound if control.kind == "at_most" else control.value >= control.bound


def _check_against(where: str, control: Control, run: ProbeRun | None, differences: Differences) -> None:
    """A control with another question's states stands beside the score of the run that it belongs to."""
    layer = -1 if control.layer is None else control.layer
    if run is None or control.score not in SCORES or layer not in run.layers.tolist():
        differences.add(where, "a control", "no run that it belongs to")
        return
    own: Curve = getattr(run, control.score)
    differences.close(f"{where}: against", control.against, float(own.score[run.layers.tolist().index(layer)]), **NEAR)


def _wanted_controls(found: Probe, unlearned: QuestionLosses) -> Iterable[str]:
    """Names of the controls that such a probe always has."""
    whole = zip(SCORES, (unlearned.mse, unlearned.mse_centred, unlearned.kl), strict=True)
    defined = [score for score, values in whole if values.mean() > 0]
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


def _check_neurons(found: Probe, one: NeuronSet, unlearned: QuestionLosses, differences: Differences) -> None:
    where = f"probe/neurons {one.direction} layers {one.first}-{one.last}"
    pairs = {"krs": (one.loss_mse, unlearned.mse), "krs_centred": (one.loss_mse_centred, unlearned.mse_centred)}
    for name, (own, whole) in (pairs | {"score": (one.loss_kl, unlearned.kl)}).items():
        if own.shape != whole.shape:
            differences.add(f"{where}: losses of {name}", f"{own.shape}", f"{whole.shape} (questions)")
            continue
        again = curve(own[None], whole, one.direction, clusters_of(found))  # type: ignore[arg-type]  # as in `_check_run`
        differences.close(f"{where}/{name}", getattr(one, name), float(again.score[0]), **NEAR)
        if name == "score":
            differences.close(f"{where}/low", one.low, float(again.low[0]), **NEAR)
            differences.close(f"{where}/high", one.high, float(again.high[0]), **NEAR)
    differences.close(f"{where}/window_score", one.window_score, _window_score(found, one), **NEAR)
    if "neurons" in found.settings:
        differences.exact(f"{where}/goal", f"{one.goal:g}" in found.settings["neurons"].split(","), True)
    _check_search(where, one, differences)


def _window_score(found: Probe, one: NeuronSet) -> float:
    """krs_kl of the window that a set is about; NaN where there is no such run."""
    for run in found.runs:
        if (run.direction, run.mode) == (one.direction, "coeff") and one.layer in run.layers.tolist():
            index = run.layers.tolist().index(one.layer)
            if (int(run.first[index]), int(run.last[index])) == (one.first, one.last) and run.variant in (
                "open",
                "whole",
            ):
                return float(run.krs_kl.score[index])
    return math.nan


def _check_search(where: str, one: NeuronSet, differences: Differences) -> None:
    """The set is the smallest size that was found to reach the goal, and its ranking is one."""
    sizes, scores = one.sizes.tolist(), one.sizes_score.tolist()
    size, enough = len(one.neurons), one.goal * one.window_score - ROUNDING
    reached = [tried for tried, score in zip(sizes, scores, strict=False) if score >= enough]
    smallest = min(reached, default=max(sizes, default=0))
    differences.exact(f"{where}: neurons in the set", size, smallest)
    differences.exact(f"{where}: sizes tried, ascending", sizes, sorted(set(sizes)))
    if size in sizes:
        differences.close(f"{where}/sizes_score of {size}", scores[sizes.index(size)], one.score, **NEAR)
    shares = _shares(one)
    differences.exact(f"{where}: the ranking falls", bool((np.diff(shares) <= 0).all()), True)
    outside = [row for row in one.neurons if not one.first <= row.layer <= one.last]
    differences.exact(f"{where}: neurons outside the window", len(outside), 0)
    differences.exact(f"{where}: neurons named twice", size - len({(row.layer, row.neuron) for row in one.neurons}), 0)


def _shares(one: NeuronSet) -> Float64:
    return np.array([row.contribution for row in one.neurons], dtype=np.float64)
