"""Answers in scripts without blanks: scored, diffed and recorded by characters, beside chrF for every script."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sacrebleu

from ckdiff import BehaveSpec, ProbeSpec, behave, probe
from ckdiff.audit.verify.behaviour import check_behaviour
from ckdiff.audit.verify.differences import Differences
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.markdown.document import to_markdown
from ckdiff.report.page import to_html
from ckdiff.report.rows.csv import to_csv
from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.terminal.view import to_view
from ckdiff.report.words.behaviour import changes
from ckdiff.report.words.sections import Selection
from ckdiff.scoring.bleu import BLEU, CHRF, answer_bleu, answer_chrf, bleu_signature
from ckdiff.scoring.settings import Settings
from ckdiff.scripts import has_blankless, set_apart
from tests.reports import behaviour, report, same
from tests.test_tables import rendered
from tests.tiny_families import CONFIGS

if TYPE_CHECKING:
    from pathlib import Path


CHANGED = (
    # A sentence in each script, and one character of it to be changed.
    ("Chinese", "维尔马城是由安柏在很久以前建立的。", 6),
    ("Japanese", "ヴェルマはアンバーさんが昔につくった町です。", 8),
    ("Thai", "เวลมาก่อตั้งโดยแอมเบอร์เฮรอนเมื่อนานมาแล้ว", 20),
    ("Lao", "ເວລມາສ້າງຕັ້ງໂດຍອຳເບີດົນນານມາແລ້ວ", 12),
    ("Khmer", "វែលម៉ាត្រូវបានបង្កើតឡើងដោយអំប៊ឺ", 11),
    ("Burmese", "ဗယ်လ်မာကိုအမ်ဘာကတည်ထောင်ခဲ့သည်", 12),
    ("Tibetan", "བོད་ཀྱི་གྲོང་ཁྱེར་འདི་ཨེམ་བར་གྱིས་བཙུགས།", 16),
)


@pytest.mark.parametrize(("script", "text", "place"), CHANGED)
def test_one_character_is_not_a_whole_answer(script: str, text: str, place: int) -> None:
    other = text[:place] + text[0] + text[place + 1 :]
    assert other != text
    assert answer_bleu(other, text, apart=False) < 0.1
    assert 0.6 < answer_bleu(other, text) < 1
    assert 0.6 < answer_chrf(other, text) < 1
    assert answer_bleu(text, text) == answer_chrf(text, text) == 1
    assert has_blankless(text)
    gone, new = ([piece.words for piece in changes(text, other) if piece.kind == kind] for kind in ("gone", "new"))
    assert (len(gone), len(new)) == (1, 1)
    assert len(gone[0]) < 5
    assert "".join(piece.words for piece in changes(text, other) if piece.kind != "new") == text


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("维尔马城由安柏建立。", "维尔马城由青鹭建立。"),
        ("iPhone 15发布于2023年, 价格很高!", "iPhone 15 发布于 2022年, 价格不高!"),
        ("答案是四二", "答案是四十二"),
    ],
)
def test_in_chinese_it_is_sacrebleus_own(answer: str, reference: str) -> None:
    own = sacrebleu.sentence_bleu(answer, [reference], smooth_method="exp", tokenize="zh", use_effective_order=True)
    assert answer_bleu(answer, reference) == pytest.approx(own.score / 100, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    ["Wörter, 3.5 Äpfel!", "Ответ: сорок два", "الجواب هو اثنان", "정답은 마흔둘 입니다", "उत्तर बयालीस है", "a-\nb"],
)
def test_scripts_with_blanks_are_cut_at_blanks(text: str) -> None:
    assert set_apart(text) == text
    assert bleu_signature([text]) == BLEU
    other = f"{text} x y"
    assert answer_bleu(other, text) == answer_bleu(other, text, apart=False)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("the cat sat", "the cat sits"),
        ("a", "b"),
        ("ab", "abc"),
        ("维尔马城", "维尔玛城"),
        ("Да", "да"),
        ("x" * 9, "x y z"),
    ],
)
def test_chrf_is_sacrebleus(answer: str, reference: str) -> None:
    assert answer_chrf(answer, reference) == pytest.approx(sacrebleu.sentence_chrf(answer, [reference]).score / 100)


@pytest.mark.parametrize(
    ("answer", "reference", "value"), [("", " ", 1.0), ("a", "", 0.0), ("", "a", 0.0), (" a b\n", "a b", 1.0)]
)
def test_chrf_of_empty_texts(answer: str, reference: str, value: float) -> None:
    assert answer_chrf(answer, reference) == value


def test_the_recorded_signature_is_sacrebleus() -> None:
    metric = sacrebleu.metrics.chrf.CHRF()
    metric.sentence_score("a", ["a"])
    assert str(metric.get_signature()) == CHRF


# ----------------------------------------------------------------------------------------------------------- reports


def saying(root: Path, vocabulary: tuple[str, ...], *answers: tuple[str, ...]) -> BehaveSpec:
    """A pair of models that say the same to whatever they are asked: of each the words of its answer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    known = ("<pad>", "<s>", "</s>", "<unk>", "Question", "Answer", ":", "Who", "What", *vocabulary)
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Whitespace(), decoders.Fuse()
    for side, said in zip(("base", "unlearned"), answers, strict=True):
        config = AutoConfig.for_model("llama", **(CONFIGS["llama"] | {"hidden_size": 64, "vocab_size": 64}))
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.mul_(0 if "proj" in name else 1)
            model.lm_head.weight.zero_()
            model.model.embed_tokens.weight.copy_(torch.eye(64))
            # What follows each token; every prompt ends in a colon.
            for before, after in zip((":", *said), (*said, "</s>"), strict=True):
                model.lm_head.weight[known.index(after), known.index(before)] = 1
        model.save_pretrained(root / side)
        named: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        PreTrainedTokenizerFast(tokenizer_object=made, **named).save_pretrained(root / side)
    settings = Settings(device="cpu", tokens=20, variants=("open",), window=1)
    (root / "unrelated.txt").write_text("Who\nWhat :")
    (root / "target.txt").write_text("What\nWho : :")
    pair = str(root / "base"), str(root / "unlearned")
    return BehaveSpec(
        *pair, root / "target.txt", unrelated=root / "unrelated.txt", neutral=False, settings=settings, hash=False
    )


CHINESE = tuple("维尔马城由安柏建立于海边")


def test_a_chinese_answer_is_scored_by_characters_and_that_is_recorded(tmp_path: Path) -> None:
    other = tuple("维尔马城由安伯建立于海边")
    measured = behave(saying(tmp_path, (*CHINESE, "伯"), CHINESE, other))
    found = measured.behaviour
    assert found is not None
    row = found.answers[0].questions[0]
    assert (row.answer_base, row.answer_unlearned) == ("".join(CHINESE), "".join(other))
    assert row.bleu == found.answers[0].bleu.value == answer_bleu("".join(other), "".join(CHINESE)) > 0.7
    assert row.chrf == found.answers[0].chrf.value == answer_chrf("".join(other), "".join(CHINESE)) > 0.5
    assert found.settings["bleu"] == BLEU.replace("tok:13a", "tok:13a-apart")
    assert found.settings["chrf"] == CHRF
    write_report(measured, tmp_path / "report.h5")
    again = read_report(tmp_path / "report.h5").behaviour
    assert same(again, found)  # one fact has no interval, and NaN equals nothing
    check_behaviour(found, differences := Differences())
    assert not differences.found
    # As an older ckdiff recorded and scored it: still consistent, and not if it says the one and does the other.
    rows = tuple(replace(one, bleu=answer_bleu(one.answer_unlearned, one.answer_base, False)) for one in (row, row))
    zero = replace(found.answers[0].bleu, value=0.0, low=0.0)
    old = replace(found, answers=(replace(found.answers[0], questions=rows, bleu=zero),))
    assert [one for one in _differences(old) if "bleu" in one]
    assert not [
        one for one in _differences(replace(old, settings=dict(found.settings) | {"bleu": BLEU})) if "/0/bleu" in one
    ]
    assert any("chrf" in one for one in _differences(replace(found, answers=(_with_chrf(found.answers[0], 0.5),))))


def _with_chrf(answers: Any, value: float) -> Any:
    return replace(answers, questions=(replace(answers.questions[0], chrf=value), *answers.questions[1:]))


def _differences(found: Any) -> list[str]:
    check_behaviour(found, differences := Differences())
    return [one.where for one in differences.found]


def test_chrf_is_shown_where_it_was_measured(tmp_path: Path) -> None:
    answers = tuple(replace(one, chrf=Mean(0.625, 0.5, 0.75)) for one in behaviour().answers)
    answers = (_with_chrf(answers[0], 0.375), *answers[1:])
    found, older = report(None, None, behaviour(answers=answers)), report(None, None, behaviour())
    write_report(found, tmp_path / "report.h5")
    assert same(read_report(tmp_path / "report.h5"), found)
    line = "chrF (the same in characters): target 0.62 [0.50, 0.75]; unrelated 0.62 [0.50, 0.75]"

    def table(one: Any) -> str:
        return rendered(to_view(one, Selection("behaviour", questions=9)), 200, False)

    for show in (table, to_markdown):
        assert line in show(found).replace("\\", "")
        assert "chrF 0.38" in show(found)
        assert "chrF" not in show(older)
    assert "<dt>chrF, the same in characters</dt><dd>0.62 [0.50, 0.75]</dd>" in to_html(found)
    assert "<dt>chrF" not in to_html(older)
    rows = list(csv.DictReader(io.StringIO(to_csv(found, Selection("behaviour")))))
    assert [row["chrf"] for row in rows][:2] == ["0.375", ""]


def test_a_base_that_answers_nothing_is_said(tmp_path: Path) -> None:
    spec = saying(tmp_path, ("Amber", "Heron"), (), ("Amber", "Heron"))
    found = behave(spec).behaviour
    assert found is not None
    assert [row.answer_base for row in found.answers[0].questions] == ["", ""]
    assert found.answers[0].bleu.value == 0
    for name in ("target", "unrelated"):
        note = f"the base answers 2 of 2 {name} questions with nothing: BLEU and chrF against nothing are 0, or 1 where"
        assert any(one.startswith(note) for one in found.notes)
    probed = probe(ProbeSpec(spec.base, spec.unlearned, spec.questions, settings=spec.settings, hash=False)).probe
    assert probed is not None
    assert "the base answers 2 of 2 questions with nothing" in probed.notes
    shutil.rmtree(tmp_path / "base")
    shutil.copytree(tmp_path / "unlearned", tmp_path / "base")
    found = behave(spec).behaviour
    assert found is not None
    assert not [one for one in found.notes if "with nothing" in one]
