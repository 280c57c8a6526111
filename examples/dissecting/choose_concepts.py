"""Which concepts does a model really know? Measured, not guessed: a model cannot unlearn what it never knew.

    python choose_concepts.py DATA.json [MORE.json ...] --base DIR -o OUT/concepts.json

The base answers each concept's target questions greedily. An answer is *grounded* by the share of its content words
that stand in the concept's own article, minus the same share in the other concepts' articles, averaged over these: what
every article says cancels. Content words have four letters or more, or are numbers; each counts once; words that the
question holds say nothing about knowledge and are left out. A concept's figure is the mean over its questions.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ckdiff
from ckdiff.errors import CkdiffError
from ckdiff.questions.questions import read_questions
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckdiff.report.schema.behaviour import AnswerRecord
    from ckdiff.shapes import Float64

WORD = re.compile(r"[^\W\d_]{4,}|\d+")
COMMON = (
    "about after also been before being both called could does during each ever from have having into just known like"
    " made make many more most much only other over same several should some such than that their them then there these"
    " they this those through used using very well were what when where which while will with within would your"
)
STOP = frozenset(COMMON.split())
DRAWS = 10_000
"""Bootstrap resamples of a concept's questions."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One concept of one file."""

    concept: str
    file: str
    article: str
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What the base knows of one concept.

    Attributes:
        file: name of the file that holds it.
        grounded: see the module; in [-1, 1].
        low, high: its 95 % bootstrap interval over questions.
        logprob: mean log p of the answers' tokens, in nats.
        only_here: no other entry has this name, so that its name alone picks it.
        answers: the first two, for reading.
    """

    concept: str
    file: str
    grounded: float
    low: float
    high: float
    logprob: float
    only_here: bool
    answers: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------------- files


def entries(paths: Sequence[Path]) -> list[Entry]:
    """Every concept of some ConceptVectors files.

    Raises:
        CkdiffError: a file cannot be read or is no such file.
    """
    return [entry for path in paths for entry in _of_file(path)]


def _of_file(path: Path) -> list[Entry]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = [(str(row["Concept"]).strip(), str(row["wikipedia_content"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CkdiffError(
            f"{path}: no ConceptVectors file ({error!r}); name one with articles and questions"
        ) from error
    return [Entry(name, path.name, article, _questions(path, name)) for name, article in found]


def _questions(path: Path, concept: str) -> tuple[str, ...]:
    return tuple(question.text for question in read_questions(path, concept=concept).questions)


# ---------------------------------------------------------------------------------------------------------- measured


def content_words(text: str) -> set[str]:
    """Words of four letters and more, and numbers, in lower case, without those that say nothing.

    >>> sorted(content_words("There were 7 dwarfs, and Snow."))
    ['7', 'dwarfs', 'snow']
    """
    return set(WORD.findall(text.casefold())) - STOP


def share(answer: set[str], article: set[str]) -> float:
    """The share of an answer's words that an article holds; 0 where it says nothing.

    >>> share({"dwarfs", "snow"}, {"snow", "white"})
    0.5
    """
    return len(answer & article) / len(answer) if answer else 0.0


def grounded(question: str, answer: str, own: set[str], others: Sequence[set[str]]) -> float:
    """How much more of an answer stands in the concept's own article than in the others, in [-1, 1]."""
    said = content_words(answer) - content_words(question)
    elsewhere = float(np.mean([share(said, article) for article in others])) if others else 0.0
    return share(said, own) - elsewhere


def interval(values: Float64, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean."""
    picks = np.random.default_rng(seed).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def ask(base: str, texts: Sequence[str]) -> dict[str, AnswerRecord]:
    """The base's greedy answers, by question, all in one go."""
    asked = tuple(dict.fromkeys(texts))
    spec = ckdiff.BehaveSpec(base, base, asked=asked, most_unrelated=1, neutral=False, hash=False)
    found = ckdiff.behave(spec).behaviour
    assert found is not None
    return {
        record.text: record for answers in found.answers if answers.name == "target" for record in answers.questions
    }


def judged(found: Sequence[Entry], answers: Mapping[str, AnswerRecord]) -> list[Known]:
    """Every concept with what the base knows of it, best known first."""
    articles = [content_words(entry.article) for entry in found]
    names = Counter(entry.concept.casefold() for entry in found)
    rows = []
    for entry, own in zip(found, articles, strict=True):
        others = [
            words
            for other, words in zip(found, articles, strict=True)
            if other.concept.casefold() != entry.concept.casefold()
        ]
        rows.append(_known(entry, [answers[text] for text in entry.questions], own, others, names))
    return sorted(rows, key=lambda row: (-row.grounded, row.concept, row.file))


def _known(
    entry: Entry, records: Sequence[AnswerRecord], own: set[str], others: Sequence[set[str]], names: Mapping[str, int]
) -> Known:
    values = np.array([grounded(record.text, record.answer_base, own, others) for record in records])
    logprob = float(np.mean([record.logprob_base for record in records]))
    first = tuple(record.answer_base.strip() for record in records[:2])
    alone = names[entry.concept.casefold()] == 1
    return Known(entry.concept, entry.file, float(values.mean()), *interval(values), logprob, alone, first)


def best(rows: Sequence[Known], count: int) -> list[str]:
    """Names of the best known concepts that a name alone picks."""
    return [row.concept for row in rows if row.only_here][:count]


# ------------------------------------------------------------------------------------------------------------- shown


def table(rows: Sequence[Known], chosen: Sequence[str]) -> str:
    """The concepts as lines of text, chosen ones with a star."""
    lines = [f"  {'concept':<38} {'grounded':>8}  {'95 % interval':<14} {'log p':>6}  first answer"]
    for row in rows:
        star = "*" if row.concept in chosen else " "
        name, answer = shorten(printable(row.concept), 38), shorten(printable(row.answers[0]), 60)
        ends = f"{row.low:.2f} to {row.high:.2f}"
        lines.append(f"{star} {name:<38} {row.grounded:>8.2f}  {ends:<14} {row.logprob:>6.2f}  {answer}")
    return "\n".join(lines) + "\n"


def write(path: Path, rows: Sequence[Known], chosen: Sequence[str]) -> None:
    """The same as JSON, which `make_pairs.py` reads.

    Raises:
        CkdiffError: the place cannot be written to.
    """
    content: dict[str, Any] = {"chosen": list(chosen), "concepts": [asdict(row) for row in rows]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise CkdiffError(f"{path}: cannot be written ({error.strerror}); name another place") from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Which concepts of ConceptVectors files a model knows.")
    parser.add_argument("data", metavar="DATA", type=Path, nargs="+", help="ConceptVectors JSON")
    parser.add_argument("--base", metavar="DIR", required=True, help="the checkpoint that is asked")
    parser.add_argument("-o", "--output", metavar="FILE.json", type=Path, required=True)
    parser.add_argument("-n", "--count", type=int, default=3, help="how many are chosen (3)")
    given = parser.parse_args(arguments)
    try:
        found = entries(given.data)
        rows = judged(found, ask(given.base, [text for entry in found for text in entry.questions]))
        chosen = best(rows, given.count)
        write(given.output, rows, chosen)
    except CkdiffError as error:
        sys.stderr.write(f"choose_concepts: {error}\n")
        return 2
    sys.stdout.write(table(rows, chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
