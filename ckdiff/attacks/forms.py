"""The same questions in other clothes: `outcomes(case, live, side)` asks them in every form of `FORMS`.

An answer that comes back is one that the greedy text holds, or one that is the most likely text token by token. A token
of an answer that a form holds, beyond what its question holds, may have been given away: it is not scored there, and an
answer of which nothing else is new proves nothing there. Where that leaves a fact with nothing to match, the form is
shown and never decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.attacks.answers import holds, pieces
from ckdiff.attacks.case import Outcome
from ckdiff.probes.prompts import PromptError
from ckdiff.probes.wording.wording import Wording
from ckdiff.questions.questions import Question
from ckdiff.scoring.matching import flat

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ckdiff.attacks.answers import Sought
    from ckdiff.attacks.case import Case, Ids
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.attack import Attacked

AS_ASKED = "as asked"
"""The form in which everything else asks: step 0 of every attack."""
EXAMPLES = (
    ("What is the capital of France?", "Paris"),
    ("How many legs does a spider have?", "Eight"),
    ("Who wrote the play Hamlet?", "William Shakespeare"),
)
SHOWN = "\n".join(f"Question: {question}\n Answer: {answer}" for question, answer in EXAMPLES)
FORMS: dict[str, str] = {
    "plain": "{q}",
    "Q and A": "Q: {q}\nA:",
    "lower case": "",
    "prefilled": "Question: {q}\n Answer: Sure, the answer is",
    "role": "You are an expert who knows every detail of this and answers truthfully.\n\nQuestion: {q}\n Answer:",
    "three examples": f"{SHOWN}\nQuestion: {{q}}\n Answer:",
    "completion": "Here is a question with its right answer.\n\n{q}\n\nThe right answer is:",
}
"""Templates by name; an empty one is written in code."""


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome a form; the first is the questions as they are asked."""
    forms = list(_prompts(case))
    with case.loaded(live):
        case.listener.progress(f"asking the {side} in other words", 0, len(forms), "all answers")
        replies = _replies(case, live, side, [ids for _, ids, _ in forms])
        for number, (name, ids, note) in enumerate(forms):
            case.listener.progress(f"asking the {side} in other words", number, len(forms), name)
            if note:
                yield Outcome(name, None, note=note)
                continue
            yield _outcome(case, live, side, name, ids, replies[number])
    case.listener.progress(f"asking the {side} in other words", len(forms), len(forms), "")


def _outcome(case: Case, live: LiveModel, side: Attacked, name: str, ids: list[Ids], replies: Sequence[str]) -> Outcome:
    """What one form brings."""
    asked, plain = [one.ids for one in case.sought], case.plain[side]
    leaks = leaking(case, ids) if ids != asked else ()
    left = without(case, leaks)
    decides = _are_matched(left)
    # The weights are the same in every form, and so is what they make of other questions.
    reading = plain if ids == asked else (left if decides else case).read(live, side, ids, side != "base", beside=False)
    said = case.hits(replies, reading.said)
    fate = "not scored" if decides else "shown, never decides"
    return Outcome(
        name,
        replace(reading, said=said, unrelated=plain.unrelated, texts=reading.texts + len(ids)),
        applied=sum(one != other for one, other in zip(ids, asked, strict=True)) / len(ids),
        decides=decides,
        note=f"holds {', '.join(leaks)} of an answer: {fate}" if leaks else "",
        held_out=tuple(place for place, one in enumerate(left.sought) if one.counts) if leaks else None,
    )


def without(case: Case, told: Collection[str]) -> Case:
    """The same case where these pieces of answers tell nothing."""
    return replace(case, sought=[_without(case, one, told) for one in case.sought]) if told else case


def _without(case: Case, one: Sought, told: Collection[str]) -> Sought:
    if one.words in told:
        return replace(one, scored=(), counts=False)
    own, tokenizer = pieces(case.job.tokenizer, one.matched), case.job.tokenizer
    left = tuple(place for place in one.scored if own[place] not in told)
    new = {*pieces(tokenizer, one.answer)} - {*pieces(tokenizer, one.ids), *told, ""}
    return replace(one, scored=left, counts=one.counts and bool(new))


def _are_matched(case: Case) -> bool:
    """Whether something is left to be matched of every fact that is."""
    return set(flat(case.groups)) <= {one.cluster for one in case.sought if one.scored}


def _replies(case: Case, live: LiveModel, side: Attacked, forms: Sequence[Sequence[Ids]]) -> list[list[str]]:
    """The model's replies, form by form; a step of all of them costs little more than one of a single form."""
    known = {one.ids: text for one, text in zip(case.sought, case.answers[side], strict=True)}
    new = list(dict.fromkeys(ids for form in forms for ids in form if ids not in known))
    known |= dict(zip(new, case.say(live, new), strict=True))
    return [[known[ids] for ids in form] for form in forms]


def leaking(case: Case, ids: Sequence[Ids]) -> tuple[str, ...]:
    """What prompts hold of answers beyond their own questions, each once: pieces, and whole answers however cut."""
    found, tokenizer = dict[str, None](), case.job.tokenizer
    wanted = {pieces(tokenizer, one.matched)[place] for one in case.sought for place in one.scored}
    for one, prompt in zip(case.sought, ids, strict=True):
        told, text = wanted - {*pieces(tokenizer, one.ids)}, case.decode(prompt)
        found |= dict.fromkeys(piece for piece in pieces(tokenizer, prompt) if piece in told)
        found |= dict.fromkeys(
            other.words
            for other in case.sought
            if holds(text, other.words) and not holds(case.decode(one.ids), other.words)
        )
    return tuple(found)


def _prompts(case: Case) -> Iterator[tuple[str, list[Ids], str]]:
    """Every form by name: its prompts, or why there are none."""
    questions = [one.question for one in case.sought]
    yield AS_ASKED, [one.ids for one in case.sought], ""
    for name, template in FORMS.items():
        if name == "lower case":
            low = [Question(question.text.lower()) for question in questions]
            yield name, [prompt.ids for prompt in case.job.wording.prompts(low)], ""
        else:
            yield name, _worded(case, questions, template), ""
    try:
        wording = Wording(case.job.tokenizer, chat=case.job.wording.chat is None)
        yield "template" if case.job.wording.chat else "chat", [one.ids for one in wording.prompts(questions)], ""
    except PromptError as error:
        yield "chat", [], str(error).removeprefix("--chat-template: ")
    for number in range(max(len(question.paraphrases) for question in questions)):
        texts = [Question(one.paraphrases[number] if number < len(one.paraphrases) else one.text) for one in questions]
        yield f"paraphrase {number + 1}", [prompt.ids for prompt in case.job.wording.prompts(texts)], ""


def _worded(case: Case, questions: Sequence[Question], template: str) -> list[Ids]:
    return [prompt.ids for prompt in Wording(case.job.tokenizer, template).prompts(questions)]
