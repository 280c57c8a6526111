"""The two contenders of `probe.py`: `Plain`, the script anyone would write, and `ckdiff`, its sweep and its losses."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckdiff.probes.losses import PositionLosses, Scorer
from ckdiff.probes.preparation import CHUNK
from ckdiff.probes.prompts import Prompt, batches
from ckdiff.probes.sweep import SIDES, Pair, Sweep, ends_of
from ckdiff.scoring.runs import Schedule, window_of
from ckdiff.scoring.scores import QuestionLosses, probe_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

WINDOW = 5
BATCH = 32
AGREE = 1e-4
CHECKED = ("krs", "krs_centred")
"""What the contenders must agree on; plain's KL is a float32 sum, which is rounding where two models hardly differ."""
SCRIPTED = ("coeff", "values", "attn", "attn+coeff", "keys", "mlp")
"""Modes that the plain script knows."""
LOSSES = ("krs", "krs_centred", "krs_kl")

Curves = dict[tuple[str, str], list[float]]
"""(mode, score) -> that score at every window centre."""


@dataclass(frozen=True)
class Taken:
    """Seconds of one contender's parts: forwards or sweep, raw and centred losses (ckdiff: all losses), KL and top1."""

    forwards: float
    losses: float
    kl: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.forwards + self.losses + self.kl


# -------------------------------------------------------------------------------------------------- the plain script


@dataclass
class Recorded:
    """States of one model: by layer m and A; logits at the scored positions."""

    m: list[Tensor]
    attention: list[Tensor]
    logits: Tensor


class Plain:
    """One full forward a window and mode, with hooks. `base` and `unlearned` are transformers' Llama-like models."""

    def __init__(self, base: Any, unlearned: Any, asked: Sequence[Prompt], clock: Callable[[], float]) -> None:
        self.base, self.unlearned, self.clock = base, unlearned, clock
        device = next(base.parameters()).device
        # The answer's last token predicts nothing: the plain script is spared its position.
        rows = [(prompt.ids + prompt.answer)[:-1] for prompt in asked]
        self.ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for number, row in enumerate(rows):
            self.ids[number, : len(row)] = torch.tensor(row)
        self.ids = self.ids.to(device)
        places = [(number, place) for number, prompt in enumerate(asked) for place in prompt.scored]
        self.question, self.position = torch.tensor(places, device=device).T
        self.counts = [len(prompt.answer) for prompt in asked]

    def record(self, model: Any) -> Recorded:
        """One forward, with hooks that keep what they see."""
        m: list[Tensor] = []
        attention: list[Tensor] = []
        handles = []
        for layer in model.model.layers:
            handles.append(layer.mlp.down_proj.register_forward_pre_hook(lambda _, given: m.append(given[0])))
            handles.append(layer.self_attn.o_proj.register_forward_hook(lambda _, given, made: attention.append(made)))
        logits = self.forward(model, handles)
        return Recorded(m, attention, logits)

    def restored(
        self, m: Mapping[int, Tensor], attention: Mapping[int, Tensor], swaps: Sequence[tuple[Any, Any]]
    ) -> Tensor:
        """Logits of the unlearned model with some layers' m and A, and some modules' weights, from elsewhere."""
        handles = []
        for number, layer in enumerate(self.unlearned.model.layers):
            if number in m:
                handles.append(layer.mlp.down_proj.register_forward_pre_hook(lambda *_, state=m[number]: (state,)))
            if number in attention:
                handles.append(layer.self_attn.o_proj.register_forward_hook(lambda *_, state=attention[number]: state))
        kept = [module.weight for module, _ in swaps]
        for module, donor in swaps:
            module.weight = donor.weight
        try:
            return self.forward(self.unlearned, handles)
        finally:
            for (module, _), weight in zip(swaps, kept, strict=True):
                module.weight = weight

    def forward(self, model: Any, handles: Sequence[Any]) -> Tensor:
        """Logits at the scored positions [position, d_vocab]; removes the hooks."""
        try:
            logits: Tensor = model(input_ids=self.ids, use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits[self.question, self.position]

    def run(self, modes: Sequence[str], variant: str, centres: Sequence[int], kl: bool) -> tuple[Curves, Taken]:
        """All windows of some modes."""
        start = self.clock()
        base, unlearned = self.record(self.base), self.record(self.unlearned)
        forwards, losses, divergences = self.clock() - start, 0.0, 0.0

        def scored(logits: Tensor) -> list[float]:
            nonlocal losses, divergences
            start = self.clock()
            change = logits - base.logits
            raw, shift = change.square().mean(-1), change.mean(-1)
            found = [self.mean(raw), self.mean(raw - shift**2)]
            losses += self.clock() - start
            if kl:
                start = self.clock()
                found.append(self.mean((probability * (expected - logits.log_softmax(-1))).sum(-1)))
                (logits.argmax(-1) == favourite).float().mean().item()
                divergences += self.clock() - start
            return found

        if kl:
            start = self.clock()
            expected, favourite = base.logits.log_softmax(-1), base.logits.argmax(-1)
            probability = expected.exp()
            divergences += self.clock() - start
        whole = scored(unlearned.logits)
        curves: Curves = {}
        for mode in modes:
            for centre in centres:
                start = self.clock()
                logits = self.restored(*self.patches(mode, variant, centre, base, unlearned))
                forwards += self.clock() - start
                for name, loss, reference in zip(LOSSES, scored(logits), whole, strict=False):
                    curves.setdefault((mode, name), []).append(1 - loss / reference)
        return curves, Taken(forwards, losses, divergences)

    def patches(
        self, mode: str, variant: str, centre: int, base: Recorded, unlearned: Recorded
    ) -> tuple[dict[int, Tensor], dict[int, Tensor], list[tuple[Any, Any]]]:
        """What `restored` takes: base states in the window; isolated: the unlearned model's own for all else."""
        layers = self.unlearned.model.layers
        first, last = window_of(centre, WINDOW, len(layers))
        m: dict[int, Tensor] = {}
        attention: dict[int, Tensor] = {}
        swaps: list[tuple[Any, Any]] = []
        for number in range(first, len(layers)):
            inside, own = number <= last, layers[number].mlp
            donor = self.base.model.layers[number].mlp
            if inside and mode in ("coeff", "attn+coeff", "mlp"):
                m[number] = base.m[number]
            elif variant == "isolated" and mode in ("values", "attn"):
                m[number] = unlearned.m[number]
            if inside and mode in ("attn", "attn+coeff"):
                attention[number] = base.attention[number]
            elif variant == "isolated" and mode in ("coeff", "values", "keys", "mlp"):
                attention[number] = unlearned.attention[number]
            if inside and mode in ("values", "mlp"):
                swaps.append((own.down_proj, donor.down_proj))
            if inside and mode == "keys":
                swaps += [(own.gate_proj, donor.gate_proj), (own.up_proj, donor.up_proj)]
        return m, attention, swaps

    def mean(self, values: Tensor) -> float:
        """Over a question's positions, then over questions."""
        return float(torch.stack([part.mean() for part in values.split(self.counts)]).mean())


# -------------------------------------------------------------------------------------------------------------- ckdiff


@dataclass
class Swept:
    """What ckdiff found: curves by variant, and the losses that intervals rest on."""

    curves: dict[str, Curves]
    losses: list[QuestionLosses]
    unlearned: QuestionLosses
    taken: Taken


def ckdiff(pair: Pair, asked: Sequence[Prompt], plan: Schedule, kl: bool, clock: Callable[[], float]) -> Swept:
    """Sweep and losses, called as `probes.probing` calls them."""
    start = clock()
    device = pair.base.device
    sweep = Sweep(pair, batches(asked, BATCH, device), plan, range(len(plan.runs)), CHUNK[device.type])
    state = sweep.begin()
    while state.layer < plan.layers:
        sweep.advance(state)
    own, finals = sweep.finals(state)
    heads = {side: pair.side(side).unembedding(sweep.own_scored(state, side)) for side in SIDES}
    middle = clock()
    scorer = Scorer(own["base"], heads, len(finals), kl)
    whole = scorer.losses("unlearned", [own["unlearned"]])
    scorer.logit_size()
    found: dict[int, PositionLosses] = {}
    for side in SIDES:
        members = [number for number in sorted(finals) if ends_of(plan.runs[number]) == side]
        found |= dict(zip(members, scorer.losses(side, [finals[number] for number in members]), strict=True))
    counts = [len(prompt.answer) for prompt in asked]

    def by_question(runs: Sequence[Any]) -> QuestionLosses:
        names = ("mse", "mse_centred", "kl", "top1")
        parts = ([[float(part.mean()) for part in getattr(run, name).split(counts)] for run in runs] for name in names)
        return QuestionLosses(*(np.array(part) for part in parts))

    unlearned = by_question(whole)
    losses = [by_question([found[number] for number in each.runs]) for each in plan.sweeps]
    curves: dict[str, Curves] = {}
    for each, values in zip(plan.sweeps, losses, strict=True):
        for name, kind in zip(LOSSES, ("mse", "mse_centred", "kl"), strict=True):
            score = 1 - getattr(values, kind).mean(1) / getattr(unlearned, kind).mean()
            curves.setdefault(each.variant, {})[each.mode, name] = score.tolist()
    whole_losses = QuestionLosses(*(getattr(unlearned, name)[0] for name in ("mse", "mse_centred", "kl", "top1")))
    return Swept(curves, losses, whole_losses, Taken(middle - start, clock() - middle))


def intervals(swept: Swept, plan: Schedule) -> float:
    """CPU seconds of the intervals and bands of every curve."""
    start = time.process_time()
    for each, losses in zip(plan.sweeps, swept.losses, strict=True):
        centres = np.array(each.centres, dtype=np.int64)
        windows = np.array([window_of(centre, WINDOW, plan.layers) for centre in each.centres], dtype=np.int64)
        probe_run(
            direction=each.direction,
            mode=each.mode,
            variant=each.variant,
            window=WINDOW,
            layers=centres,
            first=windows[:, 0],
            last=windows[:, 1],
            losses=losses,
            unlearned=swept.unlearned,
        )
    return time.process_time() - start


def load_all(pair: Pair) -> None:
    for side in SIDES:
        live = pair.side(side)
        live.load_ends()
        for number in range(len(live.layers)):
            live.load_layer(number)


def differences(a: Curves, b: Curves) -> Iterator[tuple[str, float]]:
    """By score, the largest difference between the curves that both have."""
    for name in LOSSES:
        found = [np.abs(np.array(a[key]) - np.array(b[key])).max() for key in a.keys() & b.keys() if key[1] == name]
        if found and not np.isnan(found).all():
            yield name, float(np.max(found))
