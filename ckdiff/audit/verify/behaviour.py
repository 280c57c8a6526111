"""What follows from stored answers and per-question figures: `follow_behaviour(found)`; `check_behaviour` says more.

BLEU and chrF follow from the two answers, `exact` from their ids, means and intervals from the questions, a perplexity
from mean log p and numbers of tokens. How probable an answer is to a model follows from nothing in a report; nor, for
multiple choice, which choice is picked, because numbers of tokens of choices are not stored.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.audit.verify.probe import answerless, texts_digest
from ckdiff.questions.values import canonical_digest
from ckdiff.scoring.bleu import APART, answer_bleu, answer_chrf
from ckdiff.scoring.means import mean
from ckdiff.scoring.scores import METHOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.behaviour import AnswerRecord, AnswerSet, Behaviour, ChoiceSet, Mean, NeutralSet
    from ckdiff.report.schema.probe import Probe


SIDES = ("base", "unlearned")


def follow_behaviour(found: Behaviour) -> dict[str, Any]:
    """Everything that follows from what a behaviour stores."""
    wanted: dict[str, Any] = {
        "answers": [_answers(one, found.settings) if one.questions else {} for one in found.answers]
    }
    if "bootstrap" in found.settings:
        wanted["settings"] = {"bootstrap": METHOD}
    if found.choices is not None and found.choices.questions:
        wanted["choices"] = _choices(found.choices)
    if found.neutral is not None and found.neutral.texts:
        wanted["neutral"] = _neutral(found, found.neutral)
    return wanted


def check_behaviour(found: Behaviour, differences: Differences) -> None:
    """No set is empty, and no answer is longer than was allowed."""
    for one in found.answers:
        _check_filled(f"{one.name}: questions", one.questions, differences)
        for number, row in enumerate(one.questions):
            longest, allowed = (
                max(len(row.answer_base_ids), len(row.answer_unlearned_ids)),
                found.settings.get("tokens"),
            )
            if allowed is not None and longest > int(allowed):
                differences.add(f"behaviour/{one.name}/{number}: tokens", longest, f"at most {allowed}")
    if found.choices is not None:
        _check_filled("choices: questions", found.choices.questions, differences)
    if found.neutral is not None:
        _check_filled("neutral: texts", found.neutral.texts, differences)


def _check_filled(where: str, rows: Sequence[object], differences: Differences) -> None:
    if not rows:
        differences.add(f"behaviour/{where}", 0, "at least one")


def check_same_questions(probe: Probe, found: Behaviour, differences: Differences) -> None:
    """A probe and answers that name one set of questions hold one set of questions."""
    target = next((one for one in found.answers if one.name == "target"), None)
    if target is None or target.digest != probe.settings.get("questions_digest"):
        return
    where = "probe/questions and behaviour/target"
    texts, said = ([question.text for question in rows] for rows in (probe.questions, target.questions))
    differences.exact(f"{where}: texts of one digest", texts, said)
    same = all(probe.settings.get(name) == found.settings.get(name) for name in ("tokens", "prompt", "dtype"))
    if same and probe.settings.get("answers") == "greedy, of the base":
        asked = [question.answer_ids for question in probe.questions]
        differences.exact(f"{where}: the base's answers", asked, [row.answer_base_ids for row in target.questions])
        _check_agreement(probe, target, differences)


def _check_agreement(probe: Probe, target: AnswerSet, differences: Differences) -> None:
    """An answer is the base's where its tokens, one after the other, are; in a near tie the two ways may part."""
    pairs = list(zip(probe.questions, target.questions, strict=False))
    parted = sum((asked.top1 >= 1) != said.exact for asked, said in pairs if not math.isnan(asked.top1))
    if parted > max(1, len(pairs) // 10):
        differences.add("probe/questions/top1 and behaviour/target/exact", f"{parted} questions apart", "one story")


def _mean(values: Iterable[float], least: float, most: float) -> Mean:
    return mean(np.array([*values], dtype=np.float64), least, most)


def _answers(found: AnswerSet, settings: Mapping[str, str]) -> dict[str, Any]:
    rows = found.questions
    counts = [len(row.answer_base_ids) for row in rows]
    apart = APART in settings.get("bleu", "")
    scores: dict[str, Callable[[str, str], float]] = {"bleu": partial(answer_bleu, apart=apart)}
    if "chrf" in settings:
        scores["chrf"] = answer_chrf
    wanted: dict[str, Any] = {"exact": _mean((float(row.exact) for row in rows), 0, 1)}
    wanted |= {name: _mean((getattr(row, name) for row in rows), 0, 1) for name in scores}
    wanted["questions"] = [
        {"exact": row.answer_base_ids == row.answer_unlearned_ids}
        | {name: _alike(score, row, getattr(row, name)) for name, score in scores.items()}
        for row in rows
    ]
    for side in SIDES:
        logprobs = [getattr(row, f"logprob_{side}") for row in rows]
        wanted[f"logprob_{side}"] = _mean(logprobs, -math.inf, 0)
        wanted[f"perplexity_{side}"] = _perplexity([-value for value in logprobs], counts)
    return wanted | ({"digest": texts_digest([row.text for row in rows])} if answerless(found.source) else {})


def _alike(score: Callable[[str, str], float], row: AnswerRecord, stored: float) -> float:
    """BLEU or chrF of the stored answers; a report keeps a NUL as an escape, and it was scored as a NUL."""
    found = score(row.answer_unlearned, row.answer_base)
    if found != stored and "\\x00" in row.answer_base + row.answer_unlearned:
        texts = (text.replace("\\x00", "\0") for text in (row.answer_unlearned, row.answer_base))
        return score(*texts)
    return found


def _perplexity(losses: Sequence[float], counts: Sequence[int]) -> float:
    """Exp of the mean -log p a token, from means over tokens and numbers of tokens."""
    if not sum(counts):
        return math.nan
    try:
        return math.exp(math.fsum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts))
    except OverflowError:
        return math.inf


def _choices(found: ChoiceSet) -> dict[str, Any]:
    rows = found.questions
    right = {side: [float(getattr(row, f"picked_{side}") == row.answer) for row in rows] for side in SIDES}
    return {
        **{f"accuracy_{side}": _mean(values, 0, 1) for side, values in right.items()},
        "chance": math.fsum(1 / len(row.choices) for row in rows if row.choices) / len(rows),
        "digest": canonical_digest([[row.text, list(row.choices), row.answer] for row in rows]),
    }


def _neutral(behaviour: Behaviour, found: NeutralSet) -> dict[str, Any]:
    rows = found.texts
    counts = [row.tokens for row in rows]
    wanted: dict[str, Any] = {"kl": _mean((row.kl for row in rows), 0, math.inf)}
    for side in SIDES:
        wanted[f"perplexity_{side}"] = _perplexity([getattr(row, f"nll_{side}") for row in rows], counts)
    # The digest is that of all texts that were given; those of a single token are not stored.
    if not any("of a single token left out" in note for note in behaviour.notes):
        wanted["digest"] = canonical_digest([row.text for row in rows])
    return wanted
