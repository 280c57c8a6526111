"""The questions that a spec names, read and checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.options import check_options
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from ckdiff.calls.specs import BehaveSpec, DepthSpec, ProbeSpec
    from ckdiff.questions.asked import Asked
    from ckdiff.questions.questions import QuestionSet


def read_asked(spec: BehaveSpec) -> Asked:
    """Everything that a spec asks, all files read.

    A file of one concept has its own unrelated questions; other files have none, and the bundled ones are asked.
    """
    from ckdiff.questions.asked import Asked, first_questions, own_unrelated
    from ckdiff.questions.choices import read_choices
    from ckdiff.questions.neutral_texts import neutral_texts, read_texts
    from ckdiff.questions.questions import general_questions, given_questions, read_questions
    from ckdiff.questions.streams import RecordsError

    _check_asked(spec)
    if spec.concept is not None and spec.questions is None:
        raise RecordsError("--concept chooses from a file; name it with --questions")
    check_options(spec, RecordsError)
    target = unrelated = None
    if spec.questions is not None:
        target = read_questions(spec.questions, concept=spec.concept)
        unrelated = own_unrelated(spec.questions, spec.concept) if spec.unrelated is None else None
    elif spec.asked:
        target = given_questions(spec.asked)
    if spec.unrelated is not None:
        unrelated = read_questions(spec.unrelated)
        if target is not None and unrelated.asks_nothing_beside(target):
            # A file of concepts was named for both: it has questions of either kind.
            unrelated = None if spec.questions is None else own_unrelated(spec.questions, spec.concept)
            if unrelated is None:
                raise RecordsError(
                    f"--unrelated: {spec.unrelated} asks nothing that is not asked about what was to be unlearned; name"
                    " questions about other things, or leave it out"
                )
    unrelated = first_questions(unrelated or general_questions(), spec.most_unrelated)
    if target is None:
        note = "no questions about what was to be unlearned were given: nothing is said about it"
        unrelated = replace(unrelated, notes=(*unrelated.notes, note))
    choices = None if spec.choices is None else read_choices(spec.choices)
    holdout = None if spec.holdout is None else read_questions(spec.holdout)
    if isinstance(spec.neutral, bool):
        return Asked(target, unrelated, choices, neutral_texts() if spec.neutral else None, holdout)
    return Asked(target, unrelated, choices, read_texts(spec.neutral), holdout)


def _check_asked(spec: ProbeSpec | DepthSpec | BehaveSpec) -> None:
    from ckdiff.questions.streams import RecordsError

    if spec.questions is not None and spec.asked:
        raise RecordsError("--questions and --question: give one of them")
    for text in spec.asked:
        if _is_file(text):
            raise RecordsError(f"--question {printable(text)}: is a file, and no question; give it with --questions")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a question may be longer than a name can be
        return False


def read_questions_of(spec: ProbeSpec | DepthSpec) -> QuestionSet:
    """The questions of a probe, all files read."""
    from ckdiff.questions.questions import general_questions, given_questions, read_questions
    from ckdiff.questions.streams import RecordsError

    _check_asked(spec)
    if spec.questions is not None:
        return read_questions(spec.questions, concept=spec.concept, unrelated=spec.unrelated)
    if spec.concept is not None or spec.unrelated:
        raise RecordsError("--concept and --ask-unrelated choose from a file; name it with --questions")
    if spec.asked:
        return given_questions(spec.asked)
    found = general_questions()
    note = "no questions were given: general ones were asked, which say nothing about any one topic"
    return replace(found, notes=(*found.notes, note))
