"""Two checkpoints become a pair to look at: `open_models(base, unlearned, how)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CkdiffError
from ckdiff.probes.checks import check_models, check_tokenizers
from ckdiff.probes.live.generation import context_length, stop_tokens
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.probes.preparation import DTYPES, device_of, tokenizer_of
from ckdiff.probes.wording.wording import Wording
from ckdiff.weights.reader import read_json
from ckdiff.weights.vocabulary import trim_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.weights.checkpoint import Checkpoint


class DiscoveryError(CkdiffError):
    """A pair, texts or candidates on which nothing can be discovered."""


@dataclass(slots=True)
class Models:
    """Both models, of one shape and one vocabulary, none of them loaded.

    Attributes:
        base, unlearned: the two.
        copy: the base again, to be shaken.
        wording: how the base's tokenizer is asked.
        stops: ids at which an answer ends.
        rows: ids that both have.
        context: the most positions of a text, or None.
        notes: plain sentences.
    """

    base: LiveModel
    unlearned: LiveModel
    copy: LiveModel
    wording: Wording
    stops: frozenset[int]
    rows: int
    context: int | None
    notes: tuple[str, ...]

    @property
    def tokenizer(self) -> Any:
        """Of the base."""
        return self.wording.encoder.tokenizer


def open_models(base: Checkpoint, unlearned: Checkpoint, dtype: str, device: str, named: Path | None = None) -> Models:
    """Refuse what cannot be compared before a weight is read.

    Args:
        base: the one.
        unlearned: the other.
        dtype: of both models.
        device: where they run.
        named: a directory with a tokenizer; else the base's is taken.

    Raises:
        CkdiffError: other shapes or vocabularies, or a base without a tokenizer.
    """
    place, kind = device_of(device), DTYPES[dtype]
    base, unlearned, shared = trim_vocabulary(base, unlearned)
    ours, theirs, copy = (LiveModel(side, kind, place) for side in (base, unlearned, base))
    notes = [*shared, *check_models(ours, theirs), *ours.notes, *theirs.notes]
    tokenizer = tokenizer_of(base, named)
    notes += check_tokenizers(tokenizer, load_tokenizer(unlearned.root))
    stops = stop_tokens(ours, read_json(base.root, "generation_config.json") if base.root is not None else {})
    rows = ours.model.get_input_embeddings().num_embeddings
    return Models(ours, theirs, copy, Wording(tokenizer), stops, rows, context_length(ours), tuple(notes))
