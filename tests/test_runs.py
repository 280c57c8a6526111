"""Modes, variants and windows as runs, written out from design section 3."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from ckdiff.modes import DIRECTIONS, MODES, VARIANTS
from ckdiff.probes.sweep import donor_of, ends_of, host_of
from ckdiff.scoring.runs import Patch, Run, behind_patch, inside_patch, plan_runs, tiles, window_of, wrong_prompt

if TYPE_CHECKING:
    from ckdiff.scoring.runs import Schedule, Source

GATE: tuple[tuple[str, Source], ...] = (("gate", "donor"),)
TABLE = {
    # In the window, in every later layer.
    ("coeff", "open"): (Patch(None, "donor"), Patch()),
    ("coeff", "isolated"): (Patch("host", "donor"), Patch("host", None)),
    ("coeff", "direct"): (Patch("host", "donor"), Patch("host", "host")),
    ("values", "open"): (Patch(donor_values=True), Patch()),
    ("values", "isolated"): (Patch("host", "host", donor_values=True), Patch("host", "host")),
    ("values", "direct"): (Patch("host", "host", donor_values=True), Patch("host", "host")),
    ("attn", "open"): (Patch("donor", None), Patch()),
    ("attn", "isolated"): (Patch("donor", "host"), Patch(None, "host")),
    ("attn", "direct"): (Patch("donor", "host"), Patch("host", "host")),
    ("attn+coeff", "open"): (Patch("donor", "donor"), Patch()),
    ("attn+coeff", "isolated"): (Patch("donor", "donor"), Patch()),
    ("attn+coeff", "direct"): (Patch("donor", "donor"), Patch("host", "host")),
    ("keys", "open"): (Patch(donor_keys=True), Patch()),
    ("keys", "isolated"): (Patch("host", None, donor_keys=True), Patch("host", None)),
    ("keys", "direct"): (Patch("host", None, donor_keys=True), Patch("host", "host")),
    ("mlp", "open"): (Patch(None, "donor", donor_values=True), Patch()),
    ("mlp", "isolated"): (Patch("host", "donor", donor_values=True), Patch("host", None)),
    ("mlp", "direct"): (Patch("host", "donor", donor_values=True), Patch("host", "host")),
    ("gate", "open"): (Patch(key_outputs=GATE), Patch()),
    ("gate", "isolated"): (Patch("host", None, GATE), Patch("host", None)),
    ("gate", "direct"): (Patch("host", None, (*GATE, ("up", "host"))), Patch("host", "host")),
    ("router", "open"): (Patch(routing="donor"), Patch()),
    ("router", "isolated"): (Patch("host", None, routing="donor"), Patch("host", None)),
    ("router", "direct"): (Patch("host", "host", routing="donor"), Patch("host", "host")),
    ("attn-weights", "open"): (Patch(donor_attention=True), Patch()),
    ("attn-weights", "isolated"): (Patch(None, "host", donor_attention=True), Patch(None, "host")),
    ("attn-weights", "direct"): (Patch(None, "host", donor_attention=True), Patch("host", "host")),
}
EVERY_LAYER = {
    # Variant `whole`, every layer but the first, which is as in FIRST.
    "coeff": Patch(None, "donor"),
    "values": Patch(donor_values=True),
    "attn": Patch("donor", None),
    "attn+coeff": Patch("donor", "donor"),
    "keys": Patch(donor_keys=True),
    "mlp": Patch(None, "donor", donor_values=True),
    "gate": Patch(key_outputs=GATE),
    "router": Patch(routing="donor"),
    "attn-weights": Patch(donor_attention=True),
}
WHOLE = {
    "open": Patch(donor_norms=True),
    "whole": Patch(donor_norms=True),
    "isolated": Patch("host", "host", donor_norms=True),
    "direct": Patch("host", "host", donor_norms=True),
}
FIRST = {
    # A run carries the host's own state into its first layer: what follows from that alone is not computed again.
    ("coeff", "open"): Patch("host", "donor"),
    ("values", "open"): Patch("host", "host", donor_values=True),
    ("keys", "open"): Patch("host", None, donor_keys=True),
    ("mlp", "open"): Patch("host", "donor", donor_values=True),
    ("gate", "open"): Patch("host", None, GATE),
    ("router", "open"): Patch("host", "host", routing="donor"),
    ("router", "isolated"): Patch("host", "host", routing="donor"),
}
STATES = ("coeff", "attn", "attn+coeff", "mlp", "gate", "router")
POINTWISE = {
    *(("coeff", name) for name in ("isolated", "direct")),
    *(("values", name) for name in ("isolated", "direct")),
    *(("keys", name) for name in ("isolated", "direct")),
    *(("mlp", name) for name in ("isolated", "direct")),
    *(("gate", name) for name in ("isolated", "direct")),
    *(("router", name) for name in ("isolated", "direct")),
    ("attn", "direct"),
    ("attn+coeff", "direct"),
}


def test_the_table_has_every_mode_and_variant() -> None:
    whole = {("ancillary", variant) for variant in WHOLE} | {(mode, "whole") for mode in EVERY_LAYER}
    assert sorted((TABLE.keys() | whole) ^ set(itertools.product(MODES, VARIANTS))) == []
    assert DIRECTIONS == ("restore", "break")
    assert tuple(name for name, mode in MODES.items() if mode.states) == STATES


@pytest.mark.parametrize(("mode", "variant"), TABLE)
def test_what_is_put_back_and_what_is_pinned(mode: str, variant: str) -> None:
    inside, behind = TABLE[mode, variant]
    assert inside_patch(MODES[mode], VARIANTS[variant]) == inside
    assert behind_patch(MODES[mode], VARIANTS[variant]) == behind
    plan = plan_runs(DIRECTIONS, [mode], [variant], [2], 3, 6, controls=False)
    assert plan.runs == tuple(Run(direction, 1, 3, inside, behind) for direction in DIRECTIONS)
    for run in plan.runs:
        assert [run.patch(layer) for layer in range(2, 6)] == [inside, inside, behind, behind]
        assert run.patch(1) == FIRST.get((mode, variant), inside)
        assert run.pointwise == ((mode, variant) in POINTWISE)


@pytest.mark.parametrize("mode", EVERY_LAYER)
def test_the_whole_model_is_one_window(mode: str) -> None:
    plan = plan_runs(DIRECTIONS, [mode], ["whole"], [2, 4], 3, 6)
    inside = EVERY_LAYER[mode]
    for direction, sweep in zip(DIRECTIONS, plan.sweeps, strict=True):
        assert (sweep.direction, sweep.centres, len(sweep.runs)) == (direction, (-1,), 1)
        run = plan.runs[sweep.runs[0]]
        assert (run.first, run.last, run.donor_ends) == (0, 5, False)
        assert [run.patch(layer) for layer in range(6)] == [FIRST.get((mode, "open"), inside), *[inside] * 5]
        assert run.pointwise == (mode in ("attn", "attn+coeff"))
        assert sweep.wrong.keys() == ({-1} if mode in STATES else set())


@pytest.mark.parametrize("variant", WHOLE)
def test_the_ancillary_parameters_are_those_of_the_whole_model(variant: str) -> None:
    plan = plan_runs(DIRECTIONS, ["ancillary"], [variant], range(6), 3, 6, controls=False)
    assert len(plan.runs) == 2
    for run, direction, sweep in zip(plan.runs, DIRECTIONS, plan.sweeps, strict=True):
        assert (run.direction, run.first, run.last, run.donor_ends) == (direction, 0, 5, True)
        assert [run.patch(layer) for layer in range(6)] == [WHOLE[variant]] * 6
        assert run.pointwise == (variant not in ("open", "whole"))
        assert (sweep.centres, sweep.wrong) == ((-1,), {})


@pytest.mark.parametrize(
    ("patch", "swaps"),
    [
        (Patch(), ()),
        (Patch("donor", "donor"), ()),
        (Patch(donor_values=True), ("value_vectors",)),
        (Patch(donor_keys=True), ("keys",)),
        (Patch(donor_norms=True), ("norms",)),
        (Patch(donor_attention=True), ("attention",)),
        (Patch(None, "host", donor_attention=True), ("attention",)),
        # Where A comes from outside, nothing of attention is computed.
        (Patch("donor", None, donor_attention=True), ()),
        # Where m comes from outside, W_V is in the product already.
        (Patch("host", "host", donor_values=True), ()),
        (Patch(None, "donor", donor_values=True, donor_norms=True), ("norms",)),
    ],
)
def test_which_weights_a_patch_swaps(patch: Patch, swaps: tuple[str, ...]) -> None:
    assert patch.swaps == swaps


@pytest.mark.parametrize(
    ("centre", "width", "layers", "window"),
    [
        (0, 1, 30, (0, 0)),
        (29, 1, 30, (29, 29)),
        (0, 5, 30, (0, 2)),
        (1, 5, 30, (0, 3)),
        (2, 5, 30, (0, 4)),
        (10, 5, 30, (8, 12)),
        (28, 5, 30, (26, 29)),
        (29, 5, 30, (27, 29)),
        (10, 4, 30, (8, 11)),
        (0, 2, 30, (0, 0)),
        (1, 2, 30, (0, 1)),
        (0, 9, 3, (0, 2)),
        (2, 9, 3, (0, 2)),
        (0, 3, 1, (0, 0)),
    ],
)
def test_windows(centre: int, width: int, layers: int, window: tuple[int, int]) -> None:
    assert window_of(centre, width, layers) == window


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 40])
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 6, 12, 30, 32])
def test_tiles_cover_every_layer(layers: int, width: int) -> None:
    centres = range(layers)
    chosen = tiles(centres, width)
    assert set(chosen) <= set(centres)
    windows = [window_of(centre, width, layers) for centre in chosen]
    assert {layer for first, last in windows for layer in range(first, last + 1)} == set(centres)
    # Side by side, but for the last one.
    for (_, last), (first, _) in itertools.pairwise(windows[:-1]):
        assert first == last + 1


def test_tiles_of_some_centres() -> None:
    assert tiles([7], 5) == (7,)
    assert set(tiles([3, 4, 5], 5)) <= {3, 4, 5}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_prompts_are_where_states_are(mode: str, variant: str) -> None:
    plan = plan_runs(DIRECTIONS, [mode], [variant], range(6), 3, 6)
    for sweep in plan.sweeps:
        chosen = {-1} if variant == "whole" else set(tiles(range(6), 3))
        assert sweep.wrong.keys() == (chosen if mode in STATES else set())
        for centre, number in sweep.wrong.items():
            wrong, right = plan.runs[number], plan.runs[sweep.runs[sweep.centres.index(centre)]]
            assert (wrong.direction, wrong.first, wrong.last) == (right.direction, right.first, right.last)
            assert wrong.behind == right.behind or variant == "whole"
            assert wrong.inside == wrong_prompt(right.inside) != right.inside


def test_a_wrong_prompt_changes_the_donors_states_alone() -> None:
    assert wrong_prompt(Patch("donor", "host")) == Patch("wrong", "host")
    assert wrong_prompt(Patch("host", "donor", donor_values=True)) == Patch("host", "wrong", donor_values=True)
    assert wrong_prompt(Patch("donor", "donor")) == Patch("wrong", "wrong")
    assert wrong_prompt(Patch("host", "host", routing="donor")) == Patch("host", "host", routing="wrong")
    assert wrong_prompt(Patch(donor_keys=True)) == Patch(donor_keys=True)


def runs_of(plan: Schedule, mode: str, variant: str, direction: str = "restore") -> tuple[int, ...]:
    (found,) = (
        sweep.runs
        for sweep in plan.sweeps
        if (sweep.direction, sweep.mode, sweep.variant) == (direction, mode, variant)
    )
    return found


def test_what_is_the_same_is_computed_once() -> None:
    plan = plan_runs(DIRECTIONS, MODES, VARIANTS, range(6), 3, 6)
    assert len(set(plan.runs)) == len(plan.runs)
    same = [
        (("attn+coeff", "open"), ("attn+coeff", "isolated")),
        (("values", "isolated"), ("values", "direct")),
        (("ancillary", "isolated"), ("ancillary", "direct")),
        (("ancillary", "open"), ("ancillary", "whole")),
    ]
    for direction in DIRECTIONS:
        for one, other in same:
            assert runs_of(plan, *one, direction) == runs_of(plan, *other, direction)
    used = [number for sweep in plan.sweeps for number in (*sweep.runs, *sweep.wrong.values())]
    controls = [*plan.self_patch.values(), *plan.everything.values()]
    assert set(used) | set(controls) == set(range(len(plan.runs)))
    # Nothing else is shared: the other pairs of a mode and a variant have no run in common.
    kinds = [kind for kind in itertools.product(MODES, VARIANTS) if kind not in [other for _, other in same]]
    for one, other in itertools.combinations(kinds, 2):
        shared = set(runs_of(plan, *one)) & set(runs_of(plan, *other))
        # The last centre's window ends with the model: what is pinned behind it makes no difference there.
        assert not {number for number in shared if plan.runs[number].last < 5}, (one, other)


def test_controls() -> None:
    plan = plan_runs(DIRECTIONS, ["coeff"], ["open"], range(4), 1, 4)
    assert plan.self_patch.keys() == plan.everything.keys() == set(DIRECTIONS)
    for direction in DIRECTIONS:
        own, whole = plan.runs[plan.self_patch[direction]], plan.runs[plan.everything[direction]]
        assert (own.direction, own.first, own.donor_ends) == (direction, 0, False)
        assert [own.patch(layer) for layer in range(4)] == [Patch("host", "host")] * 4
        assert (whole.direction, whole.first, whole.donor_ends) == (direction, 0, True)
        all_of_it = Patch("donor", "donor", donor_values=True, donor_norms=True)
        assert [whole.patch(layer) for layer in range(4)] == [all_of_it] * 4
    bare = plan_runs(DIRECTIONS, ["coeff"], ["open"], range(4), 1, 4, controls=False)
    assert len(bare.runs) == 8
    assert (bare.self_patch, bare.everything) == ({}, {})
    assert not any(sweep.wrong for sweep in bare.sweeps)


def test_who_is_host_and_donor() -> None:
    restore, broken = (Run(direction, 0, 0, Patch()) for direction in DIRECTIONS)
    assert (host_of(restore), donor_of(restore), ends_of(restore)) == ("unlearned", "base", "unlearned")
    assert (host_of(broken), donor_of(broken), ends_of(broken)) == ("base", "unlearned", "base")
    assert ends_of(Run("restore", 0, 0, Patch(), donor_ends=True)) == "base"
    assert ends_of(Run("break", 0, 0, Patch(), donor_ends=True)) == "unlearned"


def test_chosen_centres_alone_are_run() -> None:
    plan = plan_runs(["restore"], ["coeff"], ["open"], [5, 1], 3, 6, controls=False)
    (sweep,) = plan.sweeps
    assert sweep.centres == (5, 1)
    assert [(plan.runs[number].first, plan.runs[number].last) for number in sweep.runs] == [(4, 5), (0, 2)]
