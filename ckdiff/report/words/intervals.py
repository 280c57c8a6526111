"""How the intervals beside figures were made, in words that stand beside them: `curves_text(settings)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

STUDENTISED = "bootstrap-t"

EXACT = ", no wider than Clopper and Pearson's"
"""Of means between two bounds."""

OVER_FACTS = f"95 % intervals by {STUDENTISED} over clusters of questions"
"""Of attacks, and of what is no share."""

SHARES_OVER_FACTS = f"{OVER_FACTS}{EXACT}"


WIDER = (
    "A verdict picks the best of all modes, and so gives the same scores wider bands: over all modes and windows of a"
    " direction at once."
)
"""Why one score has other bands beside a verdict."""


def by_text(settings: Mapping[str, str]) -> str:
    """What a section says of its resampling, in short: `bootstrap-t over clusters of questions`.

    >>> by_text({"bootstrap": "bootstrap-t, tails for few questions, 10 draws of questions"}), by_text({})
    ('bootstrap-t over questions', 'bootstrap over questions')
    """
    said = settings.get("bootstrap", "")
    kind = STUDENTISED if said.startswith(STUDENTISED) else "bootstrap"
    return f"{kind} over {'clusters of ' if 'clusters of questions' in said else ''}questions"


def curves_text(settings: Mapping[str, str]) -> str:
    """Of the scores of a probe: the interval of one window, and the band over all of them."""
    return f"95 % intervals of one window by {by_text(settings)}, bands by the same over all windows of a curve at once"


def texts_text(settings: Mapping[str, str]) -> str:
    """Of a mean over texts that has no upper bound."""
    return f"95 % interval by {by_text(settings).partition(' over ')[0]} over texts"


def means_text(settings: Mapping[str, str]) -> str:
    """Of means of what lies between two bounds."""
    by = by_text(settings)
    return f"95 % intervals by {by}{EXACT if by.startswith(STUDENTISED) else ''}"
