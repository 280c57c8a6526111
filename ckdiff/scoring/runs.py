"""What one run does in each layer: direction x mode x variant x window becomes a first layer, a last one, two patches.

    plan = plan_runs(spec, layers)        # every run of a probe, controls included, each computed once

Two runs that would do the same (`attn+coeff` open and isolated) are one run under two names.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

from ckdiff.modes import EVERY_MODE, KEY_OUTPUTS, VARIANTS, is_planned, without_window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ckdiff.modes import Direction, Mode, Variant


Source = Literal["host", "donor", "wrong"]
"""Whose states: the host's own, the donor's, or the donor's on the next question."""


@dataclass(frozen=True, slots=True)
class Patch:
    """What is not the layer's own.

    Attributes:
        attention: whose A, or None where it is recomputed.
        coefficients: whose m, or None where they are recomputed.
        key_outputs: of what m is recomputed from, names of `modes.KEY_OUTPUTS` and whose they are.
        routing: whose choice and weights of experts, or None where the router makes them; with the host's m it is the m
            of its experts on its own input, chosen and weighed like that.
        donor_values: W_V of the donor.
        donor_keys: W_K of the donor.
        donor_norms: the donor's norms.
        donor_attention: the weights of attention of the donor.
    """

    attention: Source | None = None
    coefficients: Source | None = None
    key_outputs: tuple[tuple[str, Source], ...] = ()
    routing: Source | None = None
    donor_values: bool = False
    donor_keys: bool = False
    donor_norms: bool = False
    donor_attention: bool = False

    @property
    def swaps(self) -> tuple[str, ...]:
        """What the layer takes from the donor, as names of `LayerSites.parameters`.

        W_V is inside the constant where m is pinned, and where A is pinned nothing of attention is computed.
        """
        flags = (
            ("value_vectors", self.donor_values and self.coefficients is None),
            ("keys", self.donor_keys),
            ("norms", self.donor_norms),
            ("attention", self.donor_attention and self.attention is None),
        )
        return tuple(name for name, wanted in flags if wanted)


OPEN = Patch()


@dataclass(frozen=True, slots=True)
class Run:
    """One forward through the upper layers of the host.

    Attributes:
        direction: which side is the host.
        first, last: the window's layers, both included.
        inside, behind: the patch in the window, and in every later layer.
        donor_ends: embedding, final norm and unembedding are the donor's.
    """

    direction: Direction
    first: int
    last: int
    inside: Patch
    behind: Patch = OPEN
    donor_ends: bool = False

    def patch(self, layer: int) -> Patch:
        """What is patched in a layer from the window's first one on.

        Into its first layer a run carries the host's own state, so what would be computed there from nothing but that
        state and the host's own weights is the host's own, and need not be computed again.
        """
        patch = self.inside if layer <= self.last else self.behind
        if layer != self.first or self.donor_ends or patch.donor_norms:
            return patch
        attention = patch.attention or (None if patch.donor_attention else "host")
        coefficients = patch.coefficients
        if attention == "host" and coefficients is None and not (patch.donor_keys or patch.key_outputs):
            coefficients = "host"
        return replace(patch, attention=attention, coefficients=coefficients)

    @property
    def pointwise(self) -> bool:
        """No layer mixes positions: with A pinned everywhere, only the scored positions are needed."""
        return self.inside.attention is not None and self.behind.attention is not None


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one direction x mode x variant: one run a centre, as indices into `Schedule.runs`.

    Attributes:
        centres: window centres; (-1,) for a mode that is about no single window.
        wrong: centre -> the run with the states of another question.
    """

    direction: Direction
    mode: str
    variant: str
    centres: tuple[int, ...]
    runs: tuple[int, ...]
    wrong: dict[int, int]

    @property
    def name(self) -> tuple[Direction, str, str]:
        """What tells it from the others of a plan."""
        return self.direction, self.mode, self.variant


@dataclass(frozen=True, slots=True)
class Schedule:
    """Every run of a probe, each once.

    Attributes:
        self_patch, everything: direction -> the run of that control.
    """

    layers: int
    runs: tuple[Run, ...]
    sweeps: tuple[Windows, ...]
    self_patch: dict[Direction, int]
    everything: dict[Direction, int]


def window_of(centre: int, width: int, layers: int) -> tuple[int, int]:
    """First and last layer of a window, cut off at the ends.

    >>> window_of(0, 5, 30), window_of(10, 5, 30), window_of(29, 4, 30)
    ((0, 2), (8, 12), (27, 29))
    """
    first = centre - width // 2
    return max(0, first), min(layers - 1, first + width - 1)


def inside_patch(mode: Mode, variant: Variant) -> Patch:
    """The patch in the window's layers; design section 3, modes and variants."""
    attention: Source | None = "donor" if mode.attention else None
    if variant.pins_others and not mode.attention and not mode.attention_weights:
        attention = "host"
    coefficients: Source | None = None
    if mode.coefficients:
        coefficients = "donor"
    elif variant.pins_others and not (mode.keys or mode.key_outputs or (mode.routing and not variant.pins_behind)):
        coefficients = "host"
    return Patch(
        attention,
        coefficients,
        _key_outputs(mode, variant),
        "donor" if mode.routing else None,
        mode.value_vectors,
        mode.keys,
        donor_norms=mode.ancillary,
        donor_attention=mode.attention_weights,
    )


def _key_outputs(mode: Mode, variant: Variant) -> tuple[tuple[str, Source], ...]:
    """The donor's, and where only the path through the residual stream is to be left, the others the host's own."""
    given: list[tuple[str, Source]] = [(name, "donor") for name in mode.key_outputs]
    if given and variant.pins_behind:
        given += [(name, "host") for name in KEY_OUTPUTS if name not in mode.key_outputs]
    return tuple(given)


def behind_patch(mode: Mode, variant: Variant) -> Patch:
    """The patch in the layers behind the window."""
    if variant.whole:
        # There are none. A run that says so carries the scored positions alone where A is pinned.
        return inside_patch(mode, variant)
    if variant.pins_behind:
        return Patch("host", "host")
    if not variant.pins_others:
        return OPEN
    moves_attention = mode.attention or mode.attention_weights
    moves_mlp = mode.coefficients or mode.keys or bool(mode.key_outputs) or mode.routing
    return Patch(None if moves_attention else "host", None if moves_mlp else "host")


def wrong_prompt(patch: Patch) -> Patch:
    """The same patch with the donor's states taken from another question."""
    return replace(
        patch,
        attention="wrong" if patch.attention == "donor" else patch.attention,
        coefficients="wrong" if patch.coefficients == "donor" else patch.coefficients,
        key_outputs=tuple((name, "wrong" if source == "donor" else source) for name, source in patch.key_outputs),
        routing="wrong" if patch.routing == "donor" else patch.routing,
    )


def tiles(centres: Sequence[int], width: int) -> tuple[int, ...]:
    """Every width-th centre, from half a window on, and the last one where it is left over.

    Windows side by side, which cover what the windows of all centres cover (where the centres are consecutive).

    >>> tiles(range(30), 5), tiles(range(32), 5)
    ((2, 7, 12, 17, 22, 27), (2, 7, 12, 17, 22, 27, 31))
    """
    found = centres[min(width // 2, len(centres) - 1) :: width]
    rest = centres[-1] - found[-1] > width - 1 - width // 2
    return (*found, centres[-1]) if rest else tuple(found)


def plan_runs(
    directions: Iterable[Direction],
    modes: Iterable[str],
    variants: Iterable[str],
    centres: Sequence[int],
    width: int,
    layers: int,
    controls: bool = True,
    wrong_prompts: bool = True,
    windowed: Collection[str] | None = None,
    known: Sequence[Run] = (),
) -> Schedule:
    """Every run that a probe needs.

    Args:
        directions: keys of `modes.DIRECTIONS`.
        modes: keys of `modes.EVERY_MODE`.
        variants: keys of `modes.VARIANTS`.
        centres: window centres.
        width: of a window, in layers.
        layers: of the model.
        controls: with the three controls; only benchmarks go without.
        wrong_prompts: with the last of them, which needs another question to take states from.
        windowed: modes whose windows are swept; None: all of them. The others are put back in the whole model alone.
        known: runs that keep their numbers: those of an earlier plan, which had fewer windows.
    """
    runs: dict[Run, int] = {run: number for number, run in enumerate(known)}
    index = functools.partial(_number, runs)
    sweeps: list[Windows] = []
    self_patch: dict[Direction, int] = {}
    everything: dict[Direction, int] = {}
    pairs = [one for one in product(tuple(modes), tuple(variants)) if _is_swept(*one, windowed)]
    for direction in directions:
        for name, variant in pairs:
            sweeps.append(_sweep(direction, name, variant, centres, width, layers, controls and wrong_prompts, index))
        if controls:
            self_patch[direction], everything[direction] = map(index, _controls(direction, layers))
    return Schedule(layers, tuple(runs), tuple(sweeps), self_patch, everything)


def _number(runs: dict[Run, int], run: Run) -> int:
    """The number of a run, which it gets where it has none."""
    return runs.setdefault(run, len(runs))


def _is_swept(mode: str, variant: str, windowed: Collection[str] | None) -> bool:
    """Whether a mode is put back in a variant, where only some modes' windows are swept, or those of all (None)."""
    return is_planned(mode, variant) and (windowed is None or mode in windowed or without_window(mode, variant))


def _controls(direction: Direction, layers: int) -> tuple[Run, Run]:
    """The host's own states put back into it, and everything that the donor has."""
    pins = Patch("host", "host")
    whole = Patch("donor", "donor", donor_values=True, donor_norms=True)
    last = layers - 1
    return Run(direction, 0, last, pins, pins), Run(direction, 0, last, whole, whole, donor_ends=True)


def _sweep(
    direction: Direction,
    name: str,
    variant_name: str,
    centres: Sequence[int],
    width: int,
    layers: int,
    wrong_prompts: bool,
    index: Callable[[Run], int],
) -> Windows:
    mode, variant = EVERY_MODE[name], VARIANTS[variant_name]
    inside, behind = inside_patch(mode, variant), behind_patch(mode, variant)
    if mode.ancillary:
        run = Run(direction, 0, layers - 1, inside, inside, donor_ends=True)
        return Windows(direction, name, variant_name, (-1,), (index(run),), {})
    windows = {centre: window_of(centre, width, layers) for centre in centres}
    if variant.whole:
        centres, windows = (-1,), {-1: (0, layers - 1)}
    found = tuple(index(Run(direction, *windows[centre], inside, behind)) for centre in centres)
    wrong: dict[int, int] = {}
    if wrong_prompts and mode.states:
        other = wrong_prompt(inside)
        chosen = centres if variant.whole else tiles(centres, width)
        wrong = {centre: index(Run(direction, *windows[centre], other, behind)) for centre in chosen}
    return Windows(direction, name, variant_name, tuple(centres), found, wrong)
