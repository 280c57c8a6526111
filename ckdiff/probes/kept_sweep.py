"""An interrupted sweep on disk: `save(path, key, progress)`, `load(path, key)`.

Between two layers the whole sweep is a few tensors, so that is what is kept, in one safetensors file beside the report:
what goes on from there computes bit for bit what an uninterrupted sweep would have. The key is a digest of everything
that determines the numbers.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckdiff.errors import CkdiffError
from ckdiff.files import stage
from ckdiff.probes.sweep import SIDES, State

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor


class PartialError(CkdiffError):
    """A kept sweep that cannot be gone on with."""


@dataclass(slots=True)
class Progress:
    """How far a probe has come.

    Attributes:
        answers: the scored ids of every question.
        number: the pass that is under way.
        state: of that pass, or None before its first layer is done.
        finals: what the passes before it found: number of the run -> input of its unembedding.
        passes: the runs of every pass.
        windows: the modes whose windows were added, a round each.
    """

    answers: list[list[int]]
    number: int
    state: State | None
    finals: dict[int, Tensor]
    passes: list[list[int]]
    windows: list[list[str]] = field(default_factory=list)


def place(report: Path, section: str = "probe") -> Path:
    """Where the interrupted probe, or another section, of a report is kept."""
    return report.with_name(f".{report.name[:200]}{'' if section == 'probe' else f'.{section}'}.partial")


def save(path: Path, key: str, progress: Progress) -> None:
    """Write it, all or nothing.

    Raises:
        OSError: there is no room, or no right.
    """
    from safetensors.torch import save_file

    tensors = {f"final.{number}": value for number, value in progress.finals.items()}
    head: dict[str, object] = {"key": key, "answers": progress.answers, "number": progress.number}
    head["passes"], head["windows"] = progress.passes, progress.windows
    if progress.state is not None:
        state = progress.state
        head["layer"] = state.layer
        tensors |= {f"own.{side}.{unit}": value for side in SIDES for unit, value in enumerate(state.own[side])}
        tensors |= {f"run.{run}.{unit}": value for run, units in state.runs.items() for unit, value in enumerate(units)}
    # Two runs may hold one tensor, which the format does not allow.
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with stage(path) as temporary:
        save_file(copies, str(temporary), metadata={"ckdiff": json.dumps(head)})


def load(path: Path, key: str, device: torch.device) -> Progress | None:
    """The sweep that was kept, or None where there is none.

    Raises:
        PartialError: it belongs to another probe, or is damaged.
    """
    from safetensors import safe_open

    if not path.exists():
        return None
    try:
        with safe_open(str(path), "pt", device=str(device)) as file:
            head = json.loads(file.metadata()["ckdiff"])
            if head["key"] != key:
                raise PartialError(
                    f"{path}: an interrupted probe of other models, questions or settings; give those, or leave out"
                    " --resume"
                )
            return _progress(head, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except PartialError:
        raise
    except Exception as error:
        raise PartialError(f"{path}: damaged ({str(error)[:100]}); leave out --resume to start anew") from error


def remove(path: Path) -> None:
    """Forget it, once the report is written."""
    with contextlib.suppress(OSError):
        path.unlink()


def _progress(head: dict[str, object], tensors: dict[str, Tensor]) -> Progress:
    finals, state = {}, None
    if "layer" in head:
        state = State(int(str(head["layer"])), {side: [] for side in SIDES})
    for name in sorted(tensors, key=lambda name: [int(part) if part.isdigit() else -1 for part in name.split(".")]):
        kind, which, *_ = name.split(".")
        if kind == "final":
            finals[int(which)] = tensors[name]
        elif state is not None and kind == "own":
            state.own["base" if which == "base" else "unlearned"].append(tensors[name])
        elif state is not None:
            state.runs.setdefault(int(which), []).append(tensors[name])
    answers = [[int(token) for token in answer] for answer in head["answers"]]  # type: ignore[attr-defined]
    passes = [[int(run) for run in group] for group in head["passes"]]  # type: ignore[attr-defined]
    windows = [[str(mode) for mode in modes] for modes in head.get("windows", [])]  # type: ignore[attr-defined]
    return Progress(answers, int(str(head["number"])), state, finals, passes, windows)
