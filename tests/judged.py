"""Reports whose scores are chosen, for the verdict and its gates: `probed({("values", "whole", "restore"): [1.0]})`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.modes import DIRECTIONS, EVERY_MODE, MODES, SUBSETS
from ckdiff.report.schema.behaviour import AnswerRecord, AnswerSet, Behaviour, Mean
from ckdiff.report.schema.comparison import COMPONENTS, Comparison, ComponentDrift, Drift, TensorDrift
from ckdiff.report.schema.probe import Control, Probe, QuestionRecord
from ckdiff.report.schema.report import CheckpointRecord, Provenance, Report, ShardRecord
from ckdiff.scoring.scores import QuestionLosses, loss_summary, probe_run
from tests.reports import empty_comparison

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ckdiff.modes import Direction
    from ckdiff.report.schema.probe import ProbeRun

LAYERS = 6
SAME = Drift(1.0, 0.0, 0.0, 0.0, 2.0, 2.0, 0, 0.0, 0, 0, True)
MOVED = Drift(0.9999, 1e-4, 0.014, 0.1, 2.0, 2.0, 900, 0.9, 0, 0, False)
Key = tuple[str, str, str]


def losses(count: int, spread: float, seed: int = 0) -> Any:
    """What the unlearned model lost on each question: around 1, all questions alike but for `spread`."""
    return 1.0 + spread * np.random.default_rng(seed).uniform(-1, 1, count)


def probed(
    scores: Mapping[Key, Sequence[float]], count: int = 10, spread: float = 0.2, changed: int | None = None, **more: Any
) -> Probe:
    """A probe whose runs have these scores at their windows; what is not named brings nothing back.

    Args:
        scores: by mode, variant and direction: one score a window (whole: one).
        count: questions.
        spread: how unlike the questions are, in their losses and in what comes back of them.
        changed: how many answers changed; else all.
        more: other fields of the probe.
    """
    unlearned = losses(count, spread)
    runs = []
    for mode in EVERY_MODE:
        for variant in ("open", "whole") if mode not in SUBSETS else ("whole",):
            for direction in DIRECTIONS:
                windows = 1 if variant == "whole" or mode == "ancillary" else LAYERS
                values = tuple(map(float, scores.get((mode, variant, direction), [0.0] * windows)))
                runs.append(_run(mode, variant, direction, values, count, spread))
    changed = count if changed is None else changed
    top1 = np.array([0.5] * changed + [1.0] * (count - changed))
    questions = tuple(
        QuestionRecord(f"Question {n}?", "yes", (5, 6), 4, 10 * float(u), 2 * float(u), float(u), float(top1[n]))
        for n, u in enumerate(unlearned)
    )
    settings = {"modes": ",".join(MODES), "variants": "open,whole", "directions": "restore,break", "layers": "all"}
    settings["questions_digest"] = "ab" * 32
    controls = (
        Control("self_patch", "restore", 0.0, 1e-4, "at_most", True),
        Control("everything", "restore", 1.0, 0.9999, "at_least", True, score="krs_kl"),
    )
    found = Probe(
        "llama",
        LAYERS,
        tuple(runs),
        loss_summary(10 * unlearned, 2 * unlearned, unlearned, top1),
        controls,
        questions,
        settings,
    )
    return replace(found, **more)


@cache
def _run(
    mode: str, variant: str, direction: Direction, scores: tuple[float, ...], count: int, spread: float
) -> ProbeRun:
    """One of them; most reports have most of them in common."""
    unlearned, restless = losses(count, spread), losses(count, spread, 1)
    restless = restless / restless.mean() - 1
    values = np.array(scores)
    share = 1 - values if direction == "restore" else values
    # Each question keeps its own share; their mean is the score wanted.
    own = share[:, None] * unlearned * (1 + np.minimum(share, 1)[:, None] * restless)
    own *= (share * unlearned.mean() / np.where(own.mean(1) > 0, own.mean(1), 1))[:, None]
    back = (own < 0.5 * unlearned).astype(float)
    whole = variant == "whole" or mode == "ancillary"
    centres = np.array([-1] if whole else range(LAYERS))
    return probe_run(
        direction=direction,
        mode=mode,
        variant=variant,
        window=1,
        layers=centres,
        first=np.array([0]) if whole else centres,
        last=np.array([LAYERS - 1]) if whole else centres,
        losses=QuestionLosses(10 * own, 2 * own, own, back, own),
        unlearned=QuestionLosses(10 * unlearned, 2 * unlearned, unlearned, np.zeros(count), unlearned),
        draws=500,
    )


def compared(
    moved: Collection[tuple[str, int | None]] | None = None,
    cosine: float = 0.9999,
    ends: float | None = None,
    **more: Any,
) -> Comparison:
    """A comparison in which these (component, layer) moved, or everything, all with one cosine.

    `ends` is another cosine, of embedding and unembedding.
    """
    rows: list[tuple[str, int | None]] = []
    for component in ("value_vectors", "keys", "attn_q", "attn_k", "attn_v", "attn_o", "norms"):
        for layer in range(LAYERS):
            rows.append((component, layer))
    rows += [("embedding", None), ("unembedding", None)]
    drift = replace(MOVED, cosine=cosine)
    tensors = tuple(
        TensorDrift(
            f"{layer}.{component}", component, layer, (20, 50), "F32", "F32", 1000, False,
            drift if moved is None or (component, layer) in moved else SAME,
        )
        for component, layer in rows
    )  # fmt: skip
    components = []
    for component in COMPONENTS:
        own = [row for row in tensors if row.component == component]
        if own:
            worst = min((row.drift for row in own), key=lambda found: found.cosine)
            if ends is not None and component.endswith("embedding"):
                worst = replace(worst, cosine=ends)
            components.append(ComponentDrift(component, len(own), 1000 * len(own), 1.0, worst.cosine, False, worst))
    found = replace(
        empty_comparison(), model_type="llama", known_architecture=True, tensors=tensors, components=tuple(components)
    )
    return replace(found, **more)


def answered(name: str, bleu: float, low: float, high: float, count: int = 10, same: int = 0) -> AnswerSet:
    """Open questions with this BLEU, of which so many were answered as before."""
    nothing = Mean(0.0, 0.0, 0.0)
    rows = tuple(
        AnswerRecord(f"{name} {n}?", "yes", "yes" if kept else "no", (5,), (5 if kept else 6,), bleu, kept, 0.0, -1.0)
        for n, kept in enumerate([True] * same + [False] * (count - same))
    )
    return AnswerSet(
        name, "a file", "ab" * 32, Mean(bleu, low, high), Mean(same / count, 0.0, 1.0), nothing, nothing, 1.0, 2.0, rows
    )


def behaved(*answers: AnswerSet, **more: Any) -> Behaviour:
    """Behaviour with these sets of answers, by default both."""
    found = answers or (answered("target", 0.1, 0.0, 0.3), answered("unrelated", 0.95, 0.9, 1.0, same=9))
    return replace(Behaviour("llama", found, None, None, "", (), {}, ()), **more)


def side(name: str) -> CheckpointRecord:
    return CheckpointRecord(f"/models/{name}", None, name[0] * 64, (ShardRecord("model.safetensors", 9, "a" * 64),))


def report(**parts: Any) -> Report:
    """A report of a pair with these parts."""
    return Report(Provenance(side("base"), side("unlearned")), **parts)


def both(mode: str, restore: float, broken: float, variant: str = "whole") -> dict[Key, list[float]]:
    """The scores of one mode in the whole model, in both directions."""
    return {(mode, variant, "restore"): [restore], (mode, variant, "break"): [broken]}


def at_layer(mode: str, layer: int, restore: float, broken: float) -> dict[Key, list[float]]:
    """The scores of one mode's windows of one layer, in both directions: only one of them does anything."""
    found: dict[Key, list[float]] = {}
    for direction, score in (("restore", restore), ("break", broken)):
        found[mode, "open", direction] = [score if n == layer else 0.0 for n in range(LAYERS)]
    return found


SUPPRESSED = {
    **both("coeff", 0.9, 0.8),
    **at_layer("coeff", 4, 0.85, 0.7),
    **both("attn+coeff", 0.99, 0.95),
    **both("values", 0.3, 0.1),
    **both("keys", 0.5, 0.2),
    **both("attn", 0.7, 0.4),
    **both("mlp", 0.95, 0.85),
}
"""What real unlearning looks like: states bring all back, no kind of weights does."""
EDITED = {
    mode: {**both(mode, 1.0, 1.0), **at_layer(mode, 2, 1.0, 1.0), **both("attn+coeff", 0.6, 0.4)}
    for mode in ("values", "keys", "attn-weights")
}
"""By mode: all weights of one kind, in layer 2."""
ANCILLARY = {("ancillary", "open", "restore"): [0.98], ("ancillary", "open", "break"): [0.97]}
