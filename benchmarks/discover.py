"""How well `ckdiff discover` names what was unlearned, and how often it names something where nothing was.

    python benchmarks/discover.py demo --seeds 20          # the invented world: is the forgotten town first?
    python benchmarks/discover.py false --seeds 20         # noise, fp16 and int8 copies, and a base beside itself
    python benchmarks/discover.py false --base DIR --like UNLEARNED --concepts A.json --seeds 20 --rows ROWS.jsonl
    python benchmarks/discover.py pairs --base DIR --concepts A.json B.json --made DIR --rows ROWS.jsonl
    python benchmarks/discover.py texts --base DIR --concepts A.json B.json --made DIR --pair METHOD=TOPIC

`false --base` makes copies of a real base: itself, float16, int8, trained on the texts of a ConceptVectors file as far
as a pair of `pairs`, and with noise as large in every tensor as the change of an unlearned model. ckdiff's own topics
are the candidates.
`pairs` unlearns a topic from a real base by a method, as `ckdiff unlearn` does, and ranks it among all the concepts of
some ConceptVectors files, by their names alone: their texts are those that were trained on (`--with-texts` gives them
all the same). With `--made DIR` the models stay there and are used again, and pairs whose rows are in `--rows FILE` are
not looked at again. Without `--pair METHOD=TOPIC` they are those of `discover_pairs.py`, half of them held out; beside
each rank stand those by simpler ways, with `--quick` these alone. Rows are JSON lines on stdout; one sums up, and a
table of the pairs' ranks ends it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from discover_copies import COPIED, copies, save_copy, save_shaken
from discover_pairs import RECIPES, names_topic, own_texts, plan, rank_by_ways, table

from ckdiff.discovery.candidates import Candidate, Candidates, read_candidates
from ckdiff.discovery.kept import Kept
from ckdiff.discovery.null import COPIES
from ckdiff.discovery.opening import open_models
from ckdiff.discovery.section import run
from ckdiff.discovery.work import How
from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.progress import Listener
from ckdiff.questions.segments import other_concepts
from ckdiff.report.words.discovery import leading_words
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from discover_pairs import Planned

    from ckdiff.report.schema.discovery import DiscoveryReport

NONE = Candidates((), "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("demo", "false", "pairs", "texts"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--base")
    parser.add_argument("--like", type=Path, help="an unlearned model: of copies with noise as large a change")
    parser.add_argument("--concepts", type=Path, nargs="+")
    parser.add_argument("--pair", action="append", default=[], metavar="METHOD=TOPIC")
    parser.add_argument("--quick", action="store_true", help="simpler ways alone: ten CPU seconds a pair")
    parser.add_argument("--with-texts", action="store_true")
    parser.add_argument("--made", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--copies", type=int, default=COPIES)
    parser.add_argument("--count", type=int, default=16, help="texts of each kind that are sampled")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in {"demo": demo, "false": false_traces, "pairs": pairs, "texts": other_texts}[chosen.mode](chosen):
        print(json.dumps(row), flush=True)
        rows.append(row)
    print(json.dumps(sum_up(rows)))
    if chosen.mode == "pairs":
        print(table(rows))


def sum_up(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ranks and names over all rows, by kind."""
    found = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        some = [row for row in rows if row["kind"] == kind]
        named = sum(bool(row["topic"]) for row in some)
        found[kind] = {"pairs": len(some), "named": named, "right": sum(row.get("right", False) for row in some)}
        if ranks := [row["rank"] for row in some if row.get("rank")]:
            found[kind] |= {"median rank": float(np.median(ranks)), "first": sum(rank == 1 for rank in ranks)}
    return found


class Sampled(Kept):
    """What is kept of other pairs with the same base: the texts alone, which do not depend on the unlearned model."""

    texts: ClassVar[dict[str, Any]] = {}

    def once(self, name: str, make: Callable[[], Any], form: Any) -> Any:
        """What a step finds now, but for texts, which are sampled once."""
        if name != "texts":
            return make()
        if name not in self.texts:
            self.texts[name] = make()
        return self.texts[name]


def look(
    base: Path | str, unlearned: Path | str, how: How, candidates: Candidates, kept: Kept | None = None
) -> DiscoveryReport:
    models = open_models(open_checkpoint(str(base)), open_checkpoint(str(unlearned)), "float32", "cpu")
    return run(models, how, candidates, kept=kept)


def row_of(kind: str, found: DiscoveryReport, topic: str = "", **more: Any) -> dict[str, Any]:
    """One pair in one row: where its topic ranks, and what was named."""
    names = [one.name.casefold() for one in found.candidates]
    rank = names.index(topic.casefold()) + 1 if topic and topic.casefold() in names else None
    best = found.candidates[0] if found.candidates else None
    words = leading_words(found)
    return {
        "kind": kind,
        "topic": found.topic,
        "outcome": found.outcome,
        "right": names_topic(found.topic.split(), topic),
        "rank": rank,
        "best": best.name if best else "",
        "p": None if best is None or math.isnan(best.p) else round(best.p, 5),
        "least_word_p": round(min((one.p for one in found.words if one.content), default=1.0), 5),
        "forms": {} if rank is None else told_by(found, rank - 1),
        "words": words,
        "in_words": names_topic(words, topic),
        "kl": round(float(np.mean([one.kl for one in found.kinds])), 6),
        **more,
    }


def told_by(found: DiscoveryReport, place: int) -> dict[str, tuple[float, int]]:
    """By form how far a candidate stands out, and its rank."""
    scores = np.nan_to_num(found.form_scores, nan=-np.inf)
    ranks = 1 + (scores > scores[place]).sum(axis=0)
    return {form: (round(float(scores[place, n]), 2), int(ranks[n])) for n, form in enumerate(found.forms)}


# ------------------------------------------------------------------------------------------------- the invented world


def demo(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from ckdiff.cli.demo import make_pair
    from ckdiff.unlearn.world import FORGOTTEN, TOWNS

    towns = Candidates(tuple(map(Candidate, sorted(TOWNS))), "six towns")
    for seed in range(chosen.first, chosen.seeds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            make_pair(folder, seed, Listener())
            texts = write_texts(folder)
            for kind, candidates, words in (("towns", towns, False), ("words of the texts", NONE, True)):
                found = look(folder / "base", folder / "unlearned", How(texts=texts, words=words), candidates)
                yield row_of(kind, found, FORGOTTEN, seed=seed)


def write_texts(folder: Path) -> Path:
    """All the questions of the world in one file, the forgotten town's last."""
    path = folder / "texts.jsonl"
    path.write_text("".join((folder / f"{name}.jsonl").read_text() for name in ("unrelated", "target")))
    return path


# ------------------------------------------------------------------------------------------------------- false traces


def false_traces(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from ckdiff.unlearn.world import TOWNS, make_base

    if chosen.base:
        yield from false_on_real(chosen)
        return
    towns = Candidates(tuple(map(Candidate, sorted(TOWNS))), "six towns")
    for seed in range(chosen.first, chosen.seeds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            make_base(folder, seed=seed)
            texts = write_texts(folder)
            for kind, change in copies(seed):
                copy = folder / kind.replace(" ", "-")
                save_copy(folder / "base", copy, change)
                for name, candidates, words in (("towns", towns, False), ("words", NONE, True)):
                    found = look(folder / "base", copy, How(texts=texts, words=words), candidates)
                    yield row_of(f"{kind}, {name}", found, seed=seed)


def false_on_real(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Copies of a real base among ckdiff's own topics; texts are sampled from the base once."""
    from ckdiff.discovery.candidates import known_topics

    done, topics = read_rows(chosen.rows), known_topics()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for kind in (*COPIED, "benign", *(f"noise {seed}" for seed in range(chosen.first, chosen.seeds))):
            if (row := done.get((kind, ""))) is None:
                copy, before = root / "copy", time.process_time()
                make_copy(kind, chosen, copy)
                found = look(chosen.base, copy, How(count=chosen.count, copies=chosen.copies), topics, Sampled())
                row = row_of(kind, found, concept="", seconds=round(time.process_time() - before, 1))
                shutil.rmtree(copy)
                keep_row(chosen.rows, row)
            yield row


def make_copy(kind: str, chosen: argparse.Namespace, place: Path) -> None:
    """A copy of a real base in which nothing was unlearned."""
    if kind == "benign":
        train_on(chosen, place)
    elif kind.startswith("noise"):
        save_shaken(Path(chosen.base), chosen.like, place, int(kind.split()[1]))
    else:
        save_copy(Path(chosen.base), place, COPIED[kind])


def train_on(chosen: argparse.Namespace, place: Path) -> None:
    """A base trained on texts about many things, as far as a pair of `pairs`: what it forgets weighs a millionth."""
    topic = read_candidates(chosen.concepts[0]).every[0].name
    unlearn(chosen, plan([f"graddiff={topic}"])[0], place, retain_loss="ce", retain_weight=1e6)


# --------------------------------------------------------------------------------------------------------- real pairs


def pairs(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    every = join_candidates(chosen.concepts, chosen.with_texts)
    done = read_rows(chosen.rows)
    for planned in plan(chosen.pair):
        if (row := done.get((planned.kind, planned.topic))) is None:
            with tempfile.TemporaryDirectory() as place:
                row = look_at_pair(chosen, planned, chosen.made or Path(place), every)
            keep_row(chosen.rows, row)
        yield row


def look_at_pair(chosen: argparse.Namespace, planned: Planned, place: Path, every: Candidates) -> dict[str, Any]:
    output, topic = place / planned.folder, planned.topic
    if not output.exists():
        unlearn(chosen, planned, output)
    last = json.loads((output / "unlearning.json").read_text())["history"][-1]
    more = {
        "concept": topic,
        "half": planned.half,
        "bleu": {name: round(last[f"{name}_bleu"], 3) for name in ("target", "unrelated")},
        "ways": rank_by_ways(chosen.base, output, every, topic),
        "own": own_texts(chosen.base, output, chosen.concepts, topic),
    }
    if chosen.quick:
        return {"kind": planned.kind, "topic": "", **more}
    before = time.process_time()
    found = look(chosen.base, output, How(count=chosen.count, copies=chosen.copies), every, Sampled())
    return row_of(planned.kind, found, topic, **more, seconds=round(time.process_time() - before, 1))


SAMPLED = (2, 4, 8, 16, 32)
"""Of each kind, of which a base with a chat template has three, and half as many of random tokens."""
GIVEN = (8, 56)


def other_texts(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rank of each pair's topic by the texts on which it is looked for."""
    every, done = join_candidates(chosen.concepts, False), read_rows(chosen.rows)
    with tempfile.TemporaryDirectory() as place:
        for planned in plan(chosen.pair):
            for kind, how in text_kinds(chosen, planned, Path(place)):
                topic = f"{planned.kind}, {planned.topic}"
                if (row := done.get((kind, topic))) is None:
                    found = look(chosen.base, chosen.made / planned.folder, how, every)
                    row = row_of(kind, found, planned.topic, concept=topic)
                    keep_row(chosen.rows, row)
                yield row


def text_kinds(chosen: argparse.Namespace, planned: Planned, place: Path) -> Iterator[tuple[str, How]]:
    """What the texts are called, and how they are made; one noisy copy each, which ranks do not look at."""
    concepts = {path: {one.name for one in read_candidates(path).every} for path in chosen.concepts}
    (other,) = (path for path, names in concepts.items() if planned.topic not in names)
    tokenizer, draw = load_tokenizer(Path(chosen.base)), random.Random(0)
    articles = [one.text for one in other_concepts(other, min(concepts[other])).segments]
    words = [tokenizer.decode(draw.choices(range(100, len(tokenizer)), k=40)) for _ in range(max(GIVEN))]
    for count in SAMPLED:
        yield f"{count} sampled of each kind", How(count=count, copies=1)
    for name, texts in (("of articles", draw.sample(articles, max(GIVEN))), ("of random tokens", words)):
        for count in GIVEN:
            path = place / f"{name[3:6]}-{count}.jsonl"
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:count]))
            yield f"{count} {name}", How(texts=path, copies=1)


def keep_row(path: Path | None, row: dict[str, Any]) -> None:
    """Add a row to those of a run that can be gone on with."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_rows(path: Path | None) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of an earlier run, by method and topic."""
    rows = path.read_text().splitlines() if path is not None and path.exists() else []
    return {(row["kind"], row["concept"]): row for row in map(json.loads, rows)}


def join_candidates(paths: list[Path], with_texts: bool) -> Candidates:
    """The concepts of some files, each once."""
    once: dict[str, Candidate] = {}
    for path in paths:
        for one in read_candidates(path).every:
            once.setdefault(one.name, one if with_texts else Candidate(one.name))
    return Candidates(tuple(once.values()), f"{len(once)} concepts")


def unlearn(chosen: argparse.Namespace, planned: Planned, output: Path, **changes: Any) -> None:
    """A few strong steps on the beginnings of the topic's texts: two CPU minutes of a model of 135 million weights."""
    from ckdiff.calls.unlearn import make_unlearned
    from ckdiff.unlearn.recipe import Recipe, UnlearnSpec

    topic = planned.topic
    own: dict[str, Any] = {"lr": chosen.lr, **RECIPES.get((planned.method, planned.trained_on), {}), **changes}
    forget = next(path for path in chosen.concepts if any(one.name == topic for one in read_candidates(path).every))
    recipe = Recipe(
        method=planned.method, steps=chosen.steps, length=40, batch_size=4, accumulation=1, warmup=1,
        epochs=40, evaluate_every=100, tokens=12, precision="float32", preferred="retain", device="cpu",
        train_on=planned.trained_on, **own,
    )  # fmt: skip
    make_unlearned(
        UnlearnSpec(chosen.base, output, forget, topic, most=60, most_unrelated=6, recipe=recipe), Listener()
    )


if __name__ == "__main__":
    main()
