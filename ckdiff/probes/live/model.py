"""A checkpoint becomes a live model.

    live = LiveModel(open_checkpoint("base"), dtype, device)
    live.load_ends()                 # everything outside the decoder layers
    live.load_layer(3)               # the parameters of one layer; live.unload_layer(3) gives their memory back
    states, calls = live.front(ids)  # what goes into the first layer, and every layer's other arguments
    hidden = live.tail(states)       # what goes into the unembedding

The model is built from its config alone, with parameters that have no memory (torch's meta device); values come from
the safetensors files through `weights.reader`, so that adapters, single files and scaled FP8 work here as they do
in `compare`, nothing is unpickled and no code of the checkpoint runs. Each stored tensor must fill its part of a
parameter, each parameter must be filled, and a value that is not finite is refused.
"""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckdiff.errors import CheckpointError
from ckdiff.probes.live.calls import Call, call_of
from ckdiff.probes.live.filling import Part, check_layer_count, components, inside, place, shared_names, sources, twins
from ckdiff.probes.live.patches import replace_forward
from ckdiff.probes.live.pretrained import config_of, row_of, skeleton
from ckdiff.probes.live.regimes import Regimes
from ckdiff.probes.live.sites import LayerSites, layer_sites
from ckdiff.probes.live.unembedding import Unembedding, scale_of
from ckdiff.untrusted import quoted
from ckdiff.weights.storage import Mapped, decode32

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from ckdiff.weights.checkpoint import Checkpoint


class LiveModel:
    """One checkpoint as a model whose layers can be loaded and unloaded.

    Attributes:
        bytes_read: stored bytes that have been turned into parameters so far.
        alter: what makes another parameter of one that has just been read, by its name; None: nothing does.
        values: parameters by name that take the place of stored ones; empty: what the checkpoint holds.
        branches: length of the longest text of which no branch was seen to see another; None: they do. See `behind`.
    """

    def __init__(
        self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, attention: str | None = None
    ) -> None:
        """Build it without memory, and check that the checkpoint fills it.

        Args:
            checkpoint: as `weights.opening` gave it.
            dtype: of parameters and of arithmetic.
            device: where parameters go.
            attention: transformers' attention implementation, or None for its own choice.

        Raises:
            CheckpointError: unknown architecture, or tensors that do not fit it.
        """
        self.checkpoint, self.dtype, self.device = checkpoint, dtype, device
        self.bytes_read = 0
        self.alter: Callable[[str, Tensor], Tensor] | None = None
        self.values: Mapping[str, Tensor] = {}
        self.branches: int | None = 0
        self.config = config_of(checkpoint)
        self.row = row_of(checkpoint, self.config)
        check_layer_count(checkpoint, self.row, self.config)
        self.model = skeleton(checkpoint, self.config, attention, dtype, device)
        self._regimes = Regimes(self.model)
        self._names = shared_names(self.model)
        self._sources, self.notes = sources(checkpoint, self.row, self.model, self._names)
        self._files = Mapped(checkpoint)
        self.layers: list[nn.Module] = list(self._module(self.row.sites.layers))
        if not self.layers:
            raise CheckpointError(f"{checkpoint.location}: a model without decoder layers cannot be probed")
        kinds = components(self.row, self._names.values())
        self.sites: list[LayerSites] = []
        for number, layer in enumerate(self.layers):
            found = inside(kinds, f"{self.row.sites.layers}.{number}.")
            self.sites.append(layer_sites(layer, self.row, found))

    # ------------------------------------------------------------------------------------------------- parameters

    @property
    def location(self) -> str:
        """The checkpoint as the user named it."""
        return self.checkpoint.location

    @property
    def tied(self) -> bool:
        """Embedding and unembedding are one matrix."""
        return f"{self.row.sites.embed}.weight" in self._names.get(f"{self.row.sites.unembed}.weight", ())

    def load_ends(self, embedding: bool = True, unembedding: bool = True) -> None:
        """Load what lies outside the layers; the two large matrices only where asked for."""
        large = {f"{self.row.sites.embed}.weight": embedding, f"{self.row.sites.unembed}.weight": unembedding}
        inside = f"{self.row.sites.layers}."
        for key, names in self._groups():
            wanted = [large[name] for name in names if name in large]
            if not key.startswith(inside) and (not wanted or any(wanted)):
                self._load(key)
        self._files.forget()

    def unload_embedding(self) -> None:
        """Give the embedding's memory back, unless it is the unembedding too."""
        if not self.tied:
            self._unload(f"{self.row.sites.embed}.weight")

    def unload_unembedding(self) -> None:
        """Give the unembedding's memory back, unless it is the embedding too."""
        if not self.tied:
            self._unload(f"{self.row.sites.unembed}.weight")

    def load_layer(self, number: int) -> None:
        """Load the parameters of one layer, where they are not there yet."""
        for key, _ in self._groups():
            if key.startswith(f"{self.row.sites.layers}.{number}."):
                self._load(key)
                # Pages of what has been decoded would count as memory in use until the layer is there.
                self._files.forget()

    def unload_layer(self, number: int) -> None:
        """Give the memory of one layer back."""
        for key, _ in self._groups():
            if key.startswith(f"{self.row.sites.layers}.{number}."):
                self._unload(key)

    def layer_bytes(self, number: int, itemsize: int) -> int:
        """Memory of one layer's parameters in a dtype of so many bytes."""
        inside = f"{self.row.sites.layers}.{number}."
        return sum(self._parameter(key).numel() for key, _ in self._groups() if key.startswith(inside)) * itemsize

    def parameter_bytes(self, itemsize: int) -> int:
        """Memory of all parameters in a dtype of so many bytes, tied ones once."""
        return sum(self._parameter(key).numel() for key, _ in self._groups()) * itemsize

    def stored_bytes(self) -> int:
        """Bytes of the stored tensors that the model needs."""
        return sum(self._stored_size(part.stored) for parts in self._sources.values() for part in parts)

    def read_from(self, checkpoint: Checkpoint) -> None:
        """Take parameters from another form of the same checkpoint from now on; what is loaded is forgotten."""
        self.unload()
        self.checkpoint, self._files = checkpoint, Mapped(checkpoint)

    def load(self, pause: Callable[[], None] = lambda: None) -> None:
        """Load every parameter; `pause` is called before each layer, and may raise."""
        self.load_ends()
        for number in range(len(self.layers)):
            pause()
            self.load_layer(number)

    def unload(self) -> None:
        """Give the memory of every parameter back."""
        for key, _ in self._groups():
            self._unload(key)

    def read(self, key: str) -> Tensor:
        """A parameter as it is stored, by its name in memory, whether it is loaded or not."""
        return self._read(key, tuple(self._parameter(key).shape))

    def dimensions(self, key: str) -> int:
        """How many axes a parameter has."""
        return int(self._parameter(key).dim())

    def components(self) -> dict[str, str]:
        """The component of each parameter, tied ones once."""
        found = components(self.row, self._names.values())
        return {key: found[key] for key, _ in self._groups()}

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter by its name in memory, tied ones once, as it is now."""
        for key, _ in self._groups():
            yield key, self._parameter(key)

    def stored_values(self) -> Iterator[tuple[str, Tensor]]:
        """Every stored tensor that the model has taken over, by name, as a view of what its parameter holds now."""
        again = twins(self.checkpoint, self.row, self._names, self._sources)
        for key, parts in self._sources.items():
            value = self._parameter(key).detach()
            for part in (*parts, *again.get(key, ())):
                yield part.stored, place(value, part)

    def _groups(self) -> list[tuple[str, tuple[str, ...]]]:
        seen: dict[str, tuple[str, ...]] = {}
        for names in self._names.values():
            seen[names[0]] = names
        return list(seen.items())

    def _parameter(self, name: str) -> Tensor:
        parent, _, leaf = name.rpartition(".")
        found: Tensor = getattr(self._module(parent), leaf)
        return found

    def _module(self, path: str) -> Any:
        return self.model.get_submodule(path)

    def _load(self, key: str) -> None:
        if self._parameter(key).device.type != "meta":
            return
        shape = tuple(self._parameter(key).shape)
        value = self._read(key, shape)
        if self.alter is not None:
            value = self.alter(key, value)
        self._assign(key, torch.nn.Parameter(value, requires_grad=False))

    def _unload(self, key: str) -> None:
        value = self._parameter(key)
        self._assign(key, torch.nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=False))

    def _assign(self, key: str, value: Tensor) -> None:
        for name in self._names[key]:
            parent, _, leaf = name.rpartition(".")
            module = self._module(parent)
            places = module._parameters if leaf in module._parameters else module._buffers
            places[leaf] = value if places is module._parameters else value.data

    def _read(self, key: str, shape: tuple[int, ...]) -> Tensor:
        if key in self.values:
            return self.values[key].to(self.device, self.dtype, copy=True)
        parts = self._sources[key]
        if len(parts) == 1 and parts[0] == Part(parts[0].stored):
            value = self._tensor(parts[0].stored)
            if tuple(value.shape) != shape:
                raise self._misfit(parts[0].stored, tuple(value.shape), shape)
            return value.to(self.device, self.dtype)
        whole = torch.empty(shape, dtype=self.dtype, device=self.device)
        for part in parts:
            value = self._tensor(part.stored)
            view = place(whole, part)
            if value.shape != view.shape:
                raise self._misfit(part.stored, tuple(value.shape), tuple(view.shape))
            view.copy_(value)
        return whole

    def _tensor(self, stored: str) -> Tensor:
        """A stored tensor, exactly, as float32 (or float64), checked to be finite."""
        dtype = self.checkpoint.dtype(stored)
        raw = self._files.raw(stored)
        self.bytes_read += self._stored_size(stored)
        array = np.array(raw) if dtype in ("F32", "F64") else decode32(raw, dtype)
        value = torch.from_numpy(np.ascontiguousarray(array))
        # A sum is quick and is finite unless something in it is not, or it overflows: then look closely.
        if not torch.isfinite(value.sum()) and not torch.isfinite(value).all():
            raise CheckpointError(
                f"{self.location}: tensor {quoted(stored)} holds NaN or infinity; this model cannot be probed"
            )
        return value

    def _stored_size(self, stored: str) -> int:
        if stored in self.checkpoint.derived:
            sources = self.checkpoint.derived[stored].sources
            return sum(self._stored_size(name) for name in sources if name in self.checkpoint.stored and name != stored)
        _, entry = self.checkpoint.stored[stored]
        return int(entry.end - entry.begin)

    def _misfit(self, stored: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> CheckpointError:
        return CheckpointError(
            f"{self.location}: tensor {quoted(stored)} has shape {list(found)}, its config wants {list(wanted)};"
            " config.json and weights do not belong together"
        )

    # --------------------------------------------------------------------------------------------------- forward

    @property
    def numbered(self) -> bool:
        """It can be told where each token stands; else gaps before texts would move them."""
        return "position_ids" in inspect.signature(self.model.forward).parameters

    def regime(self, length: int) -> Hashable:
        """Equal for two lengths whose texts may share a forward: see `regimes`."""
        return self._regimes.of(length)

    def front(self, ids: Tensor) -> tuple[Tensor, list[Call]]:
        """Input of the first layer [batch, position, d_model], and the other arguments of every layer.

        They come from the model's own forward, with its layers and its head replaced by stubs. Ids are padded on the
        right and no mask is given, which is exact for causal models.
        """
        states, _ = self._run_stubs(ids)
        _, one = self._run_stubs(ids[:1])
        _, two = self._run_stubs(ids[:1].expand(2, -1))
        return states, [call_of(a, b) for a, b in zip(one, two, strict=True)]

    def layer(self, number: int, states: Tensor, call: Call) -> Tensor:
        """One decoder layer, as it stands [batch, position, d_model]."""
        args, kwargs = call.of(states.shape[0])
        result = self.layers[number](states, *args, **kwargs)
        found: Tensor = result[0] if isinstance(result, tuple) else result
        return found

    def tail(self, states: Tensor) -> Tensor:
        """Input of the unembedding, from outputs of the last layer; both [position, d_model]."""
        return self._tail(states)[0]

    def unembedding(self, sample: Tensor) -> Unembedding:
        """How logits are made, checked against the model's own on a few states.

        Args:
            sample: outputs of the last layer [position, d_model].

        Raises:
            CheckpointError: this model makes its logits in a way that is not known here.
        """
        module = self._module(self.row.sites.unembed)
        weight, bias = module.weight.detach(), module.bias
        hidden = self.tail(sample[:4])
        for cap in dict.fromkeys((getattr(self.config, "final_logit_softcapping", None), None)):
            # A cap that is reached says nothing about what it caps: look where it has just begun.
            largest = float(torch.nn.functional.linear(hidden, weight, bias).double().abs().max())
            size = min(1.0, cap / largest) if cap is not None and largest else 1.0
            plain = torch.nn.functional.linear(hidden * size, weight, bias).double()
            scale = scale_of(plain, self._tail(sample[:4], size)[1].double(), cap, self.dtype)
            if scale is not None:
                return Unembedding(weight, None if bias is None else bias.detach(), scale, cap)
        raise CheckpointError(
            f"model_type {self.row.model_type!r}: its logits are not its unembedding's output, scaled and capped;"
            " this kind of model cannot be probed"
        )

    def forward(self, ends: Tensor | None = None, **inputs: Any) -> Any:
        """The model's own forward, whatever lengths it has seen before.

        Args:
            ends: a position of each text [text], of which alone logits are made; None: of all of them.
            inputs: of the model.
        """
        self._regimes.reset()
        if ends is None:
            return self.model(**inputs)
        head = self._module(self.row.sites.unembed)
        original, texts = head.forward, torch.arange(len(ends), device=ends.device)
        with replace_forward(head, lambda hidden: original(hidden[texts, ends][:, None])):
            return self.model(**inputs)

    def _run_stubs(self, ids: Tensor) -> tuple[Tensor, list[tuple[tuple[Any, ...], dict[str, Any]]]]:
        first: list[Tensor] = []
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def note(*args: Any, **kwargs: Any) -> Any:
            rest = dict(kwargs)
            states = args[0] if args else rest.pop("hidden_states")
            if not first:
                first.append(states)
            calls.append((args[1:], rest))
            return self._as_layer(states)

        with self._stubs([note] * len(self.layers), _same, _same):
            self.forward(input_ids=ids, use_cache=False)
        return first[0], calls

    def _tail(self, states: Tensor, size: float | None = None) -> tuple[Tensor, Tensor]:
        """Input of the unembedding, and the logits of so many times that input; without a size that input again."""
        seen: list[Tensor] = []
        head = self._module(self.row.sites.unembed)
        original = head.forward

        def note(hidden: Tensor) -> Tensor:
            seen.append(hidden)
            result: Tensor = hidden if size is None else original(hidden * size)
            return result

        def give(*args: Any, **kwargs: Any) -> Any:
            return self._as_layer(states[:, None])

        # One position a row, so that no table of positions can be too short.
        embedding = self.model.get_input_embeddings()
        empty = torch.zeros(len(states), 1, embedding.embedding_dim, dtype=self.dtype, device=self.device)
        with self._stubs([give] * len(self.layers), None, note):
            logits = self.forward(inputs_embeds=empty, use_cache=False).logits
        return seen[0][:, 0], logits[:, 0]

    def _stubs(self, layers: Sequence[Any], norm: Any, head: Any) -> ExitStack:
        with ExitStack() as stack:
            for module, forward in zip(self.layers, layers, strict=True):
                stack.enter_context(replace_forward(module, forward))
            final = self._final_norm()
            if norm is not None and final is not None:
                stack.enter_context(replace_forward(final, norm))
            stack.enter_context(replace_forward(self._module(self.row.sites.unembed), head))
            return stack.pop_all()

    def _final_norm(self) -> nn.Module | None:
        parent, _, leaf = self.row.sites.final_norm.rpartition(".")
        found: nn.Module | None = getattr(self._module(parent), leaf, None)
        return found

    def _as_layer(self, states: Tensor) -> Any:
        return (states, None) if self.row.sites.layer_returns_tuple else states


def _same(states: Tensor) -> Tensor:
    return states
