"""Which pairs are planted: `planned(216, seed=0)`, a list of plants, each with its kind, its place and its strength.

The kinds go round in a fixed order, two at a time, one of even and one of odd number, so that both halves of any
number of pairs hold the same kinds, and no base model is in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from plants_models import BASES, Base

PLACED = ("value_vectors", "keys", "attention", "ancillary")
"""What a single-component plant can be in."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plant.

    Attributes:
        name: for tables.
        group: what the verdict should find: one of `PLACED`, "mixed", "intact" (two components, neither of them value
            vectors), "benign", "never", "retrained", "suppressed", "destroyed".
        action: how it is made.
        count: in a round.
        parts: components that change.
        low, high: of strength, drawn evenly on a logarithmic scale.
        spread: how many adjacent layers change; 0: one or all, at random.
    """

    name: str
    group: str
    action: str
    count: int
    parts: tuple[str, ...] = ()
    low: float = 1.0
    high: float = 1.0
    spread: int = 1


@dataclass(frozen=True, slots=True)
class Plant:
    """One pair that is to be made."""

    number: int
    kind: Kind
    base: Base
    layers: tuple[int, ...]
    strength: float
    seed: int

    def rng(self) -> np.random.Generator:
        """What is random in its making."""
        return np.random.default_rng([self.seed, self.number, 2])

    def again(self, attempt: int) -> Plant:
        """The same kind and base, at another place and with another strength."""
        return drawn(self.number, self.kind, self.base, self.seed, attempt)

    @property
    def silent_allowed(self) -> bool:
        """Whether it stays as it was drawn first: a quarter of the plants does, whether it changes an answer or not."""
        return self.number // 2 % 4 == 0


def _single(group: str, part: str, *, permute: bool, noise: int) -> tuple[Kind, ...]:
    """The actions on the matrices of one component."""
    found = (
        Kind(f"{part} noise", group, "noise", noise, (part,), 0.3, 10.0),
        Kind(f"{part} noise, two layers", group, "noise", 4, (part,), 0.3, 10.0, 2),
        Kind(f"{part} scaled", group, "scale", 4, (part,), 0.02, 20.0),
        Kind(f"{part} zeroed", group, "zero", 4, (part,)),
        Kind(f"{part} pruned", group, "prune", 4, (part,), 0.3, 0.98),
        Kind(f"{part} aimed", group, "target", 6, (part,), 0.5, 8.0),
        Kind(f"{part} trained", group, "train", 6, (part,), 0.12, 1.0, 0),
    )
    return (*found, Kind(f"{part} permuted", group, "permute", 4, (part,), 0.1, 1.0)) if permute else found


KINDS = (
    Kind("exact copy", "benign", "copy", 4),
    *_single("value_vectors", "value_vectors", permute=True, noise=8),
    Kind("needle", "value_vectors", "needle", 8, ("value_vectors",), 0.5, 20.0),
    *_single("keys", "keys", permute=True, noise=8),
    *_single("attention", "attention", permute=False, noise=10),
    Kind("norms noise", "ancillary", "noise", 4, ("norms",), 0.1, 3.0, 0),
    Kind("norms scaled", "ancillary", "scale", 2, ("norms",), 0.1, 6.0, 0),
    Kind("norms trained", "ancillary", "train", 4, ("norms", "final_norm"), 0.12, 1.0, 0),
    Kind("embedding noise", "ancillary", "noise", 2, ("embedding",), 0.1, 2.0),
    Kind("unembedding noise", "ancillary", "noise", 2, ("unembedding",), 0.1, 2.0),
    Kind("values and another", "mixed", "both", 4),
    Kind("keys and attention", "intact", "both", 2, ("keys", "attention")),
    Kind("resharded", "benign", "reshard", 2),
    Kind("fp16 copy", "benign", "fp16", 4),
    Kind("8-bit copy", "benign", "int8", 4),
    Kind("tuned on all facts", "benign", "tune all", 4, (), 1e-5, 3e-4),
    Kind("tuned on other facts", "benign", "tune others", 4, (), 1e-6, 3e-5),
    Kind("retrained, other seed", "retrained", "retrain", 4),
    Kind("retrained, same start", "retrained", "retrain same", 6, (), 0.7, 1.3),
    Kind("graddiff", "suppressed", "graddiff", 6, (), 1e-4, 6e-4),
    Kind("dpo", "suppressed", "dpo", 4, (), 1e-4, 6e-4),
    Kind("npo", "suppressed", "npo", 4, (), 1e-4, 6e-4),
    Kind("npo_kl", "suppressed", "npo_kl", 4, (), 1e-4, 6e-4),
    Kind("destroyed", "destroyed", "noise all", 4, (), 0.5, 3.0),
)


DRIFTED = tuple(
    Kind(f"{part} noise over drift", part, "drift", 4, (part,), 0.3, 10.0)
    for part in ("value_vectors", "keys", "attention")
)
"""After a round of `KINDS`: one component is edited, and every other weight has moved a little, as in a training."""
NEVER = (Kind("never learned", "never", "never", 4, (), 2e-4, 1e-3),)
"""The base was tuned on all facts from a model that knows all but the town's, and that model is the unlearned one."""
PAIRS = sum(kind.count for kind in (*KINDS, *DRIFTED, *NEVER))


def order(round_of: tuple[Kind, ...]) -> list[Kind]:
    """Kinds spread evenly: the first pairs hold a bit of everything."""
    places = [
        ((2 * number + 1) / kind.count, place, kind)
        for place, kind in enumerate(round_of)
        for number in range(kind.count // 2)
    ]
    return [kind for _, _, kind in sorted(places, key=lambda found: found[:2]) for _ in range(2)]


def planned(pairs: int, seed: int) -> list[Plant]:
    """The first so many pairs of a seed; more pairs begin with the same ones."""
    kinds = [kind for kinds in (KINDS, DRIFTED, NEVER) for kind in order(kinds)]
    return [_plant(number, kinds[number % len(kinds)], seed) for number in range(pairs)]


def _plant(number: int, kind: Kind, seed: int) -> Plant:
    place = int(np.random.default_rng([seed, number, 0]).integers(len(BASES) // 2))
    return drawn(number, kind, BASES[2 * place + number % 2], seed, 0)


def drawn(number: int, kind: Kind, base: Base, seed: int, attempt: int) -> Plant:
    """A plant at a random place with a random strength."""
    rng = np.random.default_rng([seed, number, 1, attempt])
    spread = kind.spread or int(rng.choice([1, base.layers]))
    first = int(rng.integers(base.layers - spread + 1))
    strength = float(np.exp(rng.uniform(np.log(kind.low), np.log(kind.high))))
    return Plant(number, kind, base, tuple(range(first, first + spread)), strength, seed)
