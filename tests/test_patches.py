"""What a patch gives, and that nothing of it is left behind."""

from __future__ import annotations

import itertools
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ckdiff.errors import CheckpointError
from ckdiff.probes.live.patches import ROUTING, Seen, capture, pin, replace_forward, swap
from ckdiff.probes.live.sites import spared_modules
from ckdiff.weights.architectures import ARCHITECTURES
from tests.tiny_families import ALL
from tests.tiny_pairs import Folders, live_pair, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.sweep import Pair

    Pairs = Callable[[str], Folders]

NAMES = ("llama", "gpt2", "bloom", "opt", "gpt_neox", "phi3", "qwen2_moe", "gpt_oss")
GATED = [
    name
    for name, (model_type, _) in ALL.items()
    if {rule.role for rule in ARCHITECTURES[model_type].rules} & {"gate", "gate_up"}
    and not ARCHITECTURES[model_type].sites.experts
]
MIXTURES = [name for name, (model_type, _) in ALL.items() if ARCHITECTURES[model_type].sites.experts]
KINDS = ("value_vectors", "keys", "norms")


@pytest.fixture(params=NAMES)
def pair(pairs: Pairs, request: pytest.FixtureRequest) -> Pair:
    return load(live_pair(pairs(request.param), torch.float32))


def parameters(live: LiveModel) -> dict[str, nn.Parameter]:
    return dict(live.model.named_parameters(remove_duplicate=False))


@contextmanager
def untouched(*models: LiveModel) -> Iterator[None]:
    """Before and behind the block no module has a forward of its own, and every parameter is the same object."""
    before = [parameters(live) for live in models]
    for live in models:
        assert not [name for name, module in live.model.named_modules() if "forward" in vars(module)]
    yield
    for live, kept in zip(models, before, strict=True):
        assert not [name for name, module in live.model.named_modules() if "forward" in vars(module)]
        after = parameters(live)
        assert after.keys() == kept.keys()
        assert all(after[name] is kept[name] for name in kept)


def inputs(live: LiveModel) -> tuple[Tensor, Any]:
    with torch.inference_mode():
        states, calls = live.front(torch.tensor([[5, 17, 3, 60, 22, 9], [1, 8, 30, 71, 12, 6]]))
    return states, calls[1]


def ran(live: LiveModel) -> tuple[Seen, Tensor]:
    states, call = inputs(live)
    with torch.inference_mode(), capture(live.sites[1], 2) as seen:
        result = live.layer(1, states, call)
    return seen, result


class Stop(Exception):  # noqa: N818
    pass


def stop(*done: object) -> None:
    raise Stop


# ------------------------------------------------------------------------------------------------ nothing left behind


def test_replaced_leaves_nothing(pair: Pair) -> None:
    for module in pair.base.model.modules():
        with untouched(pair.base), pytest.raises(Stop), replace_forward(module, lambda *args: None):
            stop(vars(module)["forward"]())


def test_captured_leaves_nothing(pair: Pair) -> None:
    states, call = inputs(pair.base)
    with untouched(pair.base), pytest.raises(Stop), capture(pair.base.sites[1], 2):
        stop(pair.base.layer(1, states, call))
    with untouched(pair.base), pytest.raises(Stop), capture(pair.base.sites[1], 2):
        raise Stop
    # An exception of the layer itself.
    with untouched(pair.base), pytest.raises(RuntimeError), capture(pair.base.sites[1], 2):
        pair.base.layer(1, states[..., :-1], call)


@pytest.mark.parametrize("which", [(True, False), (False, True), (True, True), (False, False)])
def test_pinned_leaves_nothing(pair: Pair, which: tuple[bool, bool]) -> None:
    seen, _ = ran(pair.base)
    attention, mlp = (
        value if wanted else None for value, wanted in zip((seen.attention, seen.mlp), which, strict=True)
    )
    with untouched(pair.base), pytest.raises(Stop), pin(pair.base.sites[1], seen, attention, mlp):
        raise Stop


def test_pinned_key_outputs_leave_nothing(pair: Pair) -> None:
    sites, (states, call) = pair.base.sites[1], inputs(pair.base)
    names = tuple(sites.key_outputs)[:1]
    with untouched(pair.base), pytest.raises(Stop), capture(sites, 2, names) as seen:
        stop(pair.base.layer(1, states, call))
    with untouched(pair.base), pytest.raises(Stop), pin(sites, seen, keys=seen.key_outputs):
        stop(pair.base.layer(1, states, call))


def test_swapped_leaves_nothing(pair: Pair) -> None:
    one, other = pair.base.sites[1], pair.unlearned.sites[1]
    with untouched(pair.base, pair.unlearned), pytest.raises(Stop), swap(one, other, KINDS):
        raise Stop
    # Nested, and both ways at once.
    with (
        untouched(pair.base, pair.unlearned),
        pytest.raises(Stop),
        swap(one, other, KINDS[:2]),
        swap(other, one, KINDS),
    ):
        raise Stop


def test_swapped_leaves_nothing_when_the_donor_lacks_a_part(pairs: Pairs) -> None:
    one = load(live_pair(pairs("llama"), torch.float32)).base
    other = load(live_pair(pairs("phi3"), torch.float32)).base
    with (
        untouched(one, other),
        pytest.raises(AttributeError, match="gate_proj"),
        swap(one.sites[1], other.sites[1], ("norms", "value_vectors", "keys")),
    ):
        raise AssertionError("not reached")


def test_all_of_them_together_leave_nothing(pair: Pair) -> None:
    seen, _ = ran(pair.base)

    def enter(stack: ExitStack) -> None:
        for one, other in zip(pair.base.sites, pair.unlearned.sites, strict=True):
            stack.enter_context(swap(one, other, KINDS))
            stack.enter_context(pin(one, seen, seen.attention, seen.mlp))
            stack.enter_context(capture(other, 2))
        raise Stop

    with untouched(pair.base, pair.unlearned), pytest.raises(Stop), ExitStack() as stack:
        enter(stack)


# ------------------------------------------------------------------------------------------------------- refusals


def test_patching_twice_is_refused(pair: Pair) -> None:
    sites = pair.base.sites[1]
    seen, _ = ran(pair.base)
    module = sites.attention
    with untouched(pair.base), replace_forward(module, lambda: 1):
        with pytest.raises(RuntimeError, match="patched already"), replace_forward(module, lambda: 2):
            raise AssertionError("not reached")
        # The first patch still stands.
        assert vars(module)["forward"]() == 1
    for outer, inner in (
        (capture(sites, 2), capture(sites, 2)),
        (pin(sites, seen, seen.attention, None), capture(sites, 2)),
        (pin(sites, seen, seen.attention, None), pin(sites, seen, seen.attention, seen.mlp)),
        (pin(sites, seen, None, seen.mlp), pin(sites, seen, seen.attention, seen.mlp)),
    ):
        with untouched(pair.base), pytest.raises(RuntimeError, match="patched already"), outer, inner:
            raise AssertionError("not reached")


def test_a_layer_that_never_ran_is_no_capture(pair: Pair) -> None:
    with (
        untouched(pair.base),
        pytest.raises(CheckpointError, match="without its attention"),
        capture(pair.base.sites[1], 2),
    ):
        pass


# ------------------------------------------------------------------------------------------------------ what they give


@pytest.mark.parametrize("name", ALL)
def test_captured_is_what_hooks_see(pairs: Pairs, name: str) -> None:
    live = load(live_pair(pairs(name), torch.float32)).base
    sites, (states, call) = live.sites[1], inputs(live)
    hooked: dict[str, Tensor] = {}

    def noting(module: nn.Module | None, into: str | None, out: str) -> Any:
        def note(module: nn.Module, args: Any, result: Any) -> None:
            # Copies: Falcon's layers add into what their MLP gave them.
            if into is not None:
                hooked[into] = args[0].reshape(2, 6, -1).clone()
            hooked[out] = (result[0] if isinstance(result, tuple) else result).reshape(2, 6, -1).clone()

        assert module is not None
        return module.register_forward_hook(note)

    handles = [noting(sites.attention_output, None, "attention")]
    handles.append(noting(sites.mlp, "mlp_input", "mlp") if sites.values is None else noting(sites.values, "m", "mlp"))
    with torch.inference_mode():
        plain = live.layer(1, states, call).clone()
        expected = dict(hooked)
        with capture(sites, 2) as seen:
            result = live.layer(1, states, call)
    for handle in handles:
        handle.remove()
    assert torch.equal(result, plain)
    found = {"attention": seen.attention, "mlp": seen.mlp, "m": seen.coefficients, "mlp_input": seen.mlp_input}
    assert {key for key, value in found.items() if value is not None} == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "which"),
    [
        *itertools.product(ALL, [(True, False), (False, True)]),
        *((name, (True, True)) for name in NAMES),
    ],
)
def test_a_layer_with_its_own_states_pinned_is_itself(pairs: Pairs, name: str, which: tuple[bool, bool]) -> None:
    """And what is pinned is not computed: its parameters are NaN, and its donor's states are not changed."""
    live = load(live_pair(pairs(name), torch.float32)).base
    seen, expected = ran(live)
    sites, (states, call) = live.sites[1], inputs(live)
    kept = {
        side: value.clone() for side, value in (("attention", seen.attention), ("mlp", seen.mlp)) if value is not None
    }
    spoilt = ["attn", "attn_q", "attn_k", "attn_v", "attn_o"] if which[0] else []
    spoilt += ["keys", "value_vectors", "router"] if which[1] else []
    with torch.inference_mode():
        for component in spoilt:
            for parameter in sites.parameters.get(component, ()):
                sites.layer.get_parameter(parameter).fill_(float("nan"))
        attention = seen.attention if which[0] else None
        mlp = seen.mlp if which[1] else None
        with pin(sites, seen, attention, mlp):
            found = live.layer(1, states, call)
    assert torch.equal(found, expected)
    assert seen.attention is not None
    assert seen.mlp is not None
    assert torch.equal(seen.attention, kept["attention"])
    assert torch.equal(seen.mlp, kept["mlp"])


@pytest.mark.parametrize("names", [("gate",), ("up",), ("up", "gate")])
@pytest.mark.parametrize("name", GATED)
def test_a_layer_with_its_own_key_outputs_is_itself(pairs: Pairs, name: str, names: tuple[str, ...]) -> None:
    """And what need not be computed is not: its parameters are NaN."""
    live = load(live_pair(pairs(name), torch.float32)).base
    sites, (states, call) = live.sites[1], inputs(live)
    with torch.inference_mode():
        with capture(sites, 2, names) as seen:
            expected = live.layer(1, states, call)
        for module in spared_modules(sites, names):
            module.get_parameter("weight").fill_(float("nan"))
        with pin(sites, seen, keys=seen.key_outputs):
            assert torch.equal(live.layer(1, states, call), expected)
        if len(names) == 2:
            modules = dict(live.layers[1].get_submodule(live.row.sites.mlp).named_modules())
            activation = modules.get("act_fn") or modules["activation_fn"]
            made = activation(seen.key_outputs["gate"]) * seen.key_outputs["up"]
            torch.testing.assert_close(made, seen.coefficients, rtol=0, atol=1e-6)
    fused = len(sites.keys) == 1
    assert set(seen.key_outputs) == set(names)
    assert len(spared_modules(sites, names)) == (len(names) // 2 if fused else len(names))


@pytest.mark.parametrize("name", MIXTURES)
def test_a_layer_with_its_own_routing_is_itself(pairs: Pairs, name: str) -> None:
    """And nothing is left of the router's: its parameters are another's."""
    found = load(live_pair(pairs(name), torch.float32))
    live, sites, (states, call) = found.base, found.base.sites[1], inputs(found.base)
    with torch.inference_mode():
        with untouched(live), capture(sites, 2, routing=True) as seen:
            expected = live.layer(1, states, call)
        assert set(seen.routing) == set(ROUTING)
        assert {value.shape[:2] for value in seen.routing.values()} == {(2, 6)}
        assert not seen.routing["experts"].is_floating_point()
        # A shared expert's gate is the block's own, and no part of what a router chooses.
        names = [name for name in sites.parameters["router"] if "shared" not in name]
        for parameter in names:
            sites.layer.get_parameter(parameter).neg_()
        assert not torch.equal(live.layer(1, states, call), expected)
        with untouched(live), pin(sites, seen, routing=seen.routing):
            assert torch.equal(live.layer(1, states, call), expected)


def test_swapped_has_the_donors_values_inside(pair: Pair) -> None:
    one, other = pair.base.sites[1], pair.unlearned.sites[1]
    for kind in KINDS:
        assert one.parameters[kind]
        others = set(dict(one.layer.named_parameters())) - set(one.parameters[kind])
        own = {name: one.layer.get_parameter(name) for name in others}
        with swap(one, other, (kind,)):
            for name in one.parameters[kind]:
                assert one.layer.get_parameter(name) is other.layer.get_parameter(name)
            for name in others:
                assert one.layer.get_parameter(name) is own[name]
        for name in one.parameters[kind]:
            assert not torch.equal(one.layer.get_parameter(name), other.layer.get_parameter(name))


def test_swapped_computes_with_the_donors_values(pair: Pair) -> None:
    """With every parameter the donor's, the layer is the donor's layer."""
    states, call = inputs(pair.base)
    every = tuple(pair.base.sites[1].parameters)
    with torch.inference_mode():
        own, theirs = pair.base.layer(1, states, call), pair.unlearned.layer(1, states, call)
        with swap(pair.base.sites[1], pair.unlearned.sites[1], every):
            found = pair.base.layer(1, states, call)
        assert torch.equal(found, theirs)
        assert torch.equal(pair.base.layer(1, states, call), own)
    assert not torch.equal(own, theirs)
