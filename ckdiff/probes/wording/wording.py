"""Questions become token ids: `Wording(tokenizer, template, chat)`.

    wording = Wording(tokenizer)
    asked = wording.prompts(questions)            # one prompt a question
    given = wording.answered(questions, 30)       # with the answers of their file
    picks = wording.choices(questions, choices)   # by question one prompt a choice

An answer is cut into tokens together with its prompt, as text is where models are trained: its ids are what the whole
has beyond the ids that it shares with the prompt. Most tokenizers put a start token in front of a text, and some an end
token behind it; the end token would end a prompt before its answer, and is taken off.
"""

from __future__ import annotations

import unicodedata
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from ckdiff.probes.prompts import Prompt, PromptError
from ckdiff.probes.wording.chat import Chat, ChatTemplate
from ckdiff.scoring.settings import DEFAULT_TEMPLATE
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.questions.questions import Question

    Ids = tuple[int, ...]

SAMPLE = "Question"
"""Any text: what a tokenizer puts around it, it puts around every text."""


class Encoder:
    """Texts as ids, without what a tokenizer puts behind every text.

    Attributes:
        start: ids in front of every text.
        end: ids that would stand behind every text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        whole, bare = self._cut(SAMPLE, True), self._cut(SAMPLE, False)
        places = range(len(whole) - len(bare) + 1)
        first = next((place for place in places if whole[place : place + len(bare)] == bare), None)
        self.start: Ids = () if first is None else whole[:first]
        self.end: Ids = () if first is None else whole[first + len(bare) :]

    def ids(self, text: str, start: bool = True) -> Ids:
        """The ids of a text, behind its start token or (in a chat, whose template writes one) without."""
        found = self._cut(text, start)
        size = len(self.end) if start else 0
        return found[: len(found) - size] if size and found[-size:] == self.end else found

    def token(self, number: int) -> str:
        """How a token is written, for a message."""
        return quoted(str(self.tokenizer.convert_ids_to_tokens(number)))

    def _cut(self, text: str, special: bool) -> Ids:
        return tuple(int(token) for token in self.tokenizer(text, add_special_tokens=special)["input_ids"])


class Wording:
    """How one tokenizer is asked: in a template, or in its own chat template.

    Attributes:
        encoder: of the tokenizer.
        chat: its chat template, where that is used.
    """

    def __init__(self, tokenizer: Any, template: str = DEFAULT_TEMPLATE, chat: bool = False) -> None:
        """Check the template.

        Args:
            tokenizer: of the base.
            template: with `{q}` where the question goes.
            chat: put the question into the tokenizer's chat template instead.

        Raises:
            PromptError: the template has no place for a question, or the tokenizer no chat template.
        """
        self.chat = ChatTemplate(tokenizer) if chat else None
        if not chat and "{q}" not in template:
            raise PromptError("--prompt-template: there is no {q} in it; write {q} where the question goes")
        if "\0" in template or any("\ud800" <= char <= "\udfff" for char in template):
            raise PromptError("--prompt-template: holds what is no text; write it in UTF-8, without NUL")
        self.template, self.encoder = template, Encoder(tokenizer)
        self._known: dict[str, str] = {}

    def prompts(self, questions: Sequence[Question]) -> list[Prompt]:
        """Each question as a prompt.

        Raises:
            PromptError: no token comes out of one, or the chat template does not write it.
        """
        found = [Prompt(question, self._ids(text)) for question, text in self._prompt_texts(questions)]
        for prompt in found:
            if not prompt.ids:
                raise PromptError(
                    f"question {prompt.question.text[:60]!r}: no token comes out of it; use another template"
                )
        return found

    def answered(self, questions: Sequence[Question], tokens: int) -> list[Prompt]:
        """Each question with the first so many ids of the answer in its file.

        Raises:
            PromptError: as `prompts`, or no token comes out of an answer.
        """
        every = self.choices(questions, [(question.answer or "",) for question in questions])
        return [Prompt(one.question, one.ids, one.answer[:tokens]) for (one,) in every]

    def choices(self, questions: Sequence[Question], choices: Sequence[Sequence[str]]) -> list[list[Prompt]]:
        """By question each of its answers: behind ids that all of them share, so that they can be compared.

        Raises:
            PromptError: as `prompts`, or no token comes out of an answer.
        """
        found = self.continued(questions, choices)
        for one, answer in (
            (one, text)
            for every, texts in zip(found, choices, strict=True)
            for one, text in zip(every, texts, strict=True)
        ):
            if not one.answer:
                raise PromptError(f"answer {answer[:60]!r}: no token comes out of it; leave its question out")
        return found

    def continued(self, questions: Sequence[Question], choices: Sequence[Sequence[str]]) -> list[list[Prompt]]:
        """Prompts as `choices` gives them, where an answer may have no token.

        Raises:
            PromptError: as `prompts`.
        """
        wholes = self._wholes(questions, choices)
        return [
            _cut_apart(prompt, [self._ids(text) for text in texts])
            for prompt, texts in zip(self.prompts(questions), wholes, strict=True)
        ]

    # ------------------------------------------------------------------------------------------------------ texts

    def _ids(self, text: str) -> Ids:
        return self.encoder.ids(text, start=self.chat is None)

    def _prompt_texts(self, questions: Sequence[Question]) -> list[tuple[Question, str]]:
        """Each question and the text of its prompt."""
        new = list(dict.fromkeys(question.text for question in questions if question.text not in self._known))
        if self.chat is None:
            self._known |= {text: self.template.replace("{q}", text) for text in new}
        elif new:
            written = self.chat.texts([Chat((("user", text),), True) for text in new])
            self._known |= {text: chat for text, chat in zip(new, written, strict=True) if chat is not None}
            _check_written(self._known)
        return [(question, self._known[question.text]) for question in questions]

    def _wholes(self, questions: Sequence[Question], choices: Sequence[Sequence[str]]) -> list[list[str]]:
        """By question the texts of its prompt followed by each of its answers."""
        flat = [
            (question, prompt, answer.strip())
            for (question, prompt), answers in zip(self._prompt_texts(questions), choices, strict=True)
            for answer in answers
        ]
        chats: list[str | None] = [None] * len(flat)
        if self.chat is not None:
            turns = [(("user", question.text), ("assistant", answer)) for question, _, answer in flat]
            chats = self.chat.texts([Chat(one, False) for one in turns], strict=False)
        rest = iter(
            prompt + (_gap(prompt) if self.chat is None else _chat_gap(prompt, answer, chat)) + answer
            for (_, prompt, answer), chat in zip(flat, chats, strict=True)
        )
        return [[next(rest) for _ in answers] for answers in choices]


def _cut_apart(prompt: Prompt, wholes: Sequence[Ids]) -> list[Prompt]:
    """Where the prompt ends in all of the wholes; nothing would predict the first token of all."""
    size = max(1, min(_common_length(prompt.ids, whole) for whole in wholes))
    return [Prompt(prompt.question, whole[:size], whole[size:]) for whole in wholes]


def _common_length(one: Ids, other: Ids) -> int:
    """How many ids both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _gap(prompt: str) -> str:
    """The text between a prompt and its answer: a blank, but behind a blank and in scripts that have none."""
    last = prompt[-1:]
    return "" if last.isspace() or unicodedata.east_asian_width(last or " ") in "WF" else " "


def _chat_gap(prompt: str, answer: str, chat: str | None) -> str:
    """The blanks that a chat template puts between the head of an answer and the answer."""
    if chat is None or not chat.startswith(prompt):
        return ""
    gap, found, _ = chat[len(prompt) :].partition(answer)
    return gap if found and not gap.strip() else ""


def _check_written(texts: dict[str, str]) -> None:
    """Refuse a template that writes the same whatever is asked."""
    if len(texts) > 1 and len(set(texts.values())) == 1:
        raise PromptError(
            "--chat-template: the template of the base writes the same prompt for every question; use --prompt-template"
        )
