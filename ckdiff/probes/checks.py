"""Whether two checkpoints can be probed as a pair at all, and what a reader must know where they can.

Refused: what would make a number mean something else than it says (other architectures, shapes, vocabularies, token
ids). Listed: what only may (another chat template, another special token, another setting of the config).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.probes.live.model import LiveModel

COSMETIC = frozenset({"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "use_cache"})
MOST = 5
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


class PairError(CkdiffError):
    """Two checkpoints that cannot be probed against each other."""


def check_models(base: LiveModel, unlearned: LiveModel) -> list[str]:
    """Refuse models of other shape; list settings in which they differ.

    Raises:
        PairError: other model types, layer counts, or parameters of other shape.
    """
    kinds = base.row.model_type, unlearned.row.model_type
    if kinds[0] != kinds[1]:
        raise PairError(f"{base.location} is a {kinds[0]}, {unlearned.location} a {kinds[1]}; give two of one kind")
    counts = len(base.layers), len(unlearned.layers)
    if counts[0] != counts[1]:
        raise PairError(
            f"{base.location} has {counts[0]} layers, {unlearned.location} {counts[1]}; give two of one shape"
        )
    shapes = dict(_shapes(base)), dict(_shapes(unlearned))
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        if shapes[0].get(name) != shapes[1].get(name):
            raise PairError(
                f"parameter {name} is {shapes[0].get(name, 'missing')} in {base.location} and"
                f" {shapes[1].get(name, 'missing')} in {unlearned.location}; a probe needs two models of one shape"
            )
    found = _differences(base.config.to_dict(), unlearned.config.to_dict())
    notes = [
        f"config differs in {key}: {_short(a)} in the base, {_short(b)} in the unlearned model;"
        " restoring parameters does not undo that"
        for key, a, b in found[:MOST]
    ]
    return notes if len(found) <= MOST else [*notes, f"config differs in {len(found) - MOST} more settings"]


def check_tokenizers(base: Any, unlearned: Any) -> list[str]:
    """Refuse tokenizers in which an id means two tokens; list what else differs. The base's is used.

    Raises:
        PairError: ids that mean different tokens.
    """
    if unlearned is None:
        return ["the unlearned checkpoint has no tokenizer of its own; the base's was used"]
    tokens = ({number: token for token, number in side.get_vocab().items()} for side in (base, unlearned))
    ours, theirs = tokens
    for number in sorted(ours.keys() & theirs.keys()):
        if ours[number] != theirs[number]:
            raise PairError(
                f"token id {number} is {_short(ours[number])} in the base and {_short(theirs[number])} in the unlearned"
                " checkpoint; with two vocabularies no logits can be compared"
            )
    notes = []
    for name, extra in (("base", ours.keys() - theirs.keys()), ("unlearned checkpoint", theirs.keys() - ours.keys())):
        if extra:
            notes.append(f"the tokenizer of the {name} has {len(extra)} tokens more, the first {min(extra)}")
    if _rules(base) != _rules(unlearned):
        notes.append("the tokenizers cut text by different rules; the base's was used for both models")
    for name in SPECIAL:
        a, b = getattr(base, name, None), getattr(unlearned, name, None)
        if a != b:
            notes.append(f"{name} is {_short(a)} in the base and {_short(b)} in the unlearned checkpoint")
    if getattr(base, "chat_template", None) != getattr(unlearned, "chat_template", None):
        notes.append("the chat templates differ; where one is used it is the base's")
    return notes


def check_lengths(texts: Sequence[str], lengths: Sequence[int], tokens: int, context: int | None) -> None:
    """Refuse a question that, with its answer, is longer than the model's context.

    Raises:
        PairError: naming the question.
    """
    for text, length in zip(texts, lengths, strict=True):
        if context is not None and length + tokens - 1 > context:
            raise PairError(
                f"question {text[:60]!r}: {length} tokens and {tokens} of answer do not fit into the model's context of"
                f" {context}; shorten it, or lower --tokens"
            )


def _shapes(live: LiveModel) -> Iterator[tuple[str, list[int]]]:
    for name, parameter in live.model.named_parameters(remove_duplicate=False):
        yield name, list(parameter.shape)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = sorted((a.keys() | b.keys()) - COSMETIC)
    return [(key, a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)]


def _rules(tokenizer: Any) -> Any:
    """The rules by which a fast tokenizer cuts text, vocabulary aside; None for a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    state = json.loads(backend.to_str())
    model = state.get("model", {})
    return [state.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor")], model.get("merges")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
