"""Part of the way back: unlearned + a (base - unlearned), as a curve over a. `outcomes(case, live, side)`.

It borrows the base's weights and says how far the two lie apart in what they answer; it is never evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.attacks.altering import altering
from ckdiff.attacks.case import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ckdiff.attacks.case import Case
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.attack import Attacked

SHARES = (0.1, 0.25, 0.5)


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome a share of the way."""
    base = case.job.pair.base
    names = frozenset(live.components())
    for number, share in enumerate(SHARES):
        case.listener.progress("blending", number, len(SHARES), f"{share:.0%}")
        counts = [0, 0]

        def change(name: str, value: Tensor, share: float = share) -> Tensor:
            return value + share * (base.read(name) - value)

        with case.loaded(live, altering(change, names, counts)):
            reading = case.read(live, side, matching=False)
        yield Outcome(f"{share:.0%} of the way", reading, applied=counts[0] / max(1, counts[1]), decides=False)
    case.listener.progress("blending", len(SHARES), len(SHARES), "")
