"""Behaviour computed again from stored answers and per-question figures: `check_behaviour(found, differences)`.

BLEU follows from the two answers, `exact` from their ids, means and intervals from the questions, a perplexity from
mean log p and numbers of tokens. How probable an answer is to a model follows from nothing in a report; nor, for
multiple choice, which choice is picked, because numbers of tokens of choices are not stored.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verify.probe import answerless, texts_digest
from ckdiff.questions.values import canonical_digest
from ckdiff.scoring.bleu import APART, answer_bleu, answer_chrf
from ckdiff.scoring.field import forget_quality, leak_beside, mean_measure, member_auc
from ckdiff.scoring.means import mean
from ckdiff.scoring.scores import method_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.behaviour import AnswerRecord, AnswerSet, Behaviour, ChoiceSet, Mean, NeutralSet
    from ckdiff.report.schema.probe import Probe


NEAR = {"relative": 1e-9, "absolute": 1e-9}


def check_behaviour(found: Behaviour, differences: Differences) -> None:
    """Compute everything again that follows from what a behaviour stores."""
    if "bootstrap" in found.settings:
        said, clusters = found.settings["bootstrap"], [row.cluster for one in found.answers for row in one.questions]
        differences.exact("behaviour/settings/bootstrap", said, method_of(said, clusters))
    for one in found.answers:
        _check_answers(one, found.settings, differences)
    _check_privacy(found, differences)
    if found.choices is not None:
        _check_choices(found.choices, differences)
    if found.neutral is not None:
        _check_neutral(found, found.neutral, differences)


def check_same_questions(probe: Probe, found: Behaviour, differences: Differences) -> None:
    """A probe and answers that name one set of questions hold one set of questions."""
    target = next((one for one in found.answers if one.name == "target"), None)
    if target is None or target.digest != probe.settings.get("questions_digest"):
        return
    differences.exact(
        "probe/questions and behaviour/target: texts of one digest",
        [question.text for question in probe.questions],
        [question.text for question in target.questions],
    )
    same = {"tokens", "prompt", "dtype"}
    if probe.settings.get("answers") == "greedy, of the base" and all(
        probe.settings.get(name) == found.settings.get(name) for name in same
    ):
        differences.exact(
            "probe/questions and behaviour/target: the base's answers",
            [question.answer_ids for question in probe.questions],
            [question.answer_base_ids for question in target.questions],
        )
        _check_agreement(probe, target, differences)


def _check_agreement(probe: Probe, target: AnswerSet, differences: Differences) -> None:
    """An answer is the base's where its tokens, one after the other, are; in a near tie the two ways may part."""
    pairs = list(zip(probe.questions, target.questions, strict=False))
    parted = sum((asked.top1 >= 1) != said.exact for asked, said in pairs if not math.isnan(asked.top1))
    if parted > max(1, len(pairs) // 10):
        differences.add("probe/questions/top1 and behaviour/target/exact", f"{parted} questions apart", "one story")


def _check_mean(
    where: str,
    stored: Mean,
    values: Sequence[float],
    differences: Differences,
    least: float,
    most: float,
    clusters: Sequence[int] | None = None,
) -> None:
    again = mean(np.array(values, dtype=np.float64), least, most, clusters)
    for part in ("value", "low", "high"):
        name = where if part == "value" else f"{where}_{part}"
        differences.close(name, getattr(stored, part), getattr(again, part), **NEAR)


def _check_answers(found: AnswerSet, settings: Mapping[str, str], differences: Differences) -> None:
    where, rows, tokens = f"behaviour/{found.name}", found.questions, settings.get("tokens")
    bleu = partial(answer_bleu, apart=APART in settings.get("bleu", ""))
    if not rows:
        differences.add(f"{where}: questions", 0, "at least one")
        return
    for number, row in enumerate(rows):
        place = f"{where}/{number}"
        differences.exact(f"{place}/exact", row.exact, row.answer_base_ids == row.answer_unlearned_ids)
        differences.close(f"{place}/bleu", row.bleu, _alike(bleu, row, row.bleu), **NEAR)
        if "chrf" in settings:
            differences.close(f"{place}/chrf", row.chrf, _alike(answer_chrf, row, row.chrf), **NEAR)
        longest = max(len(row.answer_base_ids), len(row.answer_unlearned_ids))
        if tokens is not None and longest > int(tokens):
            differences.add(f"{place}: tokens", longest, f"at most {tokens}")
    clusters = [row.cluster for row in rows]
    _check_mean(f"{where}/bleu", found.bleu, [row.bleu for row in rows], differences, 0, 1, clusters)
    if "chrf" in settings:
        _check_mean(f"{where}/chrf", found.chrf, [row.chrf for row in rows], differences, 0, 1, clusters)
    _check_mean(f"{where}/exact", found.exact, [float(row.exact) for row in rows], differences, 0, 1, clusters)
    counts = [len(row.answer_base_ids) for row in rows]
    for side in ("base", "unlearned"):
        logprobs = [getattr(row, f"logprob_{side}") for row in rows]
        stored = getattr(found, f"logprob_{side}")
        _check_mean(f"{where}/logprob_{side}", stored, logprobs, differences, -math.inf, 0, clusters)
        again = _perplexity([-value for value in logprobs], counts)
        differences.close(f"{where}/perplexity_{side}", getattr(found, f"perplexity_{side}"), again, **NEAR)
    _check_field(found, clusters, differences)
    if answerless(found.source):
        differences.exact(f"{where}/digest", found.digest, texts_digest([row.text for row in rows]))


def _check_field(found: AnswerSet, clusters: Sequence[int], differences: Differences) -> None:
    """Means of what benchmarks report follow from the values of questions."""
    for one in found.field:
        for side in ("base", "unlearned", *(("reference",) if one.each_reference else ())):
            where = f"behaviour/{found.name}/field/{one.name}_{side}"
            values = np.array(getattr(one, f"each_{side}"), dtype=np.float64)
            if len(values) != len(found.questions):
                differences.add(f"{where}: values", len(values), f"{len(found.questions)}")
                continue
            again = mean_measure(one.name, values, clusters, found.name == "target")
            for part in ("value", "low", "high"):
                differences.close(f"{where}/{part}", getattr(getattr(one, side), part), getattr(again, part), **NEAR)


def _check_privacy(found: Behaviour, differences: Differences) -> None:
    """Forget quality follows from truth ratios, AUC from the scores of answers, and PrivLeak from AUC."""
    if found.reference is not None:
        rows = [row for one in found.answers if one.name == "target" for row in one.field if row.name == "truth_ratio"]
        each = [np.array(getattr(rows[0], f"each_{side}")) for side in ("unlearned", "reference")] if rows else []
        quality = forget_quality(*each) if each else math.nan
        differences.close("behaviour/reference/forget_quality", found.reference.forget_quality, quality, **NEAR)
    for one in () if found.holdout is None else found.holdout.scores:
        where = f"behaviour/holdout/{one.name}"
        for side in ("base", "unlearned", "reference"):
            mine, others = (np.array(getattr(one, f"{kind}_{side}")) for kind in ("target", "holdout"))
            auc = member_auc(mine, others) if len(mine) and len(others) else math.nan
            differences.close(f"{where}/auc_{side}", getattr(one, f"auc_{side}"), auc, **NEAR)
        differences.close(f"{where}/leak", one.leak, leak_beside(one.auc_unlearned, one.auc_reference), **NEAR)


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


def _check_choices(found: ChoiceSet, differences: Differences) -> None:
    rows = found.questions
    if not rows:
        differences.add("behaviour/choices: questions", 0, "at least one")
        return
    for side in ("base", "unlearned"):
        right = [float(getattr(row, f"picked_{side}") == row.answer) for row in rows]
        _check_mean(f"behaviour/choices/accuracy_{side}", getattr(found, f"accuracy_{side}"), right, differences, 0, 1)
    chance = math.fsum(1 / len(row.choices) for row in rows if row.choices) / len(rows)
    differences.close("behaviour/choices/chance", found.chance, chance, **NEAR)
    content = [[row.text, list(row.choices), row.answer] for row in rows]
    differences.exact("behaviour/choices/digest", found.digest, canonical_digest(content))


def _check_neutral(behaviour: Behaviour, found: NeutralSet, differences: Differences) -> None:
    rows = found.texts
    if not rows:
        differences.add("behaviour/neutral: texts", 0, "at least one")
        return
    _check_mean("behaviour/neutral/kl", found.kl, [row.kl for row in rows], differences, 0, math.inf)
    counts = [row.tokens for row in rows]
    for side in ("base", "unlearned"):
        again = _perplexity([getattr(row, f"nll_{side}") for row in rows], counts)
        differences.close(f"behaviour/neutral/perplexity_{side}", getattr(found, f"perplexity_{side}"), again, **NEAR)
    # The digest is that of all texts that were given; those of a single token are not stored.
    if not any("of a single token left out" in note for note in behaviour.notes):
        differences.exact("behaviour/neutral/digest", found.digest, canonical_digest([row.text for row in rows]))
