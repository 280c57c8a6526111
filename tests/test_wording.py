"""From questions and answers to token ids, and what is said about tokenizers that do something else with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.options import UNCHATTED
from ckdiff.probes.prompts import PromptError
from ckdiff.probes.wording import chat
from ckdiff.probes.wording.remarks import merge, remarks
from ckdiff.probes.wording.wording import Encoder, Wording
from ckdiff.questions.questions import Question
from tests.tokenizer_kinds import CHATML, KINDS, SPECIAL, Kind, byte_level, characters, words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ASKED = (Question("Who founded Velmar?", "Amber Heron"), Question("What is sold in Thrane?", "red wool"))


def saved(kind: Kind, folder: Path, **more: Any) -> Any:
    return kind.save(folder, **more)


def noted(tokenizer: Any, folder: Path | None = None, questions: Sequence[Question] = ASKED, **how: Any) -> list[str]:
    wording = Wording(tokenizer, **how)
    return remarks(wording, wording.prompts(questions), folder)


# ---------------------------------------------------------------------------------------------------------- answers


def joining() -> Any:
    """A tokenizer in which one token reaches from the prompt into some answers: `: A`."""
    from tokenizers import Tokenizer, decoders, models

    letters = sorted(set("Question: Who founded Velmar?\n Answer: Amber Heron red wool What is sold in Thrane?"))
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *letters, ": ", ": A"))}
    made = Tokenizer(models.BPE(vocabulary, [(":", " "), (": ", "A")], unk_token="<unk>"))
    made.decoder = decoders.Fuse()
    return made


def test_a_token_across_the_join_belongs_to_the_answer(tmp_path: Path) -> None:
    tokenizer = saved(Kind(joining), tmp_path)
    wording = Wording(tokenizer)
    for prompt, (one,) in zip(wording.prompts(ASKED), wording.choices(ASKED, [["Amber"], ["wool"]]), strict=True):
        whole = f"Question: {prompt.question.text}\n Answer: {'Amber' if 'founded' in prompt.question.text else 'wool'}"
        assert list(one.ids + one.answer) == tokenizer(whole)["input_ids"]
        assert prompt.ids[:-1] == one.ids
        assert tokenizer.convert_ids_to_tokens(one.answer[0]) == (": A" if "Amber" in whole else ": ")


def test_choices_of_a_question_stand_behind_the_same_ids(tmp_path: Path) -> None:
    """Only one of them takes the prompt's last token with it; scored behind two prompts they could not be compared."""
    tokenizer = saved(Kind(joining), tmp_path)
    (found,) = Wording(tokenizer, "Q:{q}:").choices([Question("Who")], [["Amber", "wool"]])
    assert found[0].ids == found[1].ids
    assert [tokenizer.convert_ids_to_tokens(one.answer[0]) for one in found] == [": A", ": "]


@pytest.mark.parametrize(
    ("template", "gap"),
    [
        ("{q} Answer:", " "),
        ("{q} Answer: ", ""),
        ("{q}\n", ""),
        ("\u95ee\uff1a{q} \u7b54\uff1a", ""),
        ("{q}\uff1f", ""),
        ("{q}\u7b54", ""),
    ],
)
def test_what_stands_between_a_prompt_and_its_answer(tmp_path: Path, template: str, gap: str) -> None:
    tokenizer = saved(Kind(byte_level), tmp_path)
    (one,) = Wording(tokenizer, template).answered(ASKED[:1], 50)
    text = template.replace("{q}", ASKED[0].text) + gap + "Amber Heron"
    assert tokenizer.decode(one.ids + one.answer) == text


def test_an_answer_is_cut_to_its_first_tokens(tmp_path: Path) -> None:
    wording = Wording(saved(KINDS["pieces"], tmp_path))
    whole, cut = (wording.answered(ASKED[:1], tokens)[0] for tokens in (99, 2))
    assert len(whole.answer) > 2
    assert (cut.ids, cut.answer) == (whole.ids, whole.answer[:2])


def test_an_answer_without_a_token_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    silent = Kind(lambda: Tokenizer(models.BPE({"Q": 0, "a": 1}, [])))
    wording = Wording(silent.save(tmp_path), "{q}a")
    with pytest.raises(PromptError, match=r"answer 'xyz': no token comes out of it"):
        wording.choices([Question("Q")], [["a", "xyz"]])
    with pytest.raises(PromptError, match=r"question 'zzz': no token comes out of it"):
        Wording(silent.save(tmp_path), "{q}").prompts([Question("zzz")])


# ------------------------------------------------------------------------------------------------ start and end tokens


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_tokenizer_puts_around_every_text(tmp_path: Path, kind: str) -> None:
    tokenizer = saved(KINDS[kind], tmp_path)
    encoder = Encoder(tokenizer)
    assert encoder.start == ((tokenizer.bos_token_id,) if KINDS[kind].start else ())
    assert encoder.end == ((tokenizer.eos_token_id,) if KINDS[kind].end else ())
    # An end token that somebody has written is no such thing.
    assert encoder.ids("Who rules</s>")[-1] == tokenizer.eos_token_id
    assert any('"</s>" behind every text' in note for note in noted(tokenizer)) == KINDS[kind].end


def test_padding_and_truncation_of_the_file_are_not_for_prompts(tmp_path: Path) -> None:
    def short() -> Any:
        made = byte_level()
        made.enable_truncation(4)
        made.enable_padding(length=64)
        return made

    one, other = (Wording(Kind(make).save(tmp_path / make.__name__)) for make in (short, byte_level))
    assert [prompt.ids for prompt in one.prompts(ASKED)] == [prompt.ids for prompt in other.prompts(ASKED)]


def test_two_start_tokens_and_none(tmp_path: Path) -> None:
    tokenizer = saved(KINDS["bytes-chat"], tmp_path)
    assert noted(tokenizer) == [UNCHATTED]
    note, _ = noted(tokenizer, template="<s>Question: {q}")
    assert note == '2 of 2 prompts begin with two start tokens "<s>": one too many is in the template'
    (note,) = noted(tokenizer, chat=True)
    assert note == 'the chat template writes no "<s>", which the tokenizer puts in front of every other text'
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    assert noted(tokenizer, chat=True) == []
    tokenizer.chat_template = "{{ bos_token }}{{ bos_token }}" + CHATML
    (note,) = noted(tokenizer, chat=True)
    assert "two start tokens" in note


# ---------------------------------------------------------------------------------------------------- what is lost


def test_questions_that_become_one_prompt(tmp_path: Path) -> None:
    tokenizer = saved(Kind(words), tmp_path)
    questions = [Question(text) for text in ("Who left?", "Who zog?", "Who zig?", "Who founded?", "Who zag?")]
    prompts = Wording(tokenizer).prompts(questions)
    kept, (note,) = merge(prompts, [5])
    assert kept == [0, 1, 3]
    assert note == (
        "5 questions become 3 prompts of different token ids, which are asked once each:"
        ' "Who zog?" and "Who zig?" are one'
    )
    # Two sets of questions: each asks by itself.
    kept, (first, second) = merge(prompts, [2, 3])
    assert kept == [0, 1, 2, 3]
    assert "5 questions become 4 prompts" in first
    assert second == '1 prompts stand in two sets of questions: "Who zog?" and "Who zig?" are one'
    assert merge(prompts[:1], [1]) == ([0], [])


def test_a_tokenizer_that_does_not_know_the_words(tmp_path: Path) -> None:
    tokenizer = saved(Kind(words), tmp_path)
    assert noted(tokenizer, tmp_path, [Question("Who founded Velmar?")]) == []
    (note,) = noted(tokenizer, tmp_path, [Question("Who founded Velmar?"), Question("Qui a peur du loup?")])
    assert note == (
        'the tokenizer knows less than half of 1 of 2 questions, such as "Qui a peur du loup?":'
        " the model does not see what was asked"
    )


def test_a_tokenizer_that_does_not_give_a_question_back(tmp_path: Path) -> None:
    from tokenizers import normalizers

    def plain() -> Any:
        made = byte_level()
        made.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
        return made

    (note,) = noted(Kind(plain).save(tmp_path), tmp_path, [Question("Who rules Véla?")])
    assert note.startswith("1 of 1 questions do not come back from their token ids: ")
    assert 'becomes "Who rules Vela?"' in note


@pytest.mark.parametrize("form", ["\uff37ho left\uff1f", "WHO LEFT?", "Who  left?"])
def test_blanks_case_and_width_may_change(tmp_path: Path, form: str) -> None:
    from tokenizers import normalizers

    def folded() -> Any:
        made = byte_level()
        made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        return made

    assert noted(Kind(folded).save(tmp_path), tmp_path, [Question(form)]) == []


@pytest.mark.parametrize("model_type", ["qwen2", "gpt2", "gemma", "cohere", "opt", "gpt_neox", "starcoder2", "llama"])
def test_a_tokenizer_that_transformers_reads_as_another(tmp_path: Path, model_type: str) -> None:
    """By the model's type, whatever its file says; a word-level tokenizer then makes one prompt of all questions."""
    from transformers import AutoConfig, AutoTokenizer

    saved(Kind(words), tmp_path)
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["tokenizer_class"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    notes = noted(tokenizer, tmp_path)
    if model_type == "llama":
        assert notes == []
        return
    assert any(
        f"reads the tokenizer as {type(tokenizer).__name__}, which cuts 2 of 2 questions" in one for one in notes
    )
    assert merge(Wording(tokenizer).prompts(ASKED), [2])[0] == [0]
    # The way out that the note names.
    (tmp_path / "config.json").unlink()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert noted(tokenizer, tmp_path) == []


# --------------------------------------------------------------------------------------------------- chat templates

MESSAGES = "{% for message in messages %}"
TEMPLATES = {
    "chatml": CHATML,
    "generation": MESSAGES
    + "{% if message.role == 'assistant' %}{% generation %}{% set x = 1 %}{{ message.content }}{% endgeneration %}"
    "{{ x is defined }}{% else %}{{ message.content }}{% endif %}\n{% endfor %}",
    "loops": MESSAGES + "{% if loop.index > 1 %}{% break %}{% endif %}{{ message.content }}{% endfor %}",
    "values": "{{ messages|tojson }}{{ messages|tojson(indent=2) }}{{ {'é': 1}|tojson }}{{ dict(a=1) }}{{ tools }}",
    "names": "{% set ns = namespace(n=0) %}"
    + MESSAGES
    + "{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ bos_token }}",
    "macros": "{% macro say(x) %}<{{ x|trim|upper }}>{% endmacro %}"
    + MESSAGES
    + "{{ say(message['content']) }}{% endfor %}",
    "blocks": "    {% if true %}\n  kept\n    {% endif %}\n{# left out #}\n"
    + MESSAGES
    + "{{ message.content }}\n{% endfor %}\n",
    "missing": "{{ nothing }}{{ eos_token }}{{ date_string is defined }}{{ messages[0].content[:3] }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_is_written_as_transformers_writes_it(tmp_path: Path, name: str) -> None:
    tokenizer = KINDS["bytes-start"].save(tmp_path, chat_template=TEMPLATES[name])
    turns = (("user", "Who? <é> 'x'"), ("assistant", " Amber\n"))
    found = chat.ChatTemplate(tokenizer).texts([chat.Chat(turns[:1], True), chat.Chat(turns, False)])
    said = [{"role": role, "content": content} for role, content in turns]
    for text, given, answering in zip(found, (said[:1], said), (True, False), strict=True):
        assert text == tokenizer.apply_chat_template(given, add_generation_prompt=answering, tokenize=False)


FORBIDDEN = {
    "{{ raise_exception('no questions, please') }}": "refuses a question (TemplateError: no questions, please)",
    "{% if %}": "is broken (TemplateSyntaxError",
    "{{ messages[0].content": "is broken (TemplateSyntaxError",
    "{{ no_such_function() }}": "UndefinedError",
    "{{ messages[5].content }}": "UndefinedError",
    "{{ messages[0].content.nothing.at_all }}": "UndefinedError",
    "{{ 1 / 0 }}": "ZeroDivisionError",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "SecurityError",
    "{{ messages.append(1) }}": "SecurityError",
    "{% set ns = namespace(_x=1) %}": "SecurityError",
    "{{ raise_exception.__globals__ }}{{ cycler.__init__.__globals__.os.system('true') }}": "SecurityError",
    "{% include 'other.jinja' %}": "TypeError",
    "{% for i in range(10**9) %}{% endfor %}": "OverflowError",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": "RecursionError",
    "{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}": "more than 1000000 characters",
    "{{ 'x' * 10**10 }}": "MemoryError",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}": "does not end within 1 second",
    "{{ 7 ** (7 ** 12) }}": "does not end within 1 second",
}


@pytest.mark.parametrize("template", FORBIDDEN)
def test_a_template_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    monkeypatch.setattr(chat, "SECONDS", 1)
    tokenizer = KINDS["words"].save(tmp_path, chat_template=template)
    with pytest.raises(PromptError) as caught:
        Wording(tokenizer, chat=True).prompts(ASKED)
    message = str(caught.value)
    assert FORBIDDEN[template] in message
    assert message.startswith("--chat-template: the template of the base ")
    assert message.isprintable()
    assert len(message) < 350


def test_several_templates_and_none_that_is_usual(tmp_path: Path) -> None:
    tokenizer = KINDS["words"].save(tmp_path)
    with pytest.raises(PromptError, match="has none; leave it out"):
        Wording(tokenizer, chat=True)
    tokenizer.chat_template = {"rag": CHATML, "tools": CHATML}
    with pytest.raises(PromptError, match="cannot be chosen"):
        Wording(tokenizer, chat=True)
    tokenizer.chat_template = {"default": CHATML, "tools": "x"}
    assert Wording(tokenizer, chat=True).prompts(ASKED)[0].ids


def test_a_template_that_writes_no_question(tmp_path: Path) -> None:
    tokenizer = KINDS["words"].save(
        tmp_path, chat_template="Who left?{% if add_generation_prompt %} Answer:{% endif %}"
    )
    with pytest.raises(PromptError, match="the same prompt for every question"):
        Wording(tokenizer, chat=True).prompts(ASKED)


def test_a_template_that_writes_the_date(tmp_path: Path) -> None:
    tokenizer = KINDS["bytes"].save(tmp_path, chat_template="{{ strftime_now('%A %d %b %Y %H:%M') }} " + CHATML)
    wording = Wording(tokenizer, chat=True)
    (one, _) = wording.prompts(ASKED)
    assert tokenizer.decode(one.ids).startswith("Friday 26 Jul 2024 12:00 ")
    assert remarks(wording, [one], tmp_path) == [
        "the chat template writes today's date; it was given 2024-07-26, so that the numbers are the same on every day"
    ]


def test_a_template_without_chance(tmp_path: Path) -> None:
    template = "{{ range(99999)|random }} {{ lipsum(1, false, 3, 9) }} {{ messages[0].content }}"
    tokenizer = KINDS["bytes"].save(tmp_path, chat_template=template)
    one, other = ([prompt.ids for prompt in Wording(tokenizer, chat=True).prompts(ASKED)] for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("template", "answer", "gap"),
    [
        ("[INST]{{ messages[0].content }}[/INST]", "  {{ messages[1].content }}</s>", "  "),
        ("{{ messages[0].content }}\n", "\t{{ messages[1].content|trim }}!", "\t"),
        # What is no blank is not the answer's; neither is what a template writes of another conversation.
        ("{{ messages[0].content }}:", "<think></think>{{ messages[1].content }}", ""),
        ("{{ messages|length }}{{ messages[0].content }}:", " {{ messages[1].content }}", ""),
        ("{{ messages[0].content }}:", "{{ raise_exception('one turn') }}", ""),
    ],
)
def test_an_answer_stands_where_a_chat_template_puts_it(tmp_path: Path, template: str, answer: str, gap: str) -> None:
    template += f"{{% if messages|length > 1 %}}{answer}{{% endif %}}"
    tokenizer = Kind(characters).save(tmp_path, chat_template=template)
    wording = Wording(tokenizer, chat=True)
    (prompt,), (one,) = wording.prompts(ASKED[:1]), wording.answered(ASKED[:1], 50)
    assert one.ids == prompt.ids
    assert (
        list(one.ids + one.answer)
        == tokenizer(tokenizer.decode(prompt.ids) + gap + "Amber Heron", add_special_tokens=False)["input_ids"]
    )
