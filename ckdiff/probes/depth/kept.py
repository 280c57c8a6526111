"""An interrupted depth on disk: `save(path, key, answers, mark)`, `load(path, key, device)`.

Between two layers a measurement is a few states and what was read so far: one safetensors file beside the report, and
what goes on from there computes bit for bit what an uninterrupted one would have. The key is a digest of everything
that determines the numbers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.files import stage as stage_file
from ckdiff.probes.depth.runs import MODELS, SOURCES, Mark, Stage
from ckdiff.probes.forcing import Read
from ckdiff.probes.kept_sweep import PartialError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from ckdiff.probes.depth.runs import Found, Key

Answers = list[list[int]]


def save(path: Path, key: str, answers: Sequence[Sequence[int]], mark: Mark) -> None:
    """Write it, all or nothing.

    Raises:
        OSError: there is no room, or no right.
    """
    from safetensors.torch import save_file

    stage = mark.stage
    tensors: dict[str, Tensor] = {}
    head: dict[str, Any] = {"key": key, "answers": [list(ids) for ids in answers], "group": mark.group}
    head |= {"layer": stage.layer, "sizes": {}, "stream": mark.stream, "room": mark.room}
    tensors |= {f"own {name} {unit}": value for name, units in stage.own.items() for unit, value in enumerate(units)}
    for (source, number), units in stage.runs.items():
        tensors |= {f"run {source} {number} {unit}": value for unit, value in enumerate(units)}
    for when, found in (("before", mark.found), ("now", stage.found)):
        for what, reads in found.items():
            name = " ".join((when, *map(str, what)))
            head["sizes"][name] = [len(read.log_p) for read in reads]
            tensors |= {f"log_p {name}": torch.cat([read.log_p for read in reads])}
            tensors |= {f"first {name}": torch.cat([read.first for read in reads])}
    path.parent.mkdir(parents=True, exist_ok=True)
    # A state that was never overwritten may be shared, which the format does not allow.
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with stage_file(path) as temporary:
        save_file(copies, str(temporary), metadata={"ckdiff": json.dumps(head)})


def load(path: Path, key: str, device: torch.device) -> tuple[Answers, Mark] | None:
    """The answers and how far it had come, or None where nothing was kept.

    Raises:
        PartialError: it belongs to another depth, or is damaged.
    """
    from safetensors import safe_open

    if not path.exists():
        return None
    try:
        with safe_open(str(path), "pt") as file:
            head = json.loads(file.metadata()["ckdiff"])
            if head["key"] != key:
                raise PartialError(
                    f"{path}: an interrupted depth of other models, questions or settings; give those, or leave out"
                    " --resume"
                )
            return _mark(head, {name: file.get_tensor(name) for name in file.keys()}, device)  # noqa: SIM118
    except PartialError:
        raise
    except Exception as error:
        raise PartialError(f"{path}: damaged ({str(error)[:100]}); leave out --resume to start anew") from error


def _mark(head: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> tuple[Answers, Mark]:
    stage, mark = (
        Stage(int(head["layer"])),
        Mark(int(head["group"]), stream=bool(head["stream"]), room=int(head["room"])),
    )

    def units(name: str) -> list[Tensor]:
        count = sum(one.startswith(f"{name} ") for one in tensors)
        return [tensors[f"{name} {unit}"].to(device) for unit in range(count)]

    stage.own = {name: states for name in MODELS if (states := units(f"own {name}"))}
    for number in range(stage.layer):
        stage.runs |= {(source, number): units(f"run {source} {number}") for source in SOURCES}
    for name, sizes in head["sizes"].items():
        when, kind, model, number = name.split()
        log_p, first = (tensors[f"{part} {name}"].split([int(size) for size in sizes]) for part in ("log_p", "first"))
        found: Found = mark.found if when == "before" else stage.found
        what: Key = (kind, model, int(number))
        found[what] = [Read(*pair) for pair in zip(log_p, first, strict=True)]
    mark.stage = stage
    return [[int(token) for token in answer] for answer in head["answers"]], mark
