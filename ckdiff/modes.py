"""The table of modes and variants: what is put back, and what is held still meanwhile.

A mode names the elements that come from the donor inside a run's window; a variant names the elements that are pinned
to the host's own run, inside the window and behind it. Restoring: the host is the unlearned model, the donor the base.
Breaking: the other way round. A new mode is one row of `MODES`, a new variant one row of `VARIANTS`: help texts, the
page's notes, policies, verdicts and the plan of runs read it there.

Source: Hong et al. 2024, arXiv:2410.06606, section 3.2 (`open`), appendix C (`isolated`), notebook (`direct`).
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ckdiff.shapes import Component

Direction = Literal["restore", "break"]


DIRECTIONS: tuple[Direction, ...] = ("restore", "break")


Role = Literal["states", "weights", "sum", "shown", "subset"]
"""What a verdict makes of a mode: states that may carry the effect while all weights stay in place; weights that were
edited where they carry it; a sum of both, which counts only where nothing alone is enough; nothing at all; or several
kinds of weights together, which finds edits of which each alone is enough to take the answers away."""


KEY_OUTPUTS = ("gate", "up")
"""What the keys of a gated MLP give, m = act(gate) * up: gate is the activation's input."""


class Layer(Protocol):
    """The parts of a decoder layer that a mode may ask for, by name, as `LayerSites` has them."""

    @property
    def key_outputs(self) -> Mapping[str, object]:
        """By name of `KEY_OUTPUTS`; empty where the MLP is not gated, or is a mixture of experts."""

    @property
    def experts(self) -> object | None:
        """What a router sends positions to; None where the layer is no mixture of experts."""


def everywhere(layer: Layer) -> bool:
    """Every layer has it."""
    return True


def has_gate(layer: Layer) -> bool:
    """Its MLP is gated, and is no mixture of experts (whose gates are those of the experts that a router chose)."""
    return "gate" in layer.key_outputs


def has_router(layer: Layer) -> bool:
    """It is a mixture of experts, whose router chooses and weighs them."""
    return layer.experts is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One thing that the donor gives to the layers of a window, in words and as what it is.

    Attributes:
        subject: what it is called in a sentence, as in "value vectors bring back 0.9".
        gist: what is put back, for one who does not know the parts of a layer.
        meaning: what is put back, in the words of the design; the README's row.
        role: what a verdict makes of it. What decides one must be there in every architecture.
        components: of `compare`, those whose weights it puts back.
        applies: whether a layer has it. A mode is for architectures that have it in every layer.
        needs: what a layer must have, as in "needs a router, and layer 0 has none".
        attention: the attention state A.
        coefficients: the coefficients m (in a mixture of experts: with the routing that weighs them).
        key_outputs: some of `KEY_OUTPUTS`, of which m is made anew; in variant `direct` the others are the host's own.
        routing: what a router gives, of which m is made anew: the chosen experts and their weights; in variant `direct`
            the chosen experts get what they get in the host's own run.
        value_vectors: the weights W_V.
        keys: the weights W_K.
        attention_weights: the weights of attention, W_Q, W_K, W_V and W_O of its heads.
        ancillary: embedding, norms and unembedding, in the whole model: one score, not one a layer.
    """

    subject: str
    gist: str
    meaning: str
    role: Role
    components: tuple[Component, ...] = ()
    applies: Callable[[Layer], bool] = everywhere
    needs: str = ""
    attention: bool = False
    coefficients: bool = False
    key_outputs: tuple[str, ...] = ()
    routing: bool = False
    value_vectors: bool = False
    keys: bool = False
    attention_weights: bool = False
    ancillary: bool = False

    @property
    def states(self) -> bool:
        """Whether it puts back states, which belong to a prompt, and not weights alone."""
        return self.attention or self.coefficients or bool(self.key_outputs) or self.routing


MODES: dict[str, Mode] = {
    "coeff": Mode(
        subject="coefficients",
        gist="coefficients of the MLPs' neurons",
        meaning="the MLP's coefficients m, the input of its output projection: how strongly each value vector is called"
        " on",
        role="states",
        coefficients=True,
    ),
    "values": Mode(
        subject="value vectors",
        gist="value vectors (weights)",
        meaning="the value vectors W_V, the weights of the MLP's output projection",
        role="weights",
        components=("value_vectors",),
        value_vectors=True,
    ),
    "attn": Mode(
        subject="attention states",
        gist="attention's output",
        meaning="the attention state A, the output of attention before it is added to the residual stream",
        role="states",
        attention=True,
    ),
    "attn+coeff": Mode(
        subject="coefficients and attention states",
        gist="both of these states",
        meaning="both A and m",
        role="states",
        attention=True,
        coefficients=True,
    ),
    "keys": Mode(
        subject="keys",
        gist="the MLPs' first matrices (weights)",
        meaning="the keys W_K, the MLP's first weights: tells changed keys from changed inputs",
        role="weights",
        components=("keys", "router"),
        keys=True,
    ),
    "mlp": Mode(
        subject="coefficients and value vectors",
        gist="coefficients and value vectors",
        meaning="the MLP's whole output: m and W_V together",
        role="sum",
        components=("value_vectors",),
        coefficients=True,
        value_vectors=True,
    ),
    "gate": Mode(
        subject="gates",
        gist="what the gates of the MLPs' neurons get, in models that have gates",
        meaning="the output of the MLP's gate projection, of which m is made anew; only where every layer's MLP is"
        " gated and no mixture of experts",
        role="shown",
        applies=has_gate,
        needs="a gated MLP that is no mixture of experts",
        key_outputs=("gate",),
    ),
    "router": Mode(
        subject="routing",
        gist="which experts are chosen and how they are weighed, in mixtures of experts",
        meaning="what the router of a mixture of experts gives, the chosen experts and their weights, of which m is"
        " made anew; only where every layer is a mixture of experts",
        role="shown",
        applies=has_router,
        needs="a router",
        routing=True,
    ),
    "attn-weights": Mode(
        subject="attention weights",
        gist="attention's weights",
        meaning="the weights of attention, W_Q, W_K, W_V and W_O: tells rerouted attention from changed inputs",
        role="weights",
        components=("attn_q", "attn_k", "attn_v", "attn_o"),
        attention_weights=True,
    ),
    "ancillary": Mode(
        subject="embedding, norms and unembedding",
        gist="embedding, norms and unembedding",
        meaning="embedding, norms and unembedding of the whole model: one score, no window",
        role="weights",
        components=("embedding", "position_embedding", "unembedding", "norms"),
        ancillary=True,
    ),
}
"""By the name that `--mode` takes, in the order in which tables show them; of one role the smallest comes first."""


def _subset(kinds: Sequence[Mode]) -> Mode:
    """Several kinds of weights as one mode."""
    *most, last = (kind.subject for kind in kinds)
    return Mode(
        subject=f"{', '.join(most)} and {last}",
        gist="several kinds of weights together",
        meaning="these kinds of weights together, in the whole model: one score, no window",
        role="subset",
        components=tuple(component for kind in kinds for component in kind.components),
        value_vectors=any(kind.value_vectors for kind in kinds),
        keys=any(kind.keys for kind in kinds),
        attention_weights=any(kind.attention_weights for kind in kinds),
        ancillary=any(kind.ancillary for kind in kinds),
    )


WEIGHTS = tuple(name for name, mode in MODES.items() if mode.role == "weights")
"""Modes that put back weights: together every parameter, each in one of them."""


SUBSETS: dict[str, Mode] = {
    "+".join(names): _subset([MODES[name] for name in names])
    for size in range(2, len(WEIGHTS))
    for names in combinations(WEIGHTS, size)
}
"""Several of `WEIGHTS` together and never all of them, the smallest first, by the names that `--mode` takes as well
(`all` does not mean them): "values+ancillary". They are put back in the whole model, variant `whole`."""


EVERY_MODE: Mapping[str, Mode] = ChainMap(SUBSETS, MODES)
"""Every mode by name."""


def subsets_of(kinds: Collection[str]) -> tuple[str, ...]:
    """Names of the proper subsets of some of `WEIGHTS`, the smallest first.

    >>> subsets_of(("values", "keys", "ancillary"))
    ('values+keys', 'values+ancillary', 'keys+ancillary')
    """
    return tuple(name for name in SUBSETS if set(kinds_of(name)) < set(kinds))


def kinds_of(subset: str) -> tuple[str, ...]:
    """The kinds of weights of a subset."""
    return tuple(subset.split("+"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to pin the host's own states, in words and as what is pinned.

    Attributes:
        gist, meaning: as of a mode: what happens to everything that is not put back.
        pins_others: inside the window and behind it, the elements that the mode does not restore stay the host's own.
        pins_behind: behind the window everything stays the host's own, the restored element too.
        whole: one window, all layers: one score, not one a layer.
    """

    gist: str
    meaning: str
    pins_others: bool = False
    pins_behind: bool = False
    whole: bool = False


VARIANTS: dict[str, Variant] = {
    "open": Variant(
        gist="everything else is recomputed",
        meaning="everything else is recomputed (the paper's section 3.2)",
    ),
    "isolated": Variant(
        gist="the other elements keep the unlearned model's states",
        meaning="the other elements keep the unlearned model's own states, in the window and behind it (appendix C)",
        pins_others=True,
    ),
    "direct": Variant(
        gist="only the path through the residual stream is left",
        meaning="everything but the restored element of the window keeps the unlearned model's own states: what is left"
        " is the path through the residual stream",
        pins_others=True,
        pins_behind=True,
    ),
    "whole": Variant(
        gist="one window, all layers",
        meaning="everything else is recomputed, and the window is the whole model: one score, for an effect that no"
        " window holds alone",
        whole=True,
    ),
}
"""By the name that `--variant` takes."""


def is_planned(mode: str, variant: str) -> bool:
    """Whether a variant is for a mode: several kinds of weights are put back in the whole model only.

    >>> is_planned("values+keys", "open"), is_planned("values+keys", "whole"), is_planned("values", "open")
    (False, True, True)
    """
    return mode not in SUBSETS or VARIANTS[variant].whole


def of_role(*roles: Role) -> tuple[str, ...]:
    """Names of the modes that a verdict takes for one of these roles, the roles in the order given.

    >>> of_role("states")
    ('coeff', 'attn', 'attn+coeff')
    """
    return tuple(name for role in roles for name, mode in MODES.items() if mode.role == role)


def decisive() -> tuple[str, ...]:
    """Names of the modes that a verdict rests on, in the order of the table."""
    return tuple(name for name, mode in MODES.items() if mode.role in ("states", "weights"))


def without_window(mode: str, variant: str) -> bool:
    """Whether a run is about the whole model at once; the names may be those of another version's report.

    >>> without_window("coeff", "open"), without_window("ancillary", "open"), without_window("coeff", "whole")
    (False, True, True)
    """
    return (variant in VARIANTS and VARIANTS[variant].whole) or (mode in EVERY_MODE and EVERY_MODE[mode].ancillary)
