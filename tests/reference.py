"""Every run of a probe once more, slowly: one plain forward of transformers' own model a question, with plain hooks.

Nothing of ckdiff's probes is used here, only the module paths of `weights.architectures`, which are data. What a mode
puts back and what a variant pins stands in `STATES` as design section 3 says it, one row a pair. States come from full
forwards of both models, a state is put back by a hook on the output of attention's output projection (A) or on the
input of the MLP's (m), weights by copying them in, and the losses are those of the full logits.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.weights.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

SUBSETS = (
    *("values+keys", "values+attn-weights", "values+ancillary", "keys+attn-weights", "keys+ancillary"),
    *("attn-weights+ancillary", "values+keys+attn-weights", "values+keys+ancillary"),
    *("values+attn-weights+ancillary", "keys+attn-weights+ancillary"),
)
"""Several kinds of weights together, in the whole model."""
STATES: dict[tuple[str, str], tuple[str, str]] = {
    # A and m in the window, A and m in every later layer: D the donor's, H the host's own, - recomputed, g recomputed
    # with the donor's gate, G made of the donor's gate and the host's own up; r and R likewise: what the donor's router
    # gives, and the host's experts on what they get now, or on what they got in the host's own run.
    ("coeff", "open"): ("-D", "--"),
    ("coeff", "isolated"): ("HD", "H-"),
    ("coeff", "direct"): ("HD", "HH"),
    ("values", "open"): ("--", "--"),
    ("values", "isolated"): ("HH", "HH"),
    ("values", "direct"): ("HH", "HH"),
    ("attn", "open"): ("D-", "--"),
    ("attn", "isolated"): ("DH", "-H"),
    ("attn", "direct"): ("DH", "HH"),
    ("attn+coeff", "open"): ("DD", "--"),
    ("attn+coeff", "isolated"): ("DD", "--"),
    ("attn+coeff", "direct"): ("DD", "HH"),
    ("keys", "open"): ("--", "--"),
    ("keys", "isolated"): ("H-", "H-"),
    ("keys", "direct"): ("H-", "HH"),
    ("mlp", "open"): ("-D", "--"),
    ("mlp", "isolated"): ("HD", "H-"),
    ("mlp", "direct"): ("HD", "HH"),
    ("gate", "open"): ("-g", "--"),
    ("gate", "isolated"): ("Hg", "H-"),
    ("gate", "direct"): ("HG", "HH"),
    ("router", "open"): ("-r", "--"),
    ("router", "isolated"): ("Hr", "H-"),
    ("router", "direct"): ("HR", "HH"),
    ("attn-weights", "open"): ("--", "--"),
    ("attn-weights", "isolated"): ("-H", "-H"),
    ("attn-weights", "direct"): ("-H", "HH"),
    # The window is the whole model: nothing is behind it.
    ("coeff", "whole"): ("-D", ""),
    ("values", "whole"): ("--", ""),
    ("attn", "whole"): ("D-", ""),
    ("attn+coeff", "whole"): ("DD", ""),
    ("keys", "whole"): ("--", ""),
    ("mlp", "whole"): ("-D", ""),
    ("gate", "whole"): ("-g", ""),
    ("router", "whole"): ("-r", ""),
    ("attn-weights", "whole"): ("--", ""),
    ("ancillary", "whole"): ("--", ""),
    ("ancillary", "open"): ("--", "--"),
    ("ancillary", "isolated"): ("HH", "HH"),
    ("ancillary", "direct"): ("HH", "HH"),
}
STATES |= {(mode, "whole"): ("--", "") for mode in SUBSETS}
GATED = ("gate_proj", "gate_up_proj")
"""An MLP that has one of these is gated: what its activation gets is the gate's output."""
ROUTERS = ("gate", "router")
"""In a mixture's block one of these gives logits, weights and chosen experts."""
EXACT = {"experts_implementation": "eager"}
"""The plain loop over experts: the grouped one has no float64."""
WEIGHTS: dict[str, tuple[str, ...]] = {
    # What the window's layers take from the donor; "ends" are the parameters outside the layers.
    "values": ("value_vectors",),
    "mlp": ("value_vectors",),
    "keys": ("keys",),
    "attn-weights": ("attention",),
    "ancillary": ("norms", "ends"),
}
WEIGHTS |= {mode: tuple(part for kind in mode.split("+") for part in WEIGHTS[kind]) for mode in SUBSETS}


@dataclass(frozen=True, slots=True)
class Ids:
    """One question: the prompt's ids and the answer's."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def inputs(self) -> Tensor:
        return torch.tensor([(self.prompt + self.answer)[:-1]])

    @property
    def scored(self) -> slice:
        return slice(len(self.prompt) - 1, len(self.prompt) + len(self.answer) - 1)


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one run, [question]."""

    mse: Tensor
    mse_centred: Tensor
    kl: Tensor
    top1: Tensor
    js: Tensor


@dataclass(slots=True)
class Recorded:
    """A plain forward of one model on one question: by layer A, m (in a mixture the block's input); the logits.

    Where the MLPs are gated, what they get and what their activations get, too; in a mixture all that its router gives.
    """

    attention: dict[int, Tensor]
    mlp: dict[int, Tensor]
    inputs: dict[int, Tensor]
    gates: dict[int, Tensor]
    routing: dict[int, tuple[Tensor, ...]]
    logits: Tensor


class Reference:
    """A pair and some questions; `run` gives the losses of one run."""

    def __init__(
        self, base: Path, unlearned: Path, questions: Sequence[Ids], dtype: torch.dtype, attention: str | None
    ) -> None:
        from transformers import AutoModelForCausalLM

        self.models = {
            side: AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation=attention, **EXACT).eval()
            for side, path in (("base", base), ("unlearned", unlearned))
        }
        model = self.models["base"]
        self.sites = ARCHITECTURES[model.config.model_type].sites
        self.layers = len(model.get_submodule(self.sites.layers))
        self.questions = list(questions)
        self.own = {
            side: {name: value.detach().clone() for name, value in found.named_parameters()}
            for side, found in self.models.items()
        }
        self.recorded = {side: [self._record(side, ids) for ids in questions] for side in self.models}

    def modes(self) -> tuple[str, ...]:
        """Those that the architecture has."""
        has = {"gate": self._gated, "router": self._mixture}
        lacks = [mode for mode, there in has.items() if not all(there(number) for number in range(self.layers))]
        return tuple(dict.fromkeys(mode for mode, _ in STATES if mode not in lacks))

    def unlearned(self) -> Losses:
        """Losses of the unlearned model itself."""
        return self._losses([one.logits for one in self.recorded["unlearned"]])

    def run(self, direction: str, mode: str, variant: str, window: tuple[int, int], wrong: bool = False) -> Losses:
        """Losses of one run; `wrong` takes the donor's states from the next question."""
        host, donor = ("unlearned", "base") if direction == "restore" else ("base", "unlearned")
        inside, behind = STATES[mode, variant]
        first, last = (0, self.layers - 1) if mode == "ancillary" or variant == "whole" else window
        takes = WEIGHTS.get(mode, ())
        with torch.no_grad(), self._weights_of(donor, host, takes, range(first, last + 1)):
            logits = []
            for number in range(len(self.questions)):
                with ExitStack() as stack:
                    for layer in range(first, self.layers):
                        attention, mlp = tuple(inside if layer <= last else behind)
                        values = donor if "value_vectors" in takes and layer <= last else host
                        if attention != "-":
                            state = self._attention(host, donor, attention, layer, number, wrong)
                            stack.enter_context(self._giving_attention(host, layer, state))
                        if mlp == "g":
                            state = self._gate(host, donor, layer, number, wrong)
                            stack.enter_context(self._giving_gate(host, layer, state))
                        elif mlp == "r":
                            given = self._routing(host, donor, layer, number, wrong)
                            stack.enter_context(self._giving_routing(host, layer, given))
                        elif mlp != "-":
                            state = self._mlp(host, donor, mlp, layer, number, wrong, values)
                            stack.enter_context(self._giving_mlp(host, layer, state))
                    ids = self.questions[number]
                    logits.append(self.models[host](input_ids=ids.inputs, use_cache=False).logits[0, ids.scored])
        return self._losses(logits)

    def neurons(self, direction: str, window: tuple[int, int], chosen: Collection[tuple[int, int]]) -> Losses:
        """Losses where single neurons' coefficients, (layer, neuron), are the donor's in dense layers of a window."""
        host, donor = ("unlearned", "base") if direction == "restore" else ("base", "unlearned")
        logits = []
        with torch.no_grad():
            for number, ids in enumerate(self.questions):
                with ExitStack() as stack:
                    for layer in range(window[0], window[1] + 1):
                        columns = [neuron for place, neuron in chosen if place == layer]
                        state = self.recorded[donor][number].mlp[layer]
                        stack.enter_context(self._giving_columns(host, layer, state, columns))
                    logits.append(self.models[host](input_ids=ids.inputs, use_cache=False).logits[0, ids.scored])
        return self._losses(logits)

    # ----------------------------------------------------------------------------------------------------- modules

    def _layer(self, side: str, number: int) -> nn.Module:
        found: nn.Module = self.models[side].get_submodule(f"{self.sites.layers}.{number}")
        return found

    def _mixture(self, number: int) -> bool:
        names = dict(self._layer("base", number).named_modules())
        return bool(self.sites.experts) and self.sites.experts in names

    def _gated(self, number: int) -> bool:
        names = dict(self._layer("base", number).named_modules())
        return not self._mixture(number) and any(f"{self.sites.mlp}.{name}" in names for name in GATED)

    def _activation(self, side: str, number: int) -> nn.Module:
        modules = dict(self._layer(side, number).get_submodule(self.sites.mlp).named_modules())
        found: nn.Module = modules["act_fn"] if "act_fn" in modules else modules["activation_fn"]
        return found

    def _router(self, side: str, number: int) -> nn.Module:
        block = self._layer(side, number).get_submodule(self.sites.mlp)
        (found,) = (module for name, module in block.named_children() if name in ROUTERS)
        return found

    def _value_path(self) -> str:
        return self.sites.value_vectors or f"{self.sites.mlp}.down_proj"

    def _value_names(self, number: int) -> list[str]:
        """Names of W_V's parameters in a layer."""
        if self._mixture(number):
            return self._named(number, lambda name: "down_proj" in name)
        return self._named(number, lambda name: name.startswith(f"{self._value_path()}."))

    def _key_names(self, number: int) -> list[str]:
        """Names of W_K's parameters in a layer: gate and up, not the router."""
        if self._mixture(number):
            known = ("gate_up_proj", "gate_proj", "up_proj")
            return self._named(number, lambda name: any(part in name.replace("_bias", "") for part in known))
        paths = self.sites.keys or (f"{self.sites.mlp}.gate_proj", f"{self.sites.mlp}.up_proj")
        return self._named(number, lambda name: name.startswith(tuple(f"{path}." for path in paths)))

    def _norm_names(self, number: int) -> list[str]:
        """Names of parameters whose module is a norm by its class."""
        layer = self._layer("base", number)
        return self._named(
            number, lambda name: "norm" in type(layer.get_submodule(name.rpartition(".")[0])).__name__.lower()
        )

    def _attention_names(self, number: int) -> list[str]:
        """Names of every parameter inside the attention module but those of norms."""
        prefix, norms = f"{self.sites.attention}.", self._norm_names(number)
        return self._named(number, lambda name: name.startswith(prefix) and name not in norms)

    def _named(self, number: int, wanted: Callable[[str], bool]) -> list[str]:
        return [name for name, _ in self._layer("base", number).named_parameters() if wanted(name)]

    # ----------------------------------------------------------------------------------------------------- weights

    @contextmanager
    def _weights_of(self, donor: str, host: str, takes: Sequence[str], layers: range) -> Iterator[None]:
        names: list[str] = []
        for number in layers:
            for kind, found in (
                ("value_vectors", self._value_names),
                ("keys", self._key_names),
                ("norms", self._norm_names),
                ("attention", self._attention_names),
            ):
                if kind in takes:
                    names += [f"{self.sites.layers}.{number}.{name}" for name in found(number)]
        if "ends" in takes:
            inside = f"{self.sites.layers}."
            names += [name for name, _ in self.models[host].named_parameters() if not name.startswith(inside)]
        with self._copied(donor, host, names):
            yield

    @contextmanager
    def _copied(self, donor: str, host: str, names: Sequence[str]) -> Iterator[None]:
        """The host's parameters hold the donor's numbers while the block runs."""
        with torch.no_grad():
            own = {name: self.models[host].get_parameter(name).clone() for name in names}
            for name in names:
                self.models[host].get_parameter(name).copy_(self.models[donor].get_parameter(name))
            yield
            for name, value in own.items():
                self.models[host].get_parameter(name).copy_(value)

    # ------------------------------------------------------------------------------------------------------ states

    def _record(self, side: str, ids: Ids) -> Recorded:
        found = Recorded({}, {}, {}, {}, {}, torch.empty(0))
        with ExitStack() as stack, torch.no_grad():
            for number in range(self.layers):
                layer = self._layer(side, number)

                def note_attention(module: nn.Module, args: Any, result: Tensor, number: int = number) -> None:
                    found.attention[number] = result.reshape(-1, result.shape[-1]).clone()

                def note_mlp(module: nn.Module, args: Any, number: int = number) -> None:
                    found.mlp[number] = args[0].reshape(-1, args[0].shape[-1]).clone()

                def note_input(module: nn.Module, args: Any, number: int = number) -> None:
                    found.inputs[number] = args[0].clone()

                def note_gate(module: nn.Module, args: Any, number: int = number) -> None:
                    found.gates[number] = args[0].reshape(-1, args[0].shape[-1]).clone()

                def note_routing(module: nn.Module, args: Any, result: Any, number: int = number) -> None:
                    found.routing[number] = tuple(part.clone() for part in result)

                if self._mixture(number):
                    stack.enter_context(_hook(self._router(side, number).register_forward_hook(note_routing)))
                if self._gated(number):
                    mlp, activation = layer.get_submodule(self.sites.mlp), self._activation(side, number)
                    stack.enter_context(_hook(mlp.register_forward_pre_hook(note_input)))
                    stack.enter_context(_hook(activation.register_forward_pre_hook(note_gate)))
                output = layer.get_submodule(self.sites.attention_output)
                stack.enter_context(_hook(output.register_forward_hook(note_attention)))
                place = self.sites.mlp if self._mixture(number) else self._value_path()
                stack.enter_context(_hook(layer.get_submodule(place).register_forward_pre_hook(note_mlp)))
            found.logits = self.models[side](input_ids=ids.inputs, use_cache=False).logits[0, ids.scored]
        return found

    def _attention(self, host: str, donor: str, source: str, layer: int, number: int, wrong: bool) -> Tensor:
        own = self.recorded[host][number].attention[layer]
        if source == "H":
            return own
        if not wrong:
            return self.recorded[donor][number].attention[layer]
        return self._mixed(number, own, self.recorded[donor][self._next(number)].attention[layer])

    def _mlp(self, host: str, donor: str, source: str, layer: int, number: int, wrong: bool, values: str) -> Tensor:
        """m of a dense layer; of a mixture the block's output, made of that m and the W_V of `values`."""

        def state(side: str, question: int) -> Tensor:
            found = self.recorded[side][question].mlp[layer]
            return self._block(side, values, layer, found) if self._mixture(layer) else found

        if source == "G":
            return self._made(host, layer, number, self._gate(host, donor, layer, number, wrong))
        if source == "R":
            with self._giving_routing(host, layer, self._routing(host, donor, layer, number, wrong)):
                return self._block(host, host, layer, self.recorded[host][number].mlp[layer])
        if source == "H":
            return state(host, number)
        if not wrong:
            return state(donor, number)
        return self._mixed(number, state(host, number), state(donor, self._next(number)))

    def _gate(self, host: str, donor: str, layer: int, number: int, wrong: bool) -> Tensor:
        """What the donor's activation gets."""
        if not wrong:
            return self.recorded[donor][number].gates[layer]
        own, other = self.recorded[host][number], self.recorded[donor][self._next(number)]
        return self._mixed(number, own.gates[layer], other.gates[layer])

    def _routing(self, host: str, donor: str, layer: int, number: int, wrong: bool) -> tuple[Tensor, ...]:
        """What the donor's router gives."""
        if not wrong:
            return self.recorded[donor][number].routing[layer]
        own, other = self.recorded[host][number].routing[layer], self.recorded[donor][self._next(number)].routing[layer]
        return tuple(self._mixed(number, *parts) for parts in zip(own, other, strict=True))

    def _made(self, host: str, layer: int, number: int, gate: Tensor) -> Tensor:
        """m of the host's own MLP on the host's own input, but for the gate."""
        found: list[Tensor] = []
        block = self._layer(host, layer)
        values = block.get_submodule(self._value_path())
        with (
            self._giving_gate(host, layer, gate),
            _hook(values.register_forward_pre_hook(lambda module, args: found.append(args[0].clone()))),
        ):
            block.get_submodule(self.sites.mlp)(self.recorded[host][number].inputs[layer])
        return found[0].reshape(-1, found[0].shape[-1])

    def _block(self, coefficients: str, values: str, layer: int, inputs: Tensor) -> Tensor:
        """A mixture's block as `coefficients` computes it on its own input, with the W_V of `values`."""
        # The host's parameters may hold the donor's numbers just now: of W_V the right ones are put in anyway.
        model, names = self.models[coefficients], self._value_names(layer)
        block = self._layer(coefficients, layer).get_submodule(self.sites.mlp)
        prefix = f"{self.sites.layers}.{layer}."
        kept = {name: model.get_parameter(prefix + name).clone() for name in names}
        for name in names:
            model.get_parameter(prefix + name).copy_(self.own[values][prefix + name])
        result = block(inputs[None])
        for name, value in kept.items():
            model.get_parameter(prefix + name).copy_(value)
        found: Tensor = result[0] if isinstance(result, tuple) else result
        return found.reshape(inputs.shape)

    def _next(self, number: int) -> int:
        return (number + 1) % len(self.questions)

    def _mixed(self, number: int, own: Tensor, other: Tensor) -> Tensor:
        """Counted from where the answers begin: the next question's where it has the position, else the host's own."""
        ours, theirs = (len(self.questions[one].prompt) for one in (number, self._next(number)))
        rows = [position - ours + theirs for position in range(len(own))]
        found = [other[row] if 0 <= row < len(other) else own[place] for place, row in enumerate(rows)]
        return torch.stack(found)

    @contextmanager
    def _giving_attention(self, host: str, layer: int, state: Tensor) -> Iterator[None]:
        module = self._layer(host, layer).get_submodule(self.sites.attention_output)
        with _hook(module.register_forward_hook(lambda module, args, result: state.reshape(result.shape).clone())):
            yield

    @contextmanager
    def _giving_mlp(self, host: str, layer: int, state: Tensor) -> Iterator[None]:
        if self._mixture(layer):

            def give(module: nn.Module, args: Any, result: Any) -> Any:
                if isinstance(result, tuple):
                    return (state.reshape(result[0].shape).clone(), *result[1:])
                return state.reshape(result.shape).clone()

            handle = self._layer(host, layer).get_submodule(self.sites.mlp).register_forward_hook(give)
        else:
            module = self._layer(host, layer).get_submodule(self._value_path())
            handle = module.register_forward_pre_hook(lambda module, args: (state.reshape(args[0].shape).clone(),))
        with _hook(handle):
            yield

    @contextmanager
    def _giving_gate(self, host: str, layer: int, state: Tensor) -> Iterator[None]:
        module = self._activation(host, layer)
        handle = module.register_forward_pre_hook(lambda module, args: (state.reshape(args[0].shape).clone(),))
        with _hook(handle):
            yield

    @contextmanager
    def _giving_routing(self, host: str, layer: int, given: tuple[Tensor, ...]) -> Iterator[None]:
        router = self._router(host, layer)
        with _hook(router.register_forward_hook(lambda module, args, result: tuple(part.clone() for part in given))):
            yield

    @contextmanager
    def _giving_columns(self, host: str, layer: int, state: Tensor, columns: Sequence[int]) -> Iterator[None]:
        def give(module: nn.Module, args: Any) -> tuple[Tensor]:
            found = args[0].clone()
            found[..., columns] = state.reshape(found.shape)[..., columns]
            return (found,)

        with _hook(self._layer(host, layer).get_submodule(self._value_path()).register_forward_pre_hook(give)):
            yield

    # ------------------------------------------------------------------------------------------------------ losses

    def _losses(self, logits: Sequence[Tensor]) -> Losses:
        rows = [plain_losses(run, base.logits) for run, base in zip(logits, self.recorded["base"], strict=True)]
        return Losses(*(torch.stack([values.mean() for values in column]) for column in zip(*rows, strict=True)))


def plain_losses(run: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """mse, centred mse, KL(base || run), top1 and Jensen-Shannon of logits [position, token], float64 [position]."""
    run, base = run.double(), base.double()
    change = run - base
    centred = change - change.mean(-1, keepdim=True)
    p, q = torch.softmax(base, -1), torch.softmax(run, -1)
    expected, own = torch.log_softmax(base, -1), torch.log_softmax(run, -1)
    kl = (p * (expected - own)).sum(-1)
    middle = torch.log((p + q) / 2)
    js = (torch.where(p > 0, p * (expected - middle), 0) + torch.where(q > 0, q * (own - middle), 0)).sum(-1) / 2
    top1 = (run.argmax(-1) == base.argmax(-1)).double()
    return change.square().mean(-1), centred.square().mean(-1), kl, top1, js


@contextmanager
def _hook(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
