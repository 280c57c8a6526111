"""What a user may do to a model that changes nothing it knows, for `faithfulness.py`: `change_model(...)`.

WORK/8-llama-0/graddiff~nf4          its matrices rounded to NF4 in blocks of 64, and back
WORK/8-llama-0/graddiff~relearned    a few steps further on facts about other things
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from faithfulness_models import keep, load, teach

from ckdiff.attacks.altering import matrices
from ckdiff.attacks.quantise import quantise, turned_matrices
from ckdiff.probes.live.model import LiveModel
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faithfulness_models import Pupil

STEPS, LR = 8, 3e-4
"""Of relearning."""


def _round(place: Path, pupil: Pupil) -> Any:
    """The model in four bits, as QLoRA's NF4 has it."""
    live = LiveModel(open_checkpoint(str(place)), torch.float32, torch.device("cpu"))
    names, turned, model = matrices(live), turned_matrices(live), load(place)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in names:
                value.copy_(quantise(value, "NF4 in blocks of 64", name in turned))
    return model


def _relearn(place: Path, pupil: Pupil) -> Any:
    """The model after a few steps on what nobody wanted it to forget."""
    return teach(load(place), pupil.others, pupil.start, STEPS, LR)


CHANGES: dict[str, Callable[[Path, Pupil], Any]] = {"nf4": _round, "relearned": _relearn}
"""By name what is done."""


def change_model(folder: Path, name: str, how: str, pupil: Pupil) -> Path:
    """The folder of the model after it; made where it is missing."""
    place = folder / f"{name}~{how}"
    keep(place, lambda: CHANGES[how](folder / name, pupil))
    return place
