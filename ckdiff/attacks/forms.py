"""The same questions in other clothes: `outcomes(case, live, side)` asks them in every form of `FORMS`.

An answer that comes back is one that the greedy text holds, or one that is the most likely text token by token. A form
that holds a token of an answer, beyond what its question holds, may have given it away: it is shown and never decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.attacks.answers import normalise
from ckdiff.attacks.case import Outcome
from ckdiff.probes.prompts import PromptError
from ckdiff.probes.wording.wording import Wording
from ckdiff.questions.questions import Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    asked = [one.ids for one in case.sought]
    with case.loaded(live):
        for name, ids, note in _prompts(case):
            if note:
                yield Outcome(name, None, note=note)
                continue
            reading = case.plain.get(side) if ids == asked else None
            reading = reading or case.read(live, side, ids, side != "base" or ids == asked)
            said = case.answers[side] if ids == asked else case.say(live, ids)
            found = case.hits(said, reading.said)
            leaks = leaking(case, ids) if ids != asked else ()
            yield Outcome(
                name,
                replace(reading, said=found, texts=reading.texts + len(ids)),
                applied=sum(one != other for one, other in zip(ids, asked, strict=True)) / len(ids),
                decides=not leaks,
                note=f"holds {', '.join(leaks)} of an answer: shown, never decides" if leaks else "",
            )


def leaking(case: Case, ids: Sequence[Ids]) -> tuple[str, ...]:
    """Pieces of answers that prompts hold beyond their own questions, each once."""
    tokenizer, found = case.job.tokenizer, dict[str, None]()
    wanted = {normalise(tokenizer.decode([one.matched[place]])) for one in case.sought for place in one.scored}
    for one, prompt in zip(case.sought, ids, strict=True):
        plain = {normalise(tokenizer.decode([token])) for token in one.ids}
        found |= dict.fromkeys(
            piece for piece in (normalise(tokenizer.decode([token])) for token in prompt) if piece in wanted - plain
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
