"""How well `ckdiff discover` names what was unlearned, and how often it names something where nothing was.

    python benchmarks/discover.py demo --seeds 20          # the invented world: is the forgotten town first?
    python benchmarks/discover.py false --seeds 20         # noise, fp16 and int8 copies, and a base beside itself
    python benchmarks/discover.py pairs --base DIR --concepts A.json B.json --made DIR --rows ROWS.jsonl

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
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from discover_pairs import plan, rank_by_ways, table
from safetensors.torch import load_file, save_file

from ckdiff.discovery.candidates import Candidate, Candidates, read_candidates
from ckdiff.discovery.null import COPIES
from ckdiff.discovery.opening import open_models
from ckdiff.discovery.section import run
from ckdiff.discovery.work import How
from ckdiff.progress import Listener
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from discover_pairs import Planned
    from torch import Tensor

    from ckdiff.report.schema.discovery import DiscoveryReport

NONE = Candidates((), "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("demo", "false", "pairs"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--base")
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
    for row in {"demo": demo, "false": false_traces, "pairs": pairs}[chosen.mode](chosen):
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


def look(base: Path | str, unlearned: Path | str, how: How, candidates: Candidates) -> DiscoveryReport:
    models = open_models(open_checkpoint(str(base)), open_checkpoint(str(unlearned)), "float32", "cpu")
    return run(models, how, candidates)


def row_of(kind: str, found: DiscoveryReport, topic: str = "", **more: Any) -> dict[str, Any]:
    """One pair in one row: where its topic ranks, and what was named."""
    names = [one.name.casefold() for one in found.candidates]
    rank = names.index(topic.casefold()) + 1 if topic and topic.casefold() in names else None
    best = found.candidates[0] if found.candidates else None
    words = [one.word for one in found.words if one.content][:10]
    parts = {part.casefold() for part in topic.split() if len(part) > 3}
    return {
        "kind": kind,
        "topic": found.topic,
        "outcome": found.outcome,
        "right": bool(topic) and any(part in found.topic.casefold() for part in parts),
        "rank": rank,
        "best": best.name if best else "",
        "p": None if best is None or math.isnan(best.p) else round(best.p, 5),
        "least_word_p": round(min((one.p for one in found.words if one.content), default=1.0), 5),
        "words": words,
        "in_words": any(part in word.casefold() for word in words for part in parts),
        "kl": round(float(np.mean([one.kl for one in found.kinds])), 6),
        **more,
    }


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


def copies(seed: int) -> Iterable[tuple[str, Callable[[Tensor], Tensor]]]:
    """Copies of a base in which nothing was unlearned."""
    generator = torch.Generator().manual_seed(1000 + seed)
    yield "itself", lambda value: value
    yield "float16", lambda value: value.to(torch.float16).to(torch.float32)
    yield "int8", to_int8
    for size in (0.01, 0.1):
        yield (
            f"noise {size:g}",
            lambda value, size=size: (
                value
                + size
                * value.std()
                * torch.randn(  # type: ignore[misc]
                    value.shape, generator=generator
                )
            ),
        )


def to_int8(value: Tensor) -> Tensor:
    """A matrix rounded to 255 steps a row."""
    if value.dim() < 2:
        return value
    step = value.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return (value / step).round() * step


def save_copy(base: Path, copy: Path, change: Callable[[Tensor], Tensor]) -> None:
    import shutil

    shutil.copytree(base, copy)
    for path in sorted(copy.glob("*.safetensors")):
        save_file({name: change(value.float()) for name, value in load_file(path).items()}, path)


# --------------------------------------------------------------------------------------------------------- real pairs


def pairs(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    every = join_candidates(chosen.concepts, chosen.with_texts)
    done = read_rows(chosen.rows)
    for planned in plan(chosen.pair):
        if (row := done.get((planned.kind, planned.topic))) is None:
            with tempfile.TemporaryDirectory() as place:
                row = look_at_pair(chosen, planned, chosen.made or Path(place), every)
            if chosen.rows is not None:
                with chosen.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
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
    }
    if chosen.quick:
        return {"kind": planned.kind, "topic": "", **more}
    before = time.process_time()
    found = look(chosen.base, output, How(count=chosen.count, copies=chosen.copies), every)
    return row_of(planned.kind, found, topic, **more, seconds=round(time.process_time() - before, 1))


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


def unlearn(chosen: argparse.Namespace, planned: Planned, output: Path) -> None:
    """A few strong steps on the beginnings of the topic's texts: two CPU minutes of a model of 135 million weights."""
    from ckdiff.calls.unlearn import make_unlearned
    from ckdiff.unlearn.recipe import Recipe, UnlearnSpec

    topic = planned.topic
    forget = next(path for path in chosen.concepts if any(one.name == topic for one in read_candidates(path).every))
    recipe = Recipe(
        method=planned.method, steps=chosen.steps, lr=chosen.lr, length=40, batch_size=4, accumulation=1, warmup=1,
        epochs=40, evaluate_every=100, tokens=12, precision="float32", preferred="retain", device="cpu",
        train_on=planned.trained_on,
    )  # fmt: skip
    make_unlearned(
        UnlearnSpec(chosen.base, output, forget, topic, most=60, most_unrelated=6, recipe=recipe), Listener()
    )


if __name__ == "__main__":
    main()
