"""The table of modes and variants: what is put back, and what is held still meanwhile.

A mode names the elements that come from the donor inside a run's window; a variant names the elements that are pinned
to the host's own run, inside the window and behind it. Restoring: the host is the unlearned model, the donor the base.
Breaking: the other way round. A new mode is one row of `MODES`, a new variant one row of `VARIANTS`.

Source: Hong et al. 2024, arXiv:2410.06606, section 3.2 (`open`), appendix C (`isolated`), notebook (`direct`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["restore", "break"]


DIRECTIONS: tuple[Direction, ...] = ("restore", "break")


@dataclass(frozen=True, slots=True)
class Mode:
    """What the donor gives to the layers of a window.

    Attributes:
        attention: the attention state A.
        coefficients: the coefficients m (in a mixture of experts: with the routing that weighs them).
        value_vectors: the weights W_V.
        keys: the weights W_K.
        attention_weights: the weights of attention, W_Q, W_K, W_V and W_O of its heads.
        ancillary: embedding, norms and unembedding, in the whole model: one score, not one a layer.
    """

    attention: bool = False
    coefficients: bool = False
    value_vectors: bool = False
    keys: bool = False
    attention_weights: bool = False
    ancillary: bool = False

    @property
    def states(self) -> bool:
        """Whether it puts back states, which belong to a prompt, and not weights alone."""
        return self.attention or self.coefficients


MODES: dict[str, Mode] = {
    "coeff": Mode(coefficients=True),
    "values": Mode(value_vectors=True),
    "attn": Mode(attention=True),
    "attn+coeff": Mode(attention=True, coefficients=True),
    "keys": Mode(keys=True),
    "mlp": Mode(coefficients=True, value_vectors=True),
    "attn-weights": Mode(attention_weights=True),
    "ancillary": Mode(ancillary=True),
}
"""By the name that `--mode` takes, in the order in which tables show them."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is pinned to the host's own states.

    Attributes:
        pins_others: inside the window and behind it, the elements that the mode does not restore stay the host's own.
        pins_behind: behind the window everything stays the host's own, the restored element too.
        whole: one window, all layers: one score, not one a layer.
    """

    pins_others: bool = False
    pins_behind: bool = False
    whole: bool = False


VARIANTS: dict[str, Variant] = {
    # everything else is recomputed
    "open": Variant(),
    # the other elements keep the host's own states
    "isolated": Variant(pins_others=True),
    # only the path through the residual stream is left
    "direct": Variant(pins_others=True, pins_behind=True),
    # everything else is recomputed, and the window is the whole model (ours: an effect that no window holds alone)
    "whole": Variant(whole=True),
}
"""By the name that `--variant` takes."""
