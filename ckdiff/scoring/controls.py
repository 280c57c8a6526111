"""What the controls of a probe are held to; a report can be checked by the same numbers without torch."""

from __future__ import annotations

from typing import Literal

Kind = Literal["at_most", "at_least", "shown"]


KINDS: dict[str, Kind] = {"self_patch": "at_most", "everything": "at_least", "wrong_prompt": "shown"}
"""How the figure of each control is held to its bound."""


EVERYTHING = 0.9999
"""The least score of restoring everything."""


SELF_PATCH = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 0.25, "float16": 0.05}
"""By dtype the greatest change of a logit that restoring a model's own states may make: rounding, and no more."""


def passes(kind: Kind, value: float, bound: float) -> bool:
    """Whether a figure keeps its bound; one that is only shown does."""
    if kind == "shown":
        return True
    return value <= bound if kind == "at_most" else value >= bound
