"""PEFT LoRA adapters: a directory of small matrices becomes its base with every adapted weight merged.

merged = W + scale * B A, scale = alpha / r, or alpha / sqrt(r) for rsLoRA. What is not known to merge exactly as PEFT
does is refused by name: a number about a wrongly merged model is worse than none.
Only the standard library is imported at the top, so that `open_checkpoint` is quick.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import quoted
from ckdiff.weights.checkpoint import Checkpoint
from ckdiff.weights.headers import Shard, read_shard
from ckdiff.weights.lora import EMBEDDING_NAMES, HEAD, MERGE, Factors, alone, derive, pattern_value, untie
from ckdiff.weights.reader import ADAPTER_CONFIG, inside, read_json
from ckdiff.weights.rules import CONV1D_MODELS, CONV1D_NAMES
from ckdiff.weights.wrappers import without_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ckdiff.shapes import AnyArray

ADAPTER_WEIGHTS = "adapter_model.safetensors"

USED_KEYS = frozenset(
    {
        "alpha_pattern",
        "base_model_name_or_path",
        "bias",
        "fan_in_fan_out",
        "init_lora_weights",
        "lora_alpha",
        "lora_bias",
        "modules_to_save",
        "peft_type",
        "r",
        "rank_pattern",
        "revision",
        "use_rslora",
    }
)
"""Keys of adapter_config.json that decide what is merged."""

HARMLESS_KEYS = frozenset(
    {
        "auto_mapping",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "target_modules",
        "task_type",
    }
)
"""Keys that say how the adapter was trained or which modules it chose, which its tensor names say again.

`megatron_core` and `qalora_group_size` mean nothing without `megatron_config` and `use_qalora`, which are refused.
"""

PLAIN_INITS = (None, True, False, "gaussian", "orthogonal")
"""Values of init_lora_weights that leave the base's weights alone; PEFT writes True when it converts another one."""

PREFIXES = ("transformer.", "model.", "gpt_neox.", "model.decoder.", "decoder.", "language_model.")
"""What a base's file may lack, or have in addition, before a live model's module name."""

_LORA = re.compile(r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_[AB])")


def open_adapter(directory: Path, open_base: Callable[[str], Checkpoint], base: str | None = None) -> Checkpoint:
    """Open a PEFT LoRA adapter directory, merged with its base.

    Adapted weights are computed when they are read: in float64, in blocks of rows, from the stored W, A and B, and
    rounded once, to float32. Tensors that the adapter stores whole (modules_to_save, biases, embeddings) replace the
    base's.

    Args:
        directory: holds adapter_config.json and adapter_model.safetensors.
        open_base: opens the base by path or hub id.
        base: the base; None takes base_model_name_or_path, as given and relative to the directory.

    Raises:
        CheckpointError: no base, or anything that is not known to merge exactly; the message names the key or tensor.
    """
    settings = _settings(directory)
    shard = _weights(directory)
    found = _open_base(directory, settings, open_base, base)
    return _Merge(directory, settings, shard, found).checkpoint()


# ------------------------------------------------------------------------------------------------------ settings


def _settings(directory: Path) -> dict[str, Any]:
    """adapter_config.json, every key of which is understood or empty."""
    path = directory / ADAPTER_CONFIG
    settings = read_json(directory, ADAPTER_CONFIG)
    if settings.get("peft_type") != "LORA":
        kind = quoted(str(settings.get("peft_type")))
        raise CheckpointError(f"{path}: peft_type {kind} is not LORA, the only one that ckdiff merges; {MERGE}")
    for key, value in settings.items():
        if value and key not in USED_KEYS | HARMLESS_KEYS:
            raise CheckpointError(f"{path}: {quoted(key)} is set, which ckdiff cannot merge exactly; {MERGE}")
    init = settings.get("init_lora_weights")
    if not any(init is plain or (isinstance(init, str) and init == plain) for plain in PLAIN_INITS):
        raise CheckpointError(
            f"{path}: init_lora_weights {quoted(str(init))} may have changed the base's weights; {MERGE}, or save it"
            " converted to plain LoRA (path_initial_model_for_weight_conversion)"
        )
    _check_types(path, settings)
    return settings


def _check_types(path: Path, settings: Mapping[str, Any]) -> None:
    for key in ("rank_pattern", "alpha_pattern"):
        pattern = settings.get(key) or {}
        if not isinstance(pattern, dict) or not all(_number(value) for value in pattern.values()):
            raise CheckpointError(f"{path}: {key} is not an object of positive numbers; {MERGE}")
    for key in ("r", "lora_alpha"):
        if not _number(settings.get(key, 8)):
            raise CheckpointError(f"{path}: {key} is not a positive number; mend adapter_config.json")
    modules = settings.get("modules_to_save") or []
    if not isinstance(modules, list) or not all(isinstance(name, str) for name in modules):
        raise CheckpointError(f"{path}: modules_to_save is not a list of names; mend adapter_config.json")
    if settings.get("bias", "none") not in ("none", "all", "lora_only"):
        raise CheckpointError(f"{path}: bias is none of none, all, lora_only; mend adapter_config.json")
    for key in ("use_rslora", "fan_in_fan_out", "lora_bias"):
        if settings.get(key) not in (None, True, False):
            raise CheckpointError(f"{path}: {key} is neither true nor false; mend adapter_config.json")


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 2**31


def _weights(directory: Path) -> Shard:
    path = inside(directory, ADAPTER_WEIGHTS)
    if path.exists():
        return read_shard(path)
    if (directory / "adapter_model.bin").exists():
        raise CheckpointError(
            f"{directory}: adapter_model.bin is a pickle, never read by ckdiff; save it as safetensors"
        )
    raise CheckpointError(f"{path}: does not exist; save the adapter again with safetensors")


def _open_base(
    directory: Path, settings: Mapping[str, Any], open_base: Callable[[str], Checkpoint], base: str | None
) -> Checkpoint:
    if base is not None:
        return open_base(base)
    named = settings.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise CheckpointError(f"{directory}: names no base (base_model_name_or_path); give it with --adapter-base")
    revision = settings.get("revision")
    tries = [f"{named}@{revision}"] if isinstance(revision, str) and revision else []
    tries += [named] if not tries or named.startswith((".", "/")) else []
    tries += [str(directory / named)] if os.path.exists(directory / named) else []
    reasons = []
    for text in tries:
        try:
            return open_base(text)
        except CheckpointError as error:
            reasons.append(str(error))
    raise CheckpointError(
        f"{directory}: its base {quoted(named)} cannot be opened ({reasons[-1]}); give another with --adapter-base"
    )


# --------------------------------------------------------------------------------------------------------- merge


class _Merge:
    """One adapter being matched with one base; everything is checked before a `Checkpoint` is made."""

    def __init__(self, directory: Path, settings: Mapping[str, Any], shard: Shard, base: Checkpoint) -> None:
        self.directory, self.settings, self.shard = directory, settings, shard
        self.base, self.tied_to = untie(base, shard)
        self.path = directory / ADAPTER_CONFIG
        self.shapes = self.base.shapes()
        self.pairs: dict[str, dict[str, str]] = {}
        self.whole: dict[str, str] = {}
        self.scales: set[float] = set()
        self.notes: list[str] = []

    def checkpoint(self) -> Checkpoint:
        """The merged checkpoint."""
        self._sort_names()
        changes = self._changes()
        self._tie_again(changes)
        stored, derived = dict(self.base.stored), dict(self.base.derived)
        for name, tensor in self.whole.items():
            stored[name] = (self.shard, self.shard.entries[tensor])
            derived.pop(name, None)
        before = replace(self.base, stored=stored, derived=dict(derived))
        for name, factors in changes.items():
            derived[name] = derive(before, self.shard, name, factors)
        shards = tuple(sorted((*self.base.shards, self.shard), key=lambda shard: shard.name))
        return Checkpoint(
            str(self.directory),
            None,
            self.base.root,
            shards,
            stored,
            self.base.config,
            derived,
            self._notes(len(changes)),
        )

    def _refuse(self, tensor: str, why: str) -> CheckpointError:
        return CheckpointError(f"{self.shard.path}: tensor {quoted(tensor)}: {why}; {MERGE}")

    def _notes(self, merged: int) -> tuple[str, ...]:
        scales = sorted(self.scales)
        scale = f"{scales[0]:g}" if len(scales) == 1 else f"{scales[0]:g} to {scales[-1]:g}" if scales else "none"
        base = self.base.location + (f"@{self.base.revision}" if self.base.revision else "")
        merge = (
            f"{self.directory}: LoRA adapter on {base}: {merged} tensors merged (scale {scale}),"
            f" {len(self.whole)} replaced; merged tensors are W + scale * B A, rounded once to float32"
        )
        own = (self.directory / "tokenizer_config.json").is_file()
        tokenizer = (f"{self.directory}: the adapter's own tokenizer was not used, the base's was",) if own else ()
        return (*self.base.notes, merge, *self.notes, *tokenizer)

    def _sort_names(self) -> None:
        """Sort the adapter's tensors into LoRA parts by module, and whole tensors by the base's name."""
        for tensor in self.shard.entries:
            name = without_parts(tensor).removeprefix("base_model.model.")
            if name == without_parts(tensor):
                raise self._refuse(tensor, "its name does not begin with base_model.model.")
            match = _LORA.fullmatch(name)
            if match:
                self.pairs.setdefault(match["module"], {})[match["part"]] = tensor
            else:
                self._replace(tensor, name)
        if not self.pairs and not self.whole:
            raise CheckpointError(f"{self.shard.path}: holds no tensors; save the adapter again")

    def _replace(self, tensor: str, name: str) -> None:
        module, _, leaf = name.replace(".base_layer.", ".").rpartition(".")
        if not self._may_replace(module, leaf, wrapped=".base_layer." in name):
            raise self._refuse(tensor, "a kind of adapter tensor that ckdiff does not know")
        target = self._target(tensor, f"{module}.{leaf}")
        if target in self.whole:
            raise self._refuse(tensor, f"replaces {quoted(target)} a second time")
        shape = self.shapes[target]
        if self.shard.entries[tensor].shape != shape:
            raise self._refuse(
                tensor, f"shape {list(self.shard.entries[tensor].shape)} is not the base's {list(shape)}"
            )
        self.whole[target] = tensor

    def _may_replace(self, module: str, leaf: str, *, wrapped: bool) -> bool:
        if leaf == "bias" and self.settings.get("bias", "none") != "none":
            return True
        parts = module.split(".")
        if leaf == "weight" and parts[-1] in EMBEDDING_NAMES:
            return True
        saved = tuple(self.settings.get("modules_to_save") or ())
        return not wrapped and any(".".join(parts[:end]).endswith(saved) for end in range(1, len(parts) + 1))

    def _target(self, tensor: str, name: str) -> str:
        """The base's stored name of a live model's parameter."""
        if name in self.shapes:
            return name
        others = {name.removeprefix(prefix) for prefix in PREFIXES} | {prefix + name for prefix in PREFIXES}
        found = sorted(others & self.shapes.keys())
        if len(found) == 1:
            return found[0]
        if found:
            raise self._refuse(tensor, f"could be {quoted(found[0])} or {quoted(found[1])} of its base")
        raise self._refuse(tensor, f"its base {self.base.location} has no tensor {quoted(name)}")

    def _tie_again(self, changes: dict[str, Factors]) -> None:
        """Where both of two tied embeddings still begin alike they are still tied, and a merge changes both."""
        if self.tied_to is None:
            return
        if not self._alike(HEAD, self.tied_to):
            self.notes.append(f"{self.directory}: replaces one of two tied embeddings, which are no longer tied")
            return
        if HEAD in changes:
            if self.tied_to in changes:
                raise self._refuse(
                    changes[HEAD].b, f"adapts {quoted(HEAD)}, tied to {quoted(self.tied_to)}, adapted too"
                )
            changes[self.tied_to] = changes.pop(HEAD)
        if self.tied_to in changes:
            self.notes.append(
                f"{self.directory}: adapts a tied embedding; merged as peft's merge_and_unload does, input and output"
                " both change, which running the adapter unmerged does not do"
            )
        self.whole.pop(HEAD, None)
        stored = {name: value for name, value in self.base.stored.items() if name != HEAD}
        derived = {name: value for name, value in self.base.derived.items() if name != HEAD}
        config = {**self.base.config, "tie_word_embeddings": True}
        self.base = replace(self.base, stored=stored, derived=derived, config=config)

    def _alike(self, first: str, second: str) -> bool:
        """Whether two tensors have the same values before anything is merged."""
        import numpy as np

        if first not in self.whole and second not in self.whole:
            return True
        return bool(np.array_equal(self._before(first), self._before(second)))

    def _before(self, name: str) -> AnyArray:
        from ckdiff.weights.storage import Mapped, decode64

        source, name = (alone(self.shard), self.whole[name]) if name in self.whole else (self.base, name)
        with Mapped(source) as files:
            return decode64(files.raw(name), source.dtype(name))

    def _changes(self) -> dict[str, Factors]:
        changes: dict[str, Factors] = {}
        for module, parts in self.pairs.items():
            for name, factors in self._module_changes(module, parts).items():
                if name in changes:
                    raise self._refuse(factors.b, f"adapts {quoted(name)}, which another tensor adapts too (tied)")
                changes[name] = factors
        return changes

    def _module_changes(self, module: str, parts: dict[str, str]) -> dict[str, Factors]:
        embedding = "lora_embedding_A" in parts or "lora_embedding_B" in parts
        a_part, b_part = (f"lora_embedding_{x}" if embedding else f"lora_{x}.weight" for x in "AB")
        allowed = {a_part, b_part} | (set() if embedding or not self.settings.get("lora_bias") else {"lora_B.bias"})
        for part, tensor in parts.items():
            if part not in allowed:
                raise self._refuse(tensor, "a part that does not belong to this kind of LoRA module")
        for part, other in ((a_part, b_part), (b_part, a_part)):
            if part not in parts:
                raise self._refuse(
                    next(iter(parts.values())), f"has no {other if other not in parts else part} beside it"
                )
        a, b = parts[a_part], parts[b_part]
        target = self._target(a, f"{module}.weight")
        scale = self._scale(module, a)
        transposed = embedding or self._conv1d(module, target, a, b)
        self._check_fit(target, a, b, transposed)
        changes = {target: Factors(a, b, scale, transposed)}
        if "lora_B.bias" in parts:
            bias = self._target(parts["lora_B.bias"], f"{module}.bias")
            if self.shard.entries[parts["lora_B.bias"]].shape != self.shapes[bias]:
                raise self._refuse(parts["lora_B.bias"], f"does not fit the base's {list(self.shapes[bias])}")
            changes[bias] = Factors(None, parts["lora_B.bias"], scale, False)
        return changes

    def _scale(self, module: str, a: str) -> float:
        rank = pattern_value(self.path, self.settings.get("rank_pattern"), module, self.settings.get("r", 8))
        default = self.settings.get("lora_alpha", 8)
        alpha = pattern_value(self.path, self.settings.get("alpha_pattern"), module, default)
        shape = self.shard.entries[a].shape
        if len(shape) != 2 or shape[0] != rank:
            raise self._refuse(
                a, f"shape {list(shape)} is not [{rank}, ...], the rank that adapter_config.json gives it"
            )
        scale = alpha / math.sqrt(rank) if self.settings.get("use_rslora") else alpha / rank
        self.scales.add(scale)
        return float(scale)

    def _conv1d(self, module: str, target: str, a: str, b: str) -> bool:
        """Whether W is [in, out]: by the model type where it is known, else by shape, else as the config says."""
        model_type = self.base.config.get("model_type")
        if model_type:
            return model_type in CONV1D_MODELS and module.rpartition(".")[2] in CONV1D_NAMES
        shape = self.shapes[target]
        if len(shape) == 2 and shape[0] != shape[1]:
            return shape == (self.shard.entries[a].shape[-1], self.shard.entries[b].shape[0])
        return bool(self.settings.get("fan_in_fan_out"))

    def _check_fit(self, target: str, a: str, b: str, transposed: bool) -> None:
        a_shape, b_shape, shape = self.shard.entries[a].shape, self.shard.entries[b].shape, self.shapes[target]
        if len(b_shape) != 2 or b_shape[1] != a_shape[0]:
            raise self._refuse(b, f"shape {list(b_shape)} does not fit lora_A's {list(a_shape)}")
        delta = (a_shape[1], b_shape[0]) if transposed else (b_shape[0], a_shape[1])
        if delta != shape:
            raise self._refuse(b, f"B A of shape {list(delta)} does not fit {quoted(target)} of shape {list(shape)}")
