"""The questions of a plan: question files and concepts become topics, each concept looked up in its file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckdiff.campaign.plan.kinds import LONGEST_TOPIC, fits
from ckdiff.campaign.plan.paths import data
from ckdiff.campaign.records import Topic
from ckdiff.errors import CkdiffError
from ckdiff.questions.questions import concepts_in, read_questions
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ckdiff.campaign.plan.kinds import Where


NOTHING = (Topic(""),)


LISTED = 8


CHOOSE = 'choose with concepts = ["A", "B"], or concepts = "all"'


@dataclass(slots=True)
class Shelf:
    """Question files of a plan, each read once.

    Attributes:
        folder: where paths begin.
        concepts: by file, by folded name the names of its concepts.
        whole: files that can be asked as a whole.
    """

    folder: Path
    concepts: dict[Path, dict[str, str]] = field(default_factory=dict)
    whole: set[Path] = field(default_factory=set)

    def names(self, where: Where, path: Path) -> dict[str, str]:
        """The concepts of a file, by folded name."""
        if path not in self.concepts:
            try:
                self.concepts[path] = {_fold(name): name for name in concepts_in(path)}
            except CkdiffError as error:
                raise where.refusal(str(error)) from error
        return self.concepts[path]

    def check_whole(self, where: Where, path: Path) -> None:
        """Refuse a file that cannot be asked as a whole."""
        if path in self.whole:
            return
        try:
            read_questions(path)
        except CkdiffError as error:
            raise where.refusal(str(error).replace("name one with --concept", CHOOSE)) from error
        self.whole.add(path)


@dataclass(frozen=True, slots=True)
class Asked:
    """A table that says what is asked, and where it stands."""

    where: Where
    table: Mapping[str, Any]

    def __post_init__(self) -> None:
        if "concept" in self.table and "concepts" in self.table:
            raise self.where.at("concept").refusal("there is concepts as well; give one of the two")


def topics(own: Asked, default: Asked, shelf: Shelf) -> tuple[Topic, ...]:
    """The topics that a pair is asked about.

    A pair's own question files leave the plan's concepts behind, since a concept is one of a file; a pair's own
    concepts are chosen from the plan's files.

    Raises:
        PlanError: a file cannot be read, holds no such concept, or two topics have one name.
    """
    from_own = "questions" in own.table
    files = own if from_own else default
    chosen = own if from_own or {"concept", "concepts"} & own.table.keys() else default
    key = "concept" if "concept" in chosen.table else "concepts"
    if "questions" not in files.table:
        if key in chosen.table:
            raise chosen.where.at(key).refusal("chooses from a file; name it with questions")
        return NOTHING
    place = files.where.at("questions")
    paths = [data(place, shelf.folder, text) for text in files.table["questions"]]
    if key not in chosen.table:
        return _once(place, [_whole(place, path, shelf) for path in paths])
    place, wanted = chosen.where.at(key), chosen.table[key]
    if wanted is None:
        return _once(place, [topic for path in paths for topic in _all_of(place, path, shelf)])
    names = (wanted,) if key == "concept" else wanted
    return _once(place, [_find_topic(place, name, paths, shelf) for name in names])


def _whole(where: Where, path: Path, shelf: Shelf) -> Topic:
    shelf.check_whole(where, path)
    return Topic(path.stem, path)


def _all_of(where: Where, path: Path, shelf: Shelf) -> list[Topic]:
    names = shelf.names(where, path)
    if not names:
        raise where.refusal(f"{path.name} has no concepts; leave concepts out, and it is asked as a whole")
    return [Topic(name, path, name) for name in names.values()]


def _find_topic(where: Where, name: str, paths: Sequence[Path], shelf: Shelf) -> Topic:
    """The topic of one concept; case does not matter, its file's spelling stands."""
    holding = [path for path in dict.fromkeys(paths) if _fold(name) in shelf.names(where, path)]
    if not holding:
        raise where.refusal(
            f"no concept {quoted(name)} in {_list_names([path.name for path in paths])}; {_near(name, [*paths], shelf)}"
        )
    if len(holding) > 1:
        raise where.refusal(f"{quoted(name)} is in {holding[0].name} and in {holding[1].name}; name one file for it")
    found = shelf.concepts[holding[0]][_fold(name)]
    return Topic(found, holding[0], found)


def _near(name: str, paths: Sequence[Path], shelf: Shelf) -> str:
    """Concepts that are written nearly so, else some of those that there are."""
    names = {folded: known for path in paths for folded, known in shelf.concepts[path].items()}
    if not names:
        return "it has no concepts; leave concepts out, and it is asked as a whole"
    near = difflib.get_close_matches(_fold(name), list(names), LISTED)
    if near:
        return f"near: {_list_names([quoted(names[one]) for one in near])}"
    return f"there are {_list_names([quoted(known) for known in names.values()])}"


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _once(where: Where, found: Sequence[Topic]) -> tuple[Topic, ...]:
    """The topics, if each has a name of its own that can be shown."""
    seen: dict[str, Topic] = {}
    for topic in found:
        if not fits(topic.name, LONGEST_TOPIC):
            raise where.refusal(
                f"{quoted(topic.name)}: not a name for tables and files (at most {LONGEST_TOPIC} printable characters,"
                " no blank at its ends); change it in the file, or the file's name"
            )
        if topic.name in seen:
            raise where.refusal(f"two topics of one name, {quoted(topic.name)}{_both(topic, seen[topic.name])}")
        seen[topic.name] = topic
    return tuple(seen.values())


def _both(one: Topic, other: Topic) -> str:
    if one.questions == other.questions or one.questions is None or other.questions is None:
        return "; name it once"
    return f" ({other.questions} and {one.questions}); ask one of them here, the other in another plan"


def _fold(name: str) -> str:
    """As `read_questions` compares them."""
    return name.strip().casefold()
