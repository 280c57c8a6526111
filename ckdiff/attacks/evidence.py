"""From readings to records: rows, and by tier what they say together, selection paid for. NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.attacks.case import Options
from ckdiff.attacks.guesses import chance_of_returns, chances_of, greatest
from ckdiff.attacks.replies import tries
from ckdiff.attacks.table import ATTACKS
from ckdiff.audit.verdict.rules import RULES
from ckdiff.report.schema.attack import UNDEFINED, AttackRow, ReturnedAnswer, TierEvidence
from ckdiff.scoring.matching import LEAST, LEVEL, Matched, detectable, flat, match_tables, pairings
from ckdiff.scoring.recovery import difference, recover, recover_beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.attacks.case import Case, Outcome, Reading
    from ckdiff.report.schema.attack import Attacked
    from ckdiff.report.schema.behaviour import Mean
    from ckdiff.shapes import Float64, Int64

    Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Made:
    """One outcome of one attack on one model; `outcome.reading` is None where it was not measured."""

    attack: str
    side: Attacked
    outcome: Outcome

    @property
    def key(self) -> tuple[str, str, int]:
        """The key that the same attack on another model shares."""
        return self.attack, self.outcome.setting, self.outcome.step

    @property
    def trial(self) -> tuple[str, str]:
        """The same without its step."""
        return self.attack, self.outcome.setting

    @property
    def name(self) -> str:
        """Attack, setting and step in words."""
        step = f", step {self.outcome.step}" if self.outcome.step >= 0 and ATTACKS[self.attack].tier == 2 else ""
        return f"{self.attack}: {self.outcome.setting}{step}"


@dataclass(frozen=True, slots=True)
class _Best:
    """The most telling of several outcomes with its z, and a p that pays for all of them; None and NaN without one."""

    made: Made | None
    z: float
    p: float


class Evidence:
    """Everything that was made of a case, as records."""

    def __init__(self, case: Case, made: Sequence[Made], floor: Float64 | None) -> None:
        """Take everything that was made.

        Args:
            case: what it was made of.
            made: every outcome.
            floor: the table of a base without its MLPs, which cannot know; None where it was not measured.
        """
        self.case, self.made, self.floor = case, made, floor
        self.groups: Groups = tuple(tuple(group) for group in case.groups)
        self.shuffled: dict[Groups, Int64] = {}
        self.other = {(one.side, one.key): one for one in made}

    # ------------------------------------------------------------------------------------------------------- rows

    def rows(self) -> tuple[AttackRow, ...]:
        """A row an outcome, in the order of the table, and of each attack model after model."""
        order = list(ATTACKS)
        return tuple(map(self._row, sorted(self.made, key=lambda one: order.index(one.attack))))

    def returned(self) -> tuple[ReturnedAnswer, ...]:
        """Every answer that came back from the unlearned model, or that the reference gave."""
        return tuple(
            ReturnedAnswer(one.attack, one.outcome.setting, one.outcome.step, one.side, place, said)
            for one in self.made
            if one.side in ("unlearned", "reference") and one.outcome.reading is not None
            for place, said in sorted(one.outcome.reading.said.items())
            if self._may_count(one, place)
        )

    def _row(self, made: Made) -> AttackRow:
        attack, outcome = ATTACKS[made.attack], made.outcome
        reading, decides = outcome.reading, attack.decides and outcome.decides
        found = AttackRow(
            made.attack, attack.tier, outcome.setting, outcome.step, made.side, decides, -1, 0, math.nan, math.nan,
            math.nan, UNDEFINED, UNDEFINED, math.nan, False, outcome.applied, 0, outcome.note,
        )  # fmt: skip
        if reading is None:
            return found
        matched = self._match([reading.table], self._groups(made)) if self._matches(made) else None
        return replace(
            found,
            returned=len(self._clusters(made)),
            asked=len({one.cluster for place, one in enumerate(self.case.sought) if self._may_count(made, place)}),
            z=math.nan if matched is None else float(matched.z[0]),
            p=math.nan if matched is None else float(matched.p[0]),
            detectable=self._shows(self._groups(made), math.nan if matched is None else matched.threshold)
            if made.side == "unlearned"
            else math.nan,
            level=float(reading.level.mean()),
            recovery=self._recovery(made, reading),
            above=self._above(made, reading),
            unrelated=reading.unrelated,
            wrecked=wrecked(reading),
            texts=reading.texts,
        )

    def _recovery(self, made: Made, reading: Reading) -> Mean:
        """Of the unlearned model, and of the base where the attack damages both: what is left of its own gap."""
        plain = self.case.plain
        if made.side != "unlearned" or "base" not in plain:
            return UNDEFINED
        base, unlearned = plain["base"].level, plain["unlearned"].level
        if not ATTACKS[made.attack].damages:
            return recover(base, unlearned, reading.level, self.case.clusters)
        control = self.other.get(("base", made.key))
        if control is None or control.outcome.reading is None:
            return UNDEFINED
        return recover_beside(base - unlearned, control.outcome.reading.level - reading.level, self.case.clusters)

    def _above(self, made: Made, reading: Reading) -> Mean:
        """Level over that of the reference under the same attack."""
        control = self.other.get(("reference", made.key))
        if made.side != "unlearned" or control is None or control.outcome.reading is None:
            return UNDEFINED
        if wrecked(control.outcome.reading):
            return UNDEFINED
        return difference(reading.level - control.outcome.reading.level, self.case.clusters)

    def _may_count(self, made: Made, place: int) -> bool:
        return _may_count(self.case, made, place)

    def _clusters(self, made: Made) -> set[int]:
        return brought_back(self.case, made)

    # ------------------------------------------------------------------------------------------------------ tiers

    def tiers(self, asked: Sequence[str]) -> tuple[TierEvidence, ...]:
        """The evidence of each tier that one of the attacks asked for belongs to, but for tier 3, which is none."""
        numbers = sorted({ATTACKS[name].tier for name in asked} - {3})
        return tuple(self._tier(number, [name for name in asked if ATTACKS[name].tier == number]) for number in numbers)

    def _tier(self, tier: int, names: Sequence[str]) -> TierEvidence:
        mine, theirs, twin = (self._deciding(tier, side) for side in ("unlearned", "reference", "twin"))
        best, known = self._best(mine), self._best(theirs)
        floor = self._floor(theirs)
        above, above_attack = self._greatest_above(mine)
        returned, said = self._said(mine), self._said(theirs)
        power = self._power(mine)
        z_base, p_base = self._of_base()
        informative = p_base <= LEVEL and (math.isnan(floor) or RULES["room"].holds(floor / z_base))
        control = self._control(twin)
        clusters = len(set(self.case.clusters))
        seen = informative and RULES["power"].holds(power)
        return TierEvidence(
            tier=tier,
            ran=",".join(dict.fromkeys(one.attack for one in mine)),
            missing="; ".join(self._missing(tier, names)),
            returned=len(returned),
            asked=len({one.cluster for one in self.case.sought if one.counts}),
            returned_reference=len(said) if self._has("reference") else -1,
            worst="" if best.made is None else best.made.name,
            z=best.z,
            p=best.p,
            p_reference=known.p,
            floor=floor,
            informative=informative,
            above=above,
            above_attack=above_attack,
            detectable=power,
            control=control[0],
            control_returned=control[1],
            control_asked=control[2],
            able=bool(mine) and clusters >= LEAST and (control[1] > 0 if control[2] > 0 else seen),
            whole=self._whole(tier, names),
            z_base=z_base,
            p_base=p_base,
            beyond=len(returned - said) if self._has("reference") else -1,
            chance=self._chance(mine, theirs, said) if self._has("reference") else math.nan,
        )

    def _chance(self, mine: Sequence[Made], theirs: Sequence[Made], said: set[int]) -> float:
        """The chance that a model which knows no more than the reference brings back what it does not say itself."""
        back: dict[tuple[str, str], set[int]] = {}
        guesses: dict[tuple[str, str], int] = {}
        for one in mine:
            own = self._clusters(one) - said
            back[one.trial] = max(back.get(one.trial, set()), own, key=len)
            guesses[one.trial] = max(guesses.get(one.trial, 1), self._tries(one, own))
        guessed: dict[tuple[str, str], list[dict[int, float]]] = {}
        for one in theirs:
            guessed.setdefault(one.trial, []).append(self._chances(one, said))
        return chance_of_returns(back, {trial: greatest(found) for trial, found in guessed.items()}, guesses)

    def _tries(self, made: Made, clusters: set[int]) -> int:
        """How many guesses one of the replies took that brought these answers back; at least one."""
        sought, reading = self.case.sought, made.outcome.reading
        said = {} if reading is None else reading.said
        return max((tries(sought, at, text) for at, text in said.items() if sought[at].cluster in clusters), default=1)

    def _chances(self, made: Made, said: set[int]) -> dict[int, float]:
        """By cluster the chance that a model says the answer, of those that it may and that are not said anyhow."""
        sought = self.case.sought
        places = [n for n, one in enumerate(sought) if self._may_count(made, n) and one.cluster not in said]
        # The table of samples holds counts of them; how likely one is says the model as it is.
        reading = self.case.plain.get(made.side) if made.attack == "samples" else made.outcome.reading
        return {} if reading is None else chances_of(sought, reading, places)

    def proves(self, tier: int) -> bool:
        """Whether a tier brought answers back which the reference never says, and more than chance would."""
        mine, theirs = (self._deciding(tier, side) for side in ("unlearned", "reference"))
        said, tiers = self._said(theirs), {ATTACKS[one.attack].tier for one in self.made} - {3}
        chance = self._chance(mine, theirs, said) * len(tiers)
        return bool(self._said(mine) - said) and not chance > RULES["guessed"].threshold

    def _said(self, made: Sequence[Made]) -> set[int]:
        """Clusters whose answer came back in some of these."""
        return set().union(*map(self._clusters, made))

    def _whole(self, tier: int, names: Sequence[str]) -> bool:
        """Whether all attacks of a tier that decide were made, and none of them weaker than by default."""
        options, usual = self.case.options, Options()
        weaker = options.samples < usual.samples or options.steps < usual.steps or {*usual.arms} - {*options.arms}
        mine = [one for one in self.made if one.side == "unlearned" and one.attack in names]
        partly = any(ATTACKS[one.attack].trains and one.outcome.reading is None for one in mine)
        wanted = {name for name, row in ATTACKS.items() if row.tier == tier and row.decides}
        return wanted <= {one.attack for one in mine if _says(one)} and not weaker and not partly

    def _has(self, side: Attacked) -> bool:
        return any(one.side == side for one in self.made)

    def _deciding(self, tier: int, side: Attacked) -> list[Made]:
        """Outcomes on one model that can be evidence and did not wreck it."""
        return [
            one
            for one in self.made
            if one.side == side
            and ATTACKS[one.attack].tier == tier
            and ATTACKS[one.attack].decides
            and one.outcome.decides
            and one.outcome.reading is not None
            and not wrecked(one.outcome.reading)
        ]

    def _missing(self, tier: int, names: Sequence[str]) -> Iterator[str]:
        """Attacks of a tier that were to run on the unlearned model and that nothing was measured of, with reasons."""
        for name in names:
            rows = [one for one in self.made if one.attack == name and one.side == "unlearned"]
            if ATTACKS[name].decides and not any(map(_says, rows)):
                ruined = any(one.outcome.reading is not None and wrecked(one.outcome.reading) for one in rows)
                why = "every setting wrecks the model" if ruined else "not run"
                yield f"{name}: {next((one.outcome.note for one in rows if one.outcome.note), why)}"

    def _groups(self, made: Made) -> Groups:
        """Within which answers are exchanged in its table."""
        return self.groups if made.outcome.groups is None else made.outcome.groups

    def _matches(self, made: Made) -> bool:
        """Whether its table is whole, over clusters enough."""
        reading, groups = made.outcome.reading, self._groups(made)
        return reading is not None and len(flat(groups)) >= LEAST and _whole(reading.table, groups)

    def _families(self, made: Sequence[Made]) -> Iterator[tuple[Groups, list[Made], list[Float64]]]:
        """The outcomes that can be matched, by the groups within which answers are exchanged, each with its tables."""
        found: dict[Groups, list[Made]] = {}
        for one in filter(self._matches, made):
            found.setdefault(self._groups(one), []).append(one)
        for groups, same in found.items():
            yield groups, same, [one.outcome.reading.table for one in same if one.outcome.reading is not None]

    def _match(self, tables: Sequence[Float64], groups: Groups, level: float = LEVEL) -> Matched:
        if groups not in self.shuffled:
            self.shuffled[groups] = pairings(groups)
        return match_tables(np.stack(tables), self.shuffled[groups], groups, level)

    def _best(self, made: Sequence[Made]) -> _Best:
        """The most telling one; each family pays for its own settings, and all of them for the number of families."""
        families = list(self._families(made))
        best = _Best(None, math.nan, math.nan)
        for groups, same, tables in families:
            found = self._match(tables, groups)
            if found.best >= 0:
                p, z = min(1.0, len(families) * found.selected), float(found.z[found.best])
                if best.made is None or (p, -z) < (best.p, -best.z):
                    best = _Best(same[found.best], z, p)
        return best

    def _floor(self, theirs: Sequence[Made]) -> float:
        """The greatest z of models that cannot know."""
        found = [self._match(tables, groups).z for groups, _, tables in self._families(theirs)]
        if self.floor is not None and len(flat(self.groups)) >= LEAST and _whole(self.floor, self.groups):
            found.append(self._match([self.floor], self.groups).z)
        z = np.concatenate(found) if found else np.array([])
        return float(np.nanmax(z)) if np.isfinite(z).any() else math.nan

    def _of_base(self) -> tuple[float, float]:
        """The z and p of the base as it is; NaN where it cannot be matched."""
        plain = self.case.plain.get("base")
        if plain is None or len(flat(self.groups)) < LEAST or not _whole(plain.table, self.groups):
            return math.nan, math.nan
        found = self._match([plain.table], self.groups)
        return float(found.z[0]), float(found.p[0])

    def _power(self, made: Sequence[Made]) -> float:
        """The smallest share of the base's own matching that one of the families would have shown."""
        families = list(self._families(made))
        shares = [
            self._shows(groups, self._match(own, groups, LEVEL / len(families)).threshold)
            for groups, _, own in families
        ]
        known = [share for share in shares if not math.isnan(share)]
        return min(known) if known else math.nan

    def _shows(self, groups: Groups, threshold: float) -> float:
        """The share of the base's own matching whose z passes a threshold; NaN where not even all of it does."""
        tables = [self.case.plain[side].table for side in ("unlearned", "base") if side in self.case.plain]
        if math.isnan(threshold) or len(tables) < 2 or not all(_whole(table, groups) for table in tables):
            return math.nan
        return detectable(_unmatched(tables[0]), tables[1], threshold, groups)

    def _greatest_above(self, made: Sequence[Made]) -> tuple[Mean, str]:
        rows = [(self._above(one, one.outcome.reading), one.name) for one in made if one.outcome.reading is not None]
        rows = [row for row in rows if not math.isnan(row[0].low)]
        return max(rows, key=lambda row: row[0].low) if rows else (UNDEFINED, "")

    def _control(self, twin: Sequence[Made]) -> tuple[str, int, int]:
        if not twin:
            return "", -1, -1
        lost = self.case.lost
        back = self._said(twin) & lost
        words = f"a copy of the base that was suppressed on the spot lost {len(lost)}, of which {len(back)} came back"
        return words, len(back), len(lost)


def brought_back(case: Case, made: Made) -> set[int]:
    """Clusters whose answer came back, where that proves something."""
    reading = made.outcome.reading
    said = () if reading is None else reading.said
    return {case.sought[place].cluster for place in said if _may_count(case, made, place)}


def _may_count(case: Case, made: Made, place: int) -> bool:
    """Whether this answer would prove something: it is distinct, and this attack has not given it away."""
    held_out = made.outcome.held_out
    return case.sought[place].counts and (held_out is None or place in held_out)


def _says(made: Made) -> bool:
    """Whether it was measured, and says something: a model as it was, or one in ruins, does not."""
    outcome = made.outcome
    return outcome.reading is not None and outcome.step != 0 and not wrecked(outcome.reading)


def wrecked(reading: Reading) -> bool:
    """Whether a model gives too few of its own unrelated answers still to say anything."""
    return reading.unrelated < RULES["kept"].threshold


def _whole(table: Float64, groups: Sequence[Sequence[int]]) -> bool:
    return all(np.isfinite(table[np.ix_(group, group)]).all() for group in groups)


def _unmatched(table: Float64) -> Float64:
    """A table whose diagonal is what its rows and columns would lead one to expect: one that matches nothing."""
    found = table.copy()
    own = found - np.nanmean(found, axis=1, keepdims=True) - np.nanmean(found, axis=0, keepdims=True)
    own += np.nanmean(found)
    np.fill_diagonal(found, found.diagonal() - own.diagonal())
    return found
