"""What was found as Markdown: `claims_text(campaign, pairs)`, `pairs_table(pairs)`, `attacks_table(pairs)`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from claims import COSINE_BOUND, LOST, TOGETHER, cosines, falls, findings

from ckdiff.campaign.gather.averages import CAUTION
from ckdiff.report.words.attack import TIER_HEADS, tier_cells
from ckdiff.report.words.campaign import complete_text
from ckdiff.report.words.numbers import UNDEFINED, with_interval
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claims import Claim, Finding
    from pairs import Pair

    from ckdiff.report.schema.behaviour import HistoryPoint, Mean
    from ckdiff.report.schema.campaign import Campaign

STATISTICS = {"best": "best window", "last": "last three windows"}
UNUSED = ("attacks", "level over reference")
WORDS = {"<=": "at most", ">=": "at least", ">": "more than"}


def claims_text(found: Campaign, pairs: Sequence[Pair]) -> str:
    """The claims, what was measured, and what it rests on."""
    names = ", ".join(cell(name) for name in found.concepts)
    rests = f"{len(pairs)} pairs, {len(found.concepts)} concepts: {names}; {complete_text(found)}. {CAUTION}"
    parts = (scores_table(found), cosines_table(found), behaviour_table(found, pairs))
    return "\n".join([rests, "", *("\n".join(part) + "\n" for part in parts if part)])


# ------------------------------------------------------------------------------------------------------------- claims


def scores_table(campaign: Campaign) -> list[str]:
    """Claims (a) to (d)."""
    head = ("claim", "method", "n", "layers", "krs", "krs_centred", "krs_kl", "top1 (unrestored)", "verdict")
    rows = [_score_row(found) for found in findings(campaign)]
    note = (
        "In brackets the interval. The verdict is by `krs`, the paper's score; *differs* names the scores by which it"
        " would be otherwise. *Best* is each score's own best window of the averaged curve, a selected one, so that"
        " its interval is too narrow; `top1` stands where `krs` is best."
    )
    return [*table(head, rows), "", note] if rows else []


def _score_row(found: Finding) -> list[str]:
    digits = 4 if found.claim.bound < 0.01 else 3
    scores = [interval(mean, digits) for mean in (found.krs, found.krs_centred, found.krs_kl)]
    top1 = f"{number(found.top1.value)} ({number(found.top1_unrestored)})"
    layers = UNDEFINED if not found.layers else "-".join(map(str, dict.fromkeys((found.layers[0], found.layers[-1]))))
    return [claim_words(found.claim), found.method, str(found.concepts), layers, *scores, top1, verdict_words(found)]


def claim_words(claim: Claim) -> str:
    """A claim in one line."""
    bound = f"{STATISTICS[claim.statistic]} {WORDS[claim.relation]} {claim.bound:g}"
    return f"({claim.letter}) {claim.text}, {claim.variant}: {bound}"


def verdict_words(found: Finding) -> str:
    """The verdict, and by which scores it would be otherwise."""
    digits = 4 if found.claim.bound < 0.01 else 3
    others = ", ".join(f"{name} {number(getattr(found, name).value, digits)}" for name in found.differs)
    return f"*{found.verdict}*" + (f"; *differs*: {others}" if others else "")


def cosines_table(campaign: Campaign) -> list[str]:
    """Claim (e)."""
    head = ("claim", "method", "pairs", "least cosine", "1 - cosine", "verdict")
    rows = [
        [
            f"(e) direction of {found.component} is kept: cosine more than {COSINE_BOUND}",
            found.method,
            str(found.pairs),
            number(found.least, 7),
            f"{found.one_minus:.1e}",
            f"*{found.verdict}*",
        ]
        for found in cosines(campaign)
    ]
    return table(head, rows) if rows else []


def behaviour_table(campaign: Campaign, pairs: Sequence[Pair]) -> list[str]:
    """Claim (f)."""
    head = ("claim", "method", "n", "correlation", "target BLEU as saved", "unrelated BLEU as saved", "verdict")
    rows = [
        [
            "(f) target and unrelated BLEU fall together",
            found.method,
            str(found.concepts),
            *(interval(mean) for mean in (found.correlation, found.target, found.unrelated)),
            f"*{found.verdict}*",
        ]
        for found in falls(campaign, pairs)
    ]
    note = (
        f"The paper gives curves and no bound for (f). Here it holds where the correlation over a training is"
        f" {TOGETHER} or more and the saved checkpoint's unrelated BLEU is {1 - LOST:g} or less."
    )
    return [*table(head, rows), "", note] if rows else []


# -------------------------------------------------------------------------------------------------------------- pairs


def pairs_table(pairs: Sequence[Pair]) -> str:
    """Every pair in a line: how it was made, what it still answers, and which checkpoint it is."""
    head = ("concept", "method", "steps", "loss", "target BLEU", "unrelated BLEU", "checkpoint sha256")
    lines = table(head, [_pair_row(pair) for pair in pairs])
    note = "BLEU: in memory when training ended / of the checkpoint as saved / by `ckdiff behave`."
    return "\n".join([*lines, "", note, ""])


def _pair_row(pair: Pair) -> list[str]:
    memory, saved = (
        next((point for point in reversed(pair.history) if point.state == state), None) for state in ("memory", "saved")
    )
    return [
        cell(pair.concept),
        pair.method,
        UNDEFINED if memory is None else str(memory.step),
        UNDEFINED if memory is None else number(memory.loss),
        _bleus(pair, "target", memory, saved),
        _bleus(pair, "unrelated", memory, saved),
        f"`{pair.digest}`",
    ]


def _bleus(pair: Pair, name: str, *points: HistoryPoint | None) -> str:
    values = [math.nan if point is None else getattr(point, f"{name}_bleu") for point in points]
    answers = pair.answers(name)
    return " / ".join(map(number, [*values, math.nan if answers is None else answers.bleu.value]))


# ------------------------------------------------------------------------------------------------------------ attacks


def attacks_table(pairs: Sequence[Pair]) -> str:
    """What comes back of every pair without the base's help, tier by tier; empty where nothing was attacked."""
    rows = [
        [cell(pair.concept), pair.method, *map(cell, without_reference(tier_cells(tier)))]
        for pair in pairs
        if pair.report.attack is not None
        for tier in pair.report.attack.tiers
    ]
    note = (
        "back: facts whose answer comes back word for word; z, p: whether answers match their questions better than in"
        " random pairings, at the worst setting of the tier, all settings paid for; seen from: the smallest"
        " share of the base's own matching that would have been seen."
    )
    head = ("concept", "method", *without_reference(TIER_HEADS))
    return "\n".join([*table(head, rows), "", note, ""]) if rows else ""


def without_reference(row: Sequence[str]) -> Sequence[str]:
    """A row of tiers without the names of its attacks, and without the model that no pair here has beside it."""
    return [text for head, text in zip(TIER_HEADS, row, strict=True) if head not in UNUSED]


# --------------------------------------------------------------------------------------------------------------- text


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def cell(text: str) -> str:
    """A string from a file that neither ends a cell nor formats it."""
    return printable(text).replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")


def number(value: float, digits: int = 3) -> str:
    """A number; a dash where it is not defined."""
    return UNDEFINED if math.isnan(value) else f"{value:.{digits}f}"


def interval(mean: Mean, digits: int = 3) -> str:
    """A mean and its interval, where there is one."""
    return with_interval(mean.value, mean.low, mean.high, lambda value: number(value, digits))
