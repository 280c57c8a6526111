"""How well `ckdiff discover` names what was unlearned, and how often it names something where nothing was.

    python benchmarks/discover.py demo --seeds 20          # the invented world: is the forgotten town first?
    python benchmarks/discover.py false --seeds 20         # noise, fp16 and int8 copies, and a base beside itself
    python benchmarks/discover.py pairs --base DIR --concepts CONCEPTS.json --topics A,B --methods graddiff,npo_kl

`pairs` unlearns each topic from a real base by each method with `ckdiff unlearn` and ranks it among all the concepts of
a ConceptVectors file. Rows are JSON lines on stdout; the last one sums up.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ckdiff.discovery.candidates import Candidate, Candidates, read_candidates
from ckdiff.discovery.opening import open_models
from ckdiff.discovery.section import How, run
from ckdiff.progress import Listener
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

    from ckdiff.report.schema.discovery import DiscoveryReport

NONE = Candidates((), "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("demo", "false", "pairs"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--base")
    parser.add_argument("--concepts", type=Path)
    parser.add_argument("--topics", default="")
    parser.add_argument("--methods", default="graddiff,npo_kl")
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--count", type=int, default=16, help="texts of each kind that are sampled")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in {"demo": demo, "false": false_traces, "pairs": pairs}[chosen.mode](chosen):
        print(json.dumps(row), flush=True)
        rows.append(row)
    print(json.dumps(sum_up(rows)))


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
    for seed in range(chosen.seeds):
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
    for seed in range(chosen.seeds):
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
    from ckdiff.calls.unlearn import make_unlearned
    from ckdiff.unlearn.recipe import Recipe, UnlearnSpec

    candidates = read_candidates(chosen.concepts)
    for topic in chosen.topics.split(","):
        for method in chosen.methods.split(","):
            with tempfile.TemporaryDirectory() as place:
                output = Path(place) / "unlearned"
                recipe = Recipe(method=method, steps=chosen.steps, device="cpu")
                spec = UnlearnSpec(
                    chosen.base, output, forget=chosen.concepts, retain=None, concept=topic, recipe=recipe
                )
                make_unlearned(spec, Listener())
                found = look(chosen.base, output, How(count=chosen.count), candidates)
                yield row_of(method, found, topic, concept=topic)


if __name__ == "__main__":
    main()
