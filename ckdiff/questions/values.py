"""Values of records, from whatever format: in words, cleaned, counted, and put into messages."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from ckdiff.questions.layouts import choice_layout, fold
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


LISTED = 20
"""How many names a message lists."""


def fold_keys(value: Any, place: str) -> Any:
    """An object with its keys folded, and a chat as the question and the answer that it is; else the value.

    Raises:
        ValueError: two of its keys are one, or it is a longer chat.
    """
    if not isinstance(value, dict):
        return value
    found = {fold(key): one for key, one in value.items()}
    if len(found) < len(value):
        raise ValueError(f"{place}: two columns of one name in {list_names(value)}; rename one")
    turns = found.get("messages")
    if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
        said = {turn.get("role"): turn.get("content") for turn in turns}
        if [turn.get("role") for turn in turns] not in (["user"], ["user", "assistant"]):
            raise ValueError(f"{place}: a chat of {len(turns)} turns; write one question and its answer")
        found |= {"question": said["user"], "answer": said.get("assistant")}
    return found


def words_of(place: str, key: str, value: Any) -> str:
    """The text of one column, a number as it is written.

    Raises:
        ValueError: it is neither.
    """
    number = isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
    return str(value) if number else string_of(place, key, value)


def string_of(place: str, key: str, value: Any) -> str:
    """The text of one column.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        raise ValueError(f"{place}: {key} is {kind_of(value)}; write a string")
    return clean(value, f"{place}: {key}")


def clean(text: str, place: str = "text") -> str:
    """Stripped text that a tokenizer can take.

    Raises:
        ValueError: it holds a NUL character or half a surrogate pair.
    """
    if "\0" in text:
        raise ValueError(f"{place}: a NUL character in {quoted(text)}; this is not text, mend it")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{place}: half a surrogate pair in {quoted(text)}; this is not text, mend it")
    return text.strip()


def check_open(place: str, item: Mapping[str, Any], answers: Sequence[str]) -> None:
    """Refuse a question that asks for a choice by its number or letter: its answer has no words.

    Raises:
        ValueError: it does.
    """
    row = choice_layout(item)
    given = [item[fold(column)] for column in row.choices] if row else []
    if row is None or any(answers[0] in (one if isinstance(one, list) else [one]) for one in given if answers):
        return
    raise ValueError(
        f"{place}: a multiple-choice question, whose answer is a number or letter; give this file to --choices"
    )


def count_note(count: int, what: str, fate: str = "left out") -> tuple[str, ...]:
    """A note about how many, or none about nothing."""
    return (f"{count} {what}{'' if count == 1 else 's'} {fate}",) if count else ()


def list_names(names: Iterable[str | None]) -> str:
    """Names for a message: each once, quoted, and not too many."""
    once = list(dict.fromkeys(name.strip() for name in names if name is not None and name.strip()))
    more = f" and {len(once) - LISTED} more" if len(once) > LISTED else ""
    return ", ".join(quoted(name) for name in once[:LISTED]) + more or "nothing with a name"


def kind_of(value: Any) -> str:
    """The kind of a value, in words."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")


def canonical_digest(value: Any) -> str:
    """Hex sha256 over the canonical JSON of lists, strings and numbers."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode("ascii")).hexdigest()
