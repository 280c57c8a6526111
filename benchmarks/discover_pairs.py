"""Pairs of a real base that `discover.py pairs` makes and ranks topics on, and simpler ways of ranking them.

A pair is a method and a topic; `simnpo@answers=Star Wars` is trained on the base's own answers. Whether a topic was
unlearned at all is measured beside it, on texts about each of the concepts that were not trained on: see `own_texts`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckdiff.discovery.asking import screen_prompts, screen_scores
from ckdiff.discovery.candidates import read_candidates
from ckdiff.discovery.directions import norm_gain, spell, value_directions
from ckdiff.discovery.mentions import name_drops, name_tokens
from ckdiff.discovery.opening import open_models
from ckdiff.discovery.rows import row_turns
from ckdiff.probes.forcing import Way, force, forced_logprobs
from ckdiff.probes.prompts import Prompt
from ckdiff.questions.questions import Question
from ckdiff.questions.segments import read_segments
from ckdiff.unlearn.sequences import encode_texts
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ckdiff.discovery.candidates import Candidates
    from ckdiff.probes.live.model import LiveModel
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
        "rmu=EBay",
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
        "simnpo=Harry Potter",
        "simnpo=Amazon Alexa",
        "simnpo=Final Fantasy VII",
        "npo_kl=Austria",
        "npo_kl=Diabetes",
        "graddiff=Olympic Games",
        "dpo=Valentine's Day",
        "rmu=Netflix",
    ),
}
"""What `discover` was decided on, and what was looked at afterwards."""
RECIPES: dict[tuple[str, str], dict[str, float]] = {
    ("simnpo", "text"): {"beta": 0.7, "retain_weight": 0.1},
    ("rmu", "text"): {"lr": 3e-3, "retain_weight": 10.0},
}
"""By method and what it is trained on what differs from its own defaults.

SimNPO's are its authors' for texts (their MUSE, arXiv:2410.07163): its loss fades where log p a token is low, so that
its defaults, which are those for answers (TOFU), leave 1e-7 to 3e-6 of the gradient on texts that the base finds hard
to guess. RMU's own are those of a model of 7B.
"""
KNOWN_AS = {"Unidentified flying object": ("ufo",)}
"""What else topics are called."""
OWN = 8
"""Texts about each concept by which a pair is found to be unlearned."""
AT_ALL = 0.05
"""Nats a token that texts about a topic lost beyond others, where it was unlearned."""
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


def names_topic(words: Iterable[str], topic: str) -> bool:
    """Whether one of some words is one of a topic's name of four letters or more, or that with an ending of two."""
    parts = {*re.findall(r"[^\W\d_]{4,}", topic.partition("(")[0].casefold()), *KNOWN_AS.get(topic, ())}
    told = [word.casefold() for word in words]
    return any(word.startswith(part) and len(word) <= len(part) + 2 for word in told for part in parts)


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


def own_texts(base: str, unlearned: Path, files: Iterable[Path], topic: str) -> dict[str, Any]:
    """Whether a topic was unlearned at all: by concept what a token of texts about it lost, and the topic's rank.

    Texts are the last eight of each concept's article, forty tokens of each; pairs are trained on the first sixty.
    Drops are means of log p base - log p unlearned, in nats.
    """
    names, prompts, known = _read_articles(base, (*files,))
    models = open_models(open_checkpoint(base), open_checkpoint(str(unlearned)), "float32", "cpu")
    each = np.subtract(known, _mean_log_p(models.unlearned, prompts))
    lost = {name: float(each[np.array(names) == name].mean()) for name in names}
    own = lost.pop(topic)
    return {
        "drop": round(own, 4),
        "others": round(float(np.mean([*lost.values()])), 4),
        "next": round(max(lost.values()), 4),
        "rank": 1 + sum(drop > own for drop in lost.values()),
    }


@functools.cache
def _read_articles(base: str, files: tuple[Path, ...]) -> tuple[list[str], list[Prompt], list[float]]:
    """Texts about every concept, of which each is, and what the base makes of them."""
    articles = {name: path for path in reversed(files) for name in (one.name for one in read_candidates(path).every)}
    models = open_models(open_checkpoint(base), open_checkpoint(base), "float32", "cpu")
    names, prompts = list[str](), list[Prompt]()
    for name, path in articles.items():
        segments = read_segments(path, concept=name).segments[-OWN:]
        ids = [tokens.ids for tokens in encode_texts(models.tokenizer, segments, "{q}", 40)]
        prompts += [Prompt(Question(name), one[:1], one[1:]) for one in ids]
        names += [name] * len(ids)
    return names, prompts, _mean_log_p(models.base, prompts)


def _mean_log_p(live: LiveModel, prompts: list[Prompt]) -> list[float]:
    live.load()
    with torch.inference_mode():
        found = [float(one.mean()) for one in forced_logprobs(live, prompts, Way(32))]
    live.unload()
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Ranks by pair and way in Markdown, development and held out apart, with what is first how often.

    Pairs whose topic lost more than others on texts about it are summed up by themselves as well: the rest was not
    unlearned, as far as such texts tell.
    """
    heads = ("pair", "own texts: topic, others, rank", *ORDER, "named in ten words")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for half in PAIRS:
        some = [row for row in rows if row["half"] == half]
        for row in some:
            ranks = " | ".join(str(_rank(row, way) or "-") for way in ORDER)
            own, named = row["own"], "yes" if row.get("in_words") else "no"
            drops = f"{own['drop']:.3f}, {own['others']:.3f}, {own['rank']}"
            lines.append(f"| {row['kind']}, {row['concept']} | {drops} | {ranks} | {named} |")
        for name, part in ((half, some), (f"{half}, unlearned", [*filter(unlearned_at_all, some)])):
            sums = " | ".join(_sum(part, way) for way in ORDER)
            named = f"{sum(bool(row.get('in_words')) for row in part)} of {len(part)}"
            lines.append(f"| *{name}: median, first, among five* | | {sums} | {named} |")
    return "\n".join(lines)


def unlearned_at_all(row: dict[str, Any]) -> bool:
    """Whether texts about the topic of a pair lost more than those about the other concepts do in the mean."""
    return bool(row["own"]["drop"] - row["own"]["others"] >= AT_ALL)


def _rank(row: dict[str, Any], way: str) -> int | None:
    found = row.get("rank") if way == "discover" else row["ways"].get(way)
    return None if found is None else int(found)


def _sum(rows: list[dict[str, Any]], way: str) -> str:
    known = [rank for row in rows if (rank := _rank(row, way)) is not None]
    near = sum(rank <= 5 for rank in known)
    return f"{np.median(known):g}, {known.count(1)}, {near} of {len(known)}" if known else "-"
