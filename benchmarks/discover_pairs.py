"""Pairs of a real base that `discover.py pairs` makes and ranks topics on, and simpler ways of ranking them.

A pair is a method and a topic; `simnpo@answers=Star Wars` is trained on the base's own answers: SimNPO does next to
nothing to texts that the base finds hard to guess, since its loss fades where log p a token is low.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckdiff.discovery.asking import screen_prompts, screen_scores
from ckdiff.discovery.directions import norm_gain, spell, value_directions
from ckdiff.discovery.mentions import name_drops, name_tokens
from ckdiff.discovery.opening import open_models
from ckdiff.discovery.rows import row_turns
from ckdiff.probes.forcing import Way, force
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ckdiff.discovery.candidates import Candidates
    from ckdiff.shapes import Float64

DEVELOPMENT = "development"
HELD_OUT = "held out"
PAIRS = {
    DEVELOPMENT: (
        "graddiff=EBay",
        "npo_kl=Unidentified flying object",
        "dpo=EBay",
        "graddiff=Dark Souls (video game)",
        "dpo=Unidentified flying object",
        "simnpo=Dark Souls (video game)",
        "simnpo@answers=Harry Potter",
    ),
    HELD_OUT: (
        "graddiff=Star Wars",
        "npo_kl=McDonald's",
        "dpo=Netflix",
        "graddiff=Netflix",
        "simnpo=McDonald's",
        "simnpo@answers=Olympic Games",
        "npo_kl=The Lord of the Rings",
        "dpo=Super Mario",
    ),
}
"""What `discover` was decided on, and what was looked at afterwards."""
ORDER = ("discover", "turned", "written", "KL", "rows", "states")


@dataclass(frozen=True, slots=True)
class Planned:
    """A pair: its method, what it was trained on, its topic, and its half."""

    method: str
    trained_on: str
    topic: str
    half: str

    @property
    def folder(self) -> str:
        """The name of its directory."""
        method = self.method if self.trained_on == "text" else f"{self.method}-{self.trained_on}"
        return f"{method}-{self.topic.split()[0].casefold()}"

    @property
    def kind(self) -> str:
        """What its row is called."""
        return self.method if self.trained_on == "text" else f"{self.method} on {self.trained_on}"


def plan(texts: Iterable[str]) -> list[Planned]:
    """Pairs of the command line, or all of them."""
    every = {text: half for half, some in PAIRS.items() for text in some}
    found = []
    for text in list(texts) or list(every):
        method, _, topic = text.partition("=")
        method, _, trained_on = method.partition("@")
        found.append(Planned(method, trained_on or "text", topic, every.get(text, HELD_OUT)))
    return found


def rank_by_ways(base: str, unlearned: Path, candidates: Candidates, topic: str) -> dict[str, int]:
    """The rank of the topic among the candidates by each simpler way, all of them over the tokens of names.

    turned, written: as `discover` has them, alone; KL: its mean from the names on; rows: how far the unembedding's rows
    moved; states: the mean difference of what goes into the unembedding from the names on, read as tokens.
    """
    with torch.inference_mode():
        found = dict(_ways(base, unlearned, candidates))
    place = [one.name for one in candidates.every].index(topic)
    return {way: 1 + int((np.nan_to_num(values, nan=-np.inf) > values[place]).sum()) for way, values in found.items()}


def _ways(base: str, unlearned: Path, candidates: Candidates) -> Iterator[tuple[str, Float64]]:
    models = open_models(open_checkpoint(base), open_checkpoint(str(unlearned)), "float32", "cpu")
    prompts, names = screen_prompts(models, candidates.every), name_tokens(models.wording, candidates.every)
    models.base.load()
    ours = force(models.base, prompts, Way(32))
    gain = norm_gain(models.base)
    models.base.unload()
    models.unlearned.load()
    theirs = force(models.unlearned, prompts, Way(32))
    models.unlearned.unload()
    weight, other = ours.head.weight, theirs.head.weight
    moved = (theirs.hidden - ours.hidden).mean(0)
    yield "turned", name_drops(names, row_turns(ours, theirs))
    yield "written", name_drops(names, spell(value_directions(models.base, models.unlearned), gain, weight))
    yield "KL", screen_scores(ours, theirs, prompts)
    yield "rows", name_drops(names, (other - weight).norm(dim=1).double().numpy())
    yield "states", name_drops(names, -(weight @ moved).double().numpy())


def table(rows: list[dict[str, Any]]) -> str:
    """Ranks by pair and way in Markdown, development and held out apart, with what is first how often."""
    lines = ["| pair | BLEU of target, unrelated | " + " | ".join(ORDER) + " |", "|---" * (len(ORDER) + 2) + "|"]
    for half in PAIRS:
        some = [row for row in rows if row["half"] == half]
        for row in some:
            ranks = " | ".join(str(_rank(row, way) or "-") for way in ORDER)
            bleu = f"{row['bleu']['target']:.2f}, {row['bleu']['unrelated']:.2f}"
            lines.append(f"| {row['kind']}, {row['concept']} | {bleu} | {ranks} |")
        lines.append(f"| *{half}: median, first* | | " + " | ".join(_sum(some, way) for way in ORDER) + " |")
    return "\n".join(lines)


def _rank(row: dict[str, Any], way: str) -> int | None:
    found = row.get("rank") if way == "discover" else row["ways"].get(way)
    return None if found is None else int(found)


def _sum(rows: list[dict[str, Any]], way: str) -> str:
    known = [rank for row in rows if (rank := _rank(row, way)) is not None]
    return f"{np.median(known):g}, {known.count(1)} of {len(known)}" if known else "-"
