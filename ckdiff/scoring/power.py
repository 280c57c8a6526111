"""What so few questions could have shown at all. The standard library only, so that a verdict needs no torch."""

from __future__ import annotations


def detectable_share(questions: int, certainty: float = 0.95) -> float:
    """The smallest share of changed answers of which so many questions would have shown one at least.

    1 - (1 - certainty) ** (1 / questions): were the true share larger, all answers would be as before with a chance of
    less than 1 - certainty. Exact (binomial), in (0, 1].

    >>> round(detectable_share(10), 3), round(detectable_share(60), 3)
    (0.259, 0.049)

    Raises:
        ValueError: no questions, or a certainty outside (0, 1).
    """
    if questions < 1 or not 0 < certainty < 1:
        raise ValueError(f"{questions} questions, certainty {certainty}")
    return float(1 - (1 - certainty) ** (1 / questions))
