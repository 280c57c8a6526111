"""Remarks about how questions became ids, and questions that became one prompt: `merge`, `remarks`."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckdiff.options import UNCHATTED
from ckdiff.probes.wording.chat import DATE
from ckdiff.untrusted import printable, quoted, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.probes.prompts import Prompt
    from ckdiff.probes.wording.wording import Ids, Wording

MOST_UNKNOWN = 0.5
"""A share of unknown tokens above which a question is not what was asked."""


def merge(prompts: Sequence[Prompt], parts: Sequence[int]) -> tuple[list[int], list[str]]:
    """Numbers of the prompts whose ids no earlier one of their part has, and notes about the others.

    Args:
        prompts: part after part.
        parts: how many prompts each part has.
    """
    first: dict[tuple[int, Ids], int] = {}
    of = [part for part, size in enumerate(parts) for _ in range(size)]
    for number, prompt in enumerate(prompts):
        first.setdefault((of[number], prompt.ids), number)
    kept = sorted(first.values())
    notes = []
    if len(kept) < len(prompts):
        again = next(number for number in range(len(prompts)) if number not in set(kept))
        both = _both(prompts, first[of[again], prompts[again].ids], again)
        notes.append(
            f"{len(prompts)} questions become {len(kept)} prompts of different token ids, which are asked once each:"
            f" {both} are one"
        )
    return kept, [*notes, *_across(prompts, kept)]


def _across(prompts: Sequence[Prompt], kept: Sequence[int]) -> list[str]:
    """Parts that ask the same."""
    seen: dict[Ids, int] = {}
    pairs = [(seen.setdefault(prompts[number].ids, number), number) for number in kept]
    twice = [pair for pair in pairs if pair[0] != pair[1]]
    if not twice:
        return []
    return [f"{len(twice)} prompts stand in two sets of questions: {_both(prompts, *twice[0])} are one"]


def _both(prompts: Sequence[Prompt], one: int, other: int) -> str:
    return " and ".join(quoted(prompts[number].question.text) for number in (one, other))


def silence(tokenizer: Any, answers: Sequence[Sequence[int]], what: str) -> list[str]:
    """A note where the base answers with nothing but tokens that are not read, such as its end token."""
    count = sum(not str(tokenizer.decode(list(ids), skip_special_tokens=True)).strip() for ids in answers)
    return [f"the base answers {count} of {len(answers)} {what} with nothing"] if count else []


def recorded_date(wording: Wording) -> dict[str, str]:
    """The date that a chat template was given, where it asked for one, as a setting of the report."""
    return {"date": DATE} if wording.chat is not None and wording.chat.dated else {}


def remarks(wording: Wording, prompts: Sequence[Prompt], root: Path | None) -> list[str]:
    """Plain sentences about a tokenizer that does with these questions what nobody would expect.

    Args:
        wording: how they are asked.
        prompts: the questions.
        root: the directory of the tokenizer.
    """
    tokenizer = wording.encoder.tokenizer
    texts = [prompt.question.text for prompt in prompts]
    bare = [wording.encoder.ids(text, start=False) for text in texts]
    unknown = _unknown(tokenizer, bare)
    lost = [number for number in _find_lost(tokenizer, texts, bare) if number not in unknown]
    found = _around(wording, prompts)
    if unknown:
        found.append(
            f"the tokenizer knows less than half of {len(unknown)} of {len(texts)} questions, such as"
            f" {_short(texts[unknown[0]])}: the model does not see what was asked"
        )
    if lost:
        back = str(tokenizer.decode(list(bare[lost[0]])))
        found.append(
            f"{len(lost)} of {len(texts)} questions do not come back from their token ids:"
            f" {_short(texts[lost[0]])} becomes {_short(back)}"
        )
    if wording.chat is None and getattr(tokenizer, "chat_template", None):
        found.append(UNCHATTED)
    return [*found, *_otherwise(tokenizer, texts, bare, root), *_date_remarks(wording)]


def _around(wording: Wording, prompts: Sequence[Prompt]) -> list[str]:
    """Start tokens that are doubled or missing, end tokens that were taken off."""
    encoder, found = wording.encoder, []
    special = set(encoder.tokenizer.all_special_ids)
    if encoder.end and wording.chat is None:
        ends = " and ".join(encoder.token(number) for number in encoder.end)
        found.append(f"the tokenizer puts {ends} behind every text; that was taken off, so that an answer can follow")
    doubled = [one for one in prompts if len(one.ids) > 1 and one.ids[0] == one.ids[1] and one.ids[0] in special]
    if doubled:
        who = "the template" if wording.chat is None else "the chat template"
        found.append(
            f"{len(doubled)} of {len(prompts)} prompts begin with two start tokens {encoder.token(doubled[0].ids[0])}:"
            f" one too many is in {who}"
        )
    if wording.chat is not None and encoder.start and not any(one.ids[0] in encoder.start for one in prompts):
        starts = " and ".join(encoder.token(number) for number in encoder.start)
        found.append(f"the chat template writes no {starts}, which the tokenizer puts in front of every other text")
    return found


def _unknown(tokenizer: Any, bare: Sequence[Ids]) -> list[int]:
    """Numbers of the questions that are mostly unknown tokens, or none at all."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    return [n for n, ids in enumerate(bare) if not ids or ids.count(unknown) > MOST_UNKNOWN * len(ids)]


def _find_lost(tokenizer: Any, texts: Sequence[str], bare: Sequence[Ids]) -> list[int]:
    """Numbers of the questions that do not come back from their ids, blanks and case aside."""
    back = [str(tokenizer.decode(list(ids))) for ids in bare]
    return [n for n, (text, again) in enumerate(zip(texts, back, strict=True)) if _bare(text) != _bare(again)]


def _short(text: str) -> str:
    return quoted(shorten(text, 60))


def _bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _otherwise(tokenizer: Any, texts: Sequence[str], bare: Sequence[Ids], root: Path | None) -> list[str]:
    """Questions that transformers cuts otherwise than the file that holds the tokenizer says."""
    stored = _read_stored(root)
    if stored is None:
        return []
    bad = [n for n, ids in enumerate(bare) if tuple(stored.encode(texts[n], add_special_tokens=False).ids) != ids]
    if not bad:
        return []
    return [
        f"transformers reads the tokenizer as {printable(type(tokenizer).__name__)}, which cuts {len(bad)} of"
        f" {len(texts)} questions otherwise than tokenizer.json says; to take the file's word, copy the tokenizer into"
        " a directory without config.json and name that with --tokenizer"
    ]


def _read_stored(root: Path | None) -> Any:
    """The tokenizer as its file describes it, or None without such a file."""
    from tokenizers import Tokenizer

    path = None if root is None else Path(root) / "tokenizer.json"
    if path is None or not path.is_file():
        return None
    try:
        return Tokenizer.from_file(str(path))
    except Exception:
        # transformers has read it in its own way; there is nothing to hold that against.
        return None


def _date_remarks(wording: Wording) -> list[str]:
    if not recorded_date(wording):
        return []
    return [
        f"the chat template writes today's date; it was given {DATE}, so that the numbers are the same on every day"
    ]
