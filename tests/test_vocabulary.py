"""A padded or grown vocabulary: rows are compared where ids mean the same tokens, and what is left out is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff import CompareSpec, compare
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.storage import Mapped
from ckdiff.weights.vocabulary import tokens, trim_vocabulary
from tests.checkpoints import llama, save

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.comparison import Comparison
    from ckdiff.shapes import AnyArray

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
WORDS = [f"w{number}" for number in range(20)]


def model(
    root: Path, rows: int, words: list[str] | None, tensors: dict[str, AnyArray] | None = None, **config: Any
) -> Path:
    """A tiny Llama with so many rows of vocabulary, the first 20 of them those of every other."""
    found = dict(llama() if tensors is None else tensors)
    for name in (EMBED, HEAD):
        if name in found:
            more = np.random.default_rng(rows).normal(size=(max(rows - 20, 0), 8)).astype(np.float32)
            found[name] = np.concatenate([found[name], more])[:rows]
    save(root, found, vocab_size=rows, **config)
    if words is not None:
        vocabulary = {word: number for number, word in enumerate(words)}
        (root / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": vocabulary}}))
    return root


def run(base: Path, unlearned: Path) -> Comparison:
    found = compare(CompareSpec(str(base), str(unlearned), hash=False)).compare
    assert found is not None
    return found


def rows_of(found: Comparison) -> dict[str, tuple[int, ...]]:
    return {row.name: row.shape for row in found.tensors if row.name in (EMBED, HEAD)}


CASES: dict[str, tuple[int, list[str] | None, int, list[str] | None, int]] = {
    "grown by a token": (20, WORDS, 21, [*WORDS, "<pad>"], 20),
    "padded": (20, WORDS, 24, WORDS, 20),
    "padded, and grown into the padding": (24, WORDS, 22, [*WORDS, "<pad>"], 20),
    "cut off": (24, WORDS, 18, WORDS[:18], 18),
    "another token in the middle": (20, WORDS, 22, [*WORDS[:7], "other", *WORDS[8:]], 7),
    "one tokenizer for both": (20, WORDS, 24, None, 20),
}


@pytest.mark.parametrize("case", CASES)
def test_shared_rows_are_compared_and_the_others_named(tmp_path: Path, case: str) -> None:
    rows, words, others, other_words, shared = CASES[case]
    edited = llama()
    edited[EMBED][3] += 0.5
    pair = model(tmp_path / "a", rows, words), model(tmp_path / "b", others, other_words, edited)
    for base, unlearned, counts in ((*pair, (rows, others)), (*pair[::-1], (others, rows))):
        found = run(base, unlearned)
        assert rows_of(found) == {EMBED: (shared, 8), HEAD: (shared, 8)}
        assert found.shape_mismatch == ()
        for count, only in zip(counts, (found.only_in_base, found.only_in_unlearned), strict=True):
            expected = [f"{name}[{shared}:{count}]" for name in (EMBED, HEAD)] if count > shared else []
            assert sorted(row.name for row in only) == sorted(expected)
        note = next(note for note in found.notes if "vocabularies" in note)
        assert f"have {counts[0]} and {counts[1]} rows: the first {shared} were compared" in note
        drifts = {row.name: row.drift for row in found.tensors}
        assert drifts[HEAD].identical
        a, b = (
            side[EMBED][:shared].astype(np.float64)
            for side in ((llama(), edited) if base == pair[0] else (edited, llama()))
        )
        assert drifts[EMBED].relative_l2 == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-6)


def test_without_a_tokenizer_nothing_is_shared(tmp_path: Path) -> None:
    found = run(model(tmp_path / "a", 20, None), model(tmp_path / "b", 24, None))
    assert sorted(row.name for row in found.shape_mismatch) == [HEAD, EMBED]
    assert any("neither says which token an id is" in note for note in found.notes)


def test_one_tokenizer_in_a_file_that_is_not_looked_into(tmp_path: Path) -> None:
    pair = model(tmp_path / "a", 20, None), model(tmp_path / "b", 24, None)
    for root in pair:
        (root / "tokenizer.model").write_bytes(b"pieces")
    assert rows_of(run(*pair)) == {EMBED: (20, 8), HEAD: (20, 8)}
    (pair[1] / "tokenizer.model").write_bytes(b"others")
    assert run(*pair).shape_mismatch


def test_tied_embeddings_are_shared_under_both_names(tmp_path: Path) -> None:
    tied = {name: value for name, value in llama().items() if name != HEAD}
    sides = [model(tmp_path / str(rows), rows, WORDS, tied, tie_word_embeddings=True) for rows in (20, 24)]
    found = run(sides[0], sides[1])
    assert rows_of(found) == {EMBED: (20, 8), HEAD: (20, 8)}
    assert all(row.drift.identical for row in found.tensors)
    assert [row.name for row in found.only_in_unlearned] == [f"{EMBED}[20:24]"]


def test_tokens_come_from_every_file_that_lists_them(tmp_path: Path) -> None:
    whole = {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}, "added_tokens": [{"id": 5, "content": "<x>"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<y>": 6}))
    assert tokens(tmp_path) == {0: "a", 1: "b", 5: "<x>", 6: "<y>"}
    assert tokens(None) is None


def test_a_trimmed_checkpoint_is_the_first_rows_of_its_file(tmp_path: Path) -> None:
    sides = [open_checkpoint(str(model(tmp_path / str(rows), rows, WORDS, pad_token_id=23))) for rows in (20, 24)]
    base, unlearned, notes = trim_vocabulary(sides[0], sides[1])
    assert base.shapes() == unlearned.shapes()
    assert unlearned.config["vocab_size"] == 20
    assert unlearned.config["pad_token_id"] is None
    assert "24 rows: the first 20 were used" in notes[0]
    with Mapped(unlearned) as files, Mapped(sides[1]) as before:
        for name in (EMBED, HEAD):
            assert np.array_equal(files.raw(name), before.raw(name)[:20])
    again = trim_vocabulary(sides[0], sides[0])
    assert again == (sides[0], sides[0], [])
