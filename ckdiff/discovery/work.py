"""Discovery under way: how it goes, what has been read so far, and how candidates rank."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckdiff.discovery.kept import Kept
from ckdiff.discovery.null import COPIES
from ckdiff.probes.forcing import Way
from ckdiff.progress import Stopped

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.discovery.candidates import Candidates
    from ckdiff.discovery.lost import Logits, Look
    from ckdiff.discovery.mentions import Mention
    from ckdiff.discovery.opening import Models
    from ckdiff.discovery.texts import Texts
    from ckdiff.probes.forcing import Forced
    from ckdiff.progress import Listener
    from ckdiff.shapes import Bools, Float64


@dataclass(frozen=True, slots=True)
class How:
    """How discovery goes.

    Attributes:
        texts: a file, or None: they are sampled from the base.
        count: texts of each kind that are sampled.
        length: tokens of a text.
        seed: of samples, noise, and what is drawn.
        copies: noisy ones.
        words: words of given texts are candidates, too.
        batch_size: texts that go through a layer together.
    """

    texts: Path | None = None
    count: int = 16
    length: int = 40
    seed: int = 0
    copies: int = COPIES
    words: bool = False
    batch_size: int = 32


@dataclass(slots=True)
class Work:
    """Discovery under way: what has been read so far."""

    models: Models
    how: How
    candidates: Candidates
    listener: Listener
    texts: Texts
    beside: Texts
    steps: int
    done: int = 0
    forced: Forced | None = None
    sayable: Bools | None = None
    logits: Logits | None = None
    ruin: float = 0.0
    written: Float64 | None = None
    mentions: list[Mention] = field(default_factory=list)
    names: list[list[int]] = field(default_factory=list)
    said: list[list[int]] = field(default_factory=list)
    nulls: list[Look] = field(default_factory=list)
    null_scores: list[float] = field(default_factory=list)
    kept: Kept = field(default_factory=Kept)

    @property
    def way(self) -> Way:
        """How texts go through a model."""
        return Way(self.how.batch_size)

    def tell(self, detail: str) -> None:
        """Progress, and a place to stop."""
        self.listener.progress("discovering", self.done, self.steps, detail)
        self.done = min(self.done + 1, self.steps - 1)
        if self.listener.stop():
            raise Stopped


@dataclass(frozen=True, slots=True)
class Ranked:
    """How candidates rank.

    Attributes:
        forms: in which they were looked at.
        screen: from `asking.screen_scores` [candidate].
        scores: how far each stands out in each form [candidate, form].
        plain: drops of log p in the forms in which somebody is asked [candidate, form], in nats.
        mask: 1 for each candidate that the rest is measured by, else 0.
        chosen: candidates that were asked about.
    """

    forms: tuple[str, ...]
    screen: Float64
    scores: Float64
    plain: Float64
    mask: Float64
    chosen: list[int]
