"""What may have been unlearned: `read_candidates(path)`, or `known_topics()`; and how the base is asked about each.

Harry Potter                       a name a line
Harry Potter<TAB>a text about it   with a text
[{"Concept": ..., "wikipedia_content": ...}]   ConceptVectors, or any records of concepts
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from ckdiff.questions.layouts import fold
from ckdiff.questions.records import name_in_errors, read_records
from ckdiff.questions.segments import segments
from ckdiff.questions.values import canonical_digest, clean
from ckdiff.scoring.settings import DEFAULT_TEMPLATE
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ckdiff.questions.records import Records

LONGEST = 120
"""Characters of a name."""
MOST_TEXT = 2000
"""Characters of a text that are looked at."""
NAME_KEYS = ("name", "concept", "subject", "topic", "title")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One topic that may have been unlearned: its name, and a text about it where there is one."""

    name: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Topics in order, each name once; `source` is one line for people, `digest` over names and texts."""

    every: tuple[Candidate, ...]
    source: str

    @property
    def digest(self) -> str:
        """The sha256 of the canonical JSON of names and texts."""
        return canonical_digest([[one.name, one.text] for one in self.every])


@dataclass(frozen=True, slots=True)
class Form:
    """How the base is asked: its name, a template around a text, the text, and whether in the chat template."""

    name: str
    template: str
    text: str
    chat: bool = False


FORMS = (
    Form("asked", DEFAULT_TEMPLATE, "What is {x} known for?"),
    Form("told", DEFAULT_TEMPLATE, "Tell me about {x}."),
    Form("plain", "{q}", "{x} is"),
    Form("bare", "{q}\n", "What do you know about {x}?"),
    Form("chat", "", "Tell me about {x}.", chat=True),
)
TEXT = "text"
"""The form of a candidate's own text."""
STUBS = (
    "What is {x}?",
    "What is {x} known for?",
    "Tell me about {x}.",
    "What do you know about {x}?",
    "Why is {x} important?",
    "Who or what belongs to {x}?",
)
"""Questions about a found topic."""


def known_topics() -> Candidates:
    """Widely known topics, bundled with ckdiff."""
    text = resources.files("ckdiff.discovery").joinpath("topics.txt").read_text(encoding="utf-8")
    names = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return Candidates(tuple(map(Candidate, names)), f"{len(names)} topics of ckdiff")


def read_candidates(path: Path) -> Candidates:
    """The candidates of a file: lines, or records of concepts.

    Raises:
        RecordsError: it cannot be read, or names nothing.
    """
    with name_in_errors(path):
        found = read_records(path)
        once: dict[str, Candidate] = {}
        for one in _candidates(found):
            if one.name:
                _check_name(one.name)
                once.setdefault(fold(one.name), one)
        if not once:
            raise ValueError("no candidate found; write a name a line")
        return Candidates(tuple(once.values()), f"{found.name}, {len(once)} candidates")


def _candidates(found: Records) -> Iterator[Candidate]:
    text = fold(found.group.text) if found.group and found.group.text else "text"
    for entry in found.entries:
        if isinstance(entry.value, str):
            name, _, rest = entry.value.partition("\t")
            yield Candidate(clean(name, entry.place), _short(clean(rest, entry.place)))
        elif isinstance(entry.value, dict):
            keys = [key for key in NAME_KEYS if isinstance(entry.value.get(key), str)]
            said = found.concept_of(entry) or (entry.value[keys[0]] if keys else None)
            if said is None:
                raise ValueError(f"{entry.place}: no name in it; call it name")
            about = entry.value.get(text)
            yield Candidate(clean(said, entry.place), _short(about if isinstance(about, str) else ""))
        else:
            raise ValueError(f"{entry.place}: write a name, or an object with a name")


def _check_name(name: str) -> None:
    if len(name) > LONGEST:
        raise ValueError(f"{quoted(name[:40])} is no name of a topic but a text; put a tab behind its name")


def _short(text: str) -> str:
    """The first sentences of a text."""
    return next(segments(text, MOST_TEXT), "") if text.strip() else ""


def prompts_about(form: Form, candidates: Sequence[Candidate]) -> list[str]:
    """What is asked about each candidate in a form."""
    return [form.text.replace("{x}", one.name) for one in candidates]
