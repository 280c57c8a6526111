"""All attacks on one pair: `run(task, plan, listener)` gives the section of the report.

The base answers first: its answers are what is looked for. Then as many attacks go on at one time as have a thread and
room for a model of their own; those that train go one after the other. An attack that cannot be made leaves a row that
says why; it never ends the others.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.attacks.abreast import Abreast, codes_aside, places
from ckdiff.attacks.answers import MATCHED
from ckdiff.attacks.case import AttackError, Options, Outcome
from ckdiff.attacks.evidence import Evidence, Made
from ckdiff.attacks.kept import KeptTwin, open_kept
from ckdiff.attacks.opening import begin_case, open_reference, read_floor, read_plain, recall_plain
from ckdiff.attacks.quantise import code_shares
from ckdiff.attacks.table import ATTACKS
from ckdiff.attacks.twin import suppress
from ckdiff.probes.assembly import NotFiniteError
from ckdiff.probes.base_answers import library_versions
from ckdiff.probes.cost import TooLittleMemoryError
from ckdiff.probes.live.beside import shared_threads
from ckdiff.probes.preparation import settings_record
from ckdiff.progress import Listener
from ckdiff.questions.values import canonical_digest
from ckdiff.report.schema.attack import AttackQuestion, AttackReport
from ckdiff.scoring.scores import METHOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ckdiff.attacks.abreast import Lives
    from ckdiff.attacks.case import Case
    from ckdiff.attacks.kept import Kept
    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.attack import Attacked, CodeShare
    from ckdiff.weights.checkpoint import Checkpoint

SET_ASIDE = "it was set aside, and attacks went on without it"
WEIGHTS = 2
"""The tier whose attacks the suppressed twin is the control of."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where what is done is kept.

    Attributes:
        place: a file, or None: nowhere.
        weights: a text that tells the pair's weights from others.
        resume: go on with what is there.
    """

    place: Path | None = None
    weights: str = ""
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Battery:
    """Which attacks, and beside what.

    Attributes:
        attacks: names, in the order of the table.
        reference: a model that never knew, or None.
        reference_kind: how it came about, or "".
        reference_digest: over its weight files, or "".
        options: what an attacker chooses.
        floor: measure what a base without its MLPs reaches.
    """

    attacks: tuple[str, ...]
    reference: Checkpoint | None = None
    reference_kind: str = ""
    reference_digest: str = ""
    options: Options = field(default_factory=Options)
    floor: bool = True


def run(
    task: AskJob,
    plan: Battery,
    listener: Listener | None = None,
    known: Sequence[Sequence[int]] | None = None,
    keeping: Keeping | None = None,
) -> AttackReport:
    """Attack base, unlearned model and reference, one after the other.

    Args:
        task: from `prepare_behaviour`, with target questions.
        plan: which attacks.
        listener: told of progress.
        known: the base's greedy answers to the target questions, where somebody has them already.
        keeping: where what is done is kept, if anywhere.

    Raises:
        AttackError: the base answers nothing.
        PartialError: what is kept is damaged, or is of another attack.
        CkdiffError: a model cannot be read.
    """
    listener = listener or Listener()
    kept = _open_kept(task, plan, keeping or Keeping())
    lives, plan, notes = _open_lives(task, plan, listener)
    still = [name for name in plan.attacks if not ATTACKS[name].trains]
    count = places(task, still)
    with torch.inference_mode():
        with shared_threads(count):
            known = known if kept.answers is None else kept.answers
            with codes_aside(task, lives, count > 1 and known is None and "quantise" in still) as codes:
                case, more = begin_case(task, plan.options, listener, known)
                kept.answers, case.followed = [list(ids) for ids in case.said], list(kept.followed)
                made, shares = _attack_sides(Abreast(case, lives, count), case, still, plan.floor, kept, codes)
        twin, more_made = _train_all(case, lives, plan.attacks, made, kept)
    evidence = Evidence(case, [*made, *more_made], kept.floor)
    return _report_of(task, plan, evidence, [*notes, *more], twin, shares)


def _open_lives(task: AskJob, plan: Battery, listener: Listener) -> tuple[Lives, Battery, list[str]]:
    """The models, the plan, without a reference that does not fit, and what is to be said of them."""
    lives: dict[Attacked, LiveModel] = {"base": task.job.pair.base, "unlearned": task.job.pair.unlearned}
    if plan.reference is None:
        return lives, plan, list(task.notes)
    try:
        lives["reference"], more = open_reference(task, plan.reference)
    except AttackError as error:
        plan = replace(plan, reference=None, reference_kind="", reference_digest="")
        more = [f"--reference: {error}; {SET_ASIDE}"]
        listener.remark(more[0])
    return lives, plan, [*task.notes, *more]


def _attack_sides(
    abreast: Abreast,
    case: Case,
    still: Sequence[str],
    floor: bool,
    kept: Kept,
    begun: Callable[[], tuple[CodeShare, ...]] | None,
) -> tuple[list[Made], tuple[CodeShare, ...]]:
    """Every outcome of attacks that train nothing, model after model, and what codes tell of the pair.

    Where `begun` is None, that is found out last.
    """
    with abreast as crew:
        sides = list(crew.lives)
        _await([
            *(crew.begin(partial(_recall, kept=kept, side=side)) for side in sides),
            crew.begin(partial(_read_floor, kept=kept, wanted=floor)),
        ])  # fmt: skip
        # What takes longest begins first: the base is not matched.
        made = [
            crew.begin(partial(_make, kept=kept, side=side, name=name, of=still))
            for side in sorted(sides, key=lambda side: side == "base")
            for name in still
        ]
        codes = begun or (crew.begin(_codes) if "quantise" in still else tuple)
        _await(made)
        shares = codes()
    for side in sides:
        case.listener.progress(f"attacking the {side}", len(still), len(still), "")
    every = [(name, side) for side in sides for name in still]
    return [Made(*key, outcome) for key in every for outcome in kept.made.get(key, ())], shares


def _codes(case: Case, lives: Lives) -> tuple[CodeShare, ...]:
    return code_shares(lives["base"], lives["unlearned"], case.listener)


def _await(begun: Sequence[Callable[[], None]]) -> None:
    for wait in begun:
        wait()


def _recall(case: Case, lives: Lives, kept: Kept, side: Attacked) -> None:
    recall_plain(case, lives[side], side, kept)


def _read_floor(case: Case, lives: Lives, kept: Kept, wanted: bool) -> None:
    if wanted and kept.floor is None:
        kept.floor = read_floor(case, lives["base"])


def _make(case: Case, lives: Lives, kept: Kept, side: Attacked, name: str, of: Sequence[str]) -> None:
    """Every outcome of one attack on one model, made now or before; what is done is kept at once."""
    if side not in ATTACKS[name].sides:
        return
    done = sum((other, side) in kept.made for other in of)
    case.listener.progress(f"attacking the {side}", done, len(of), name)
    if (name, side) not in kept.made:
        found = [made.outcome for made in _attack(case, lives[side], side, name)]
        with kept.lock:
            kept.made[name, side], kept.followed = found, list(case.followed)
            _save(case, kept)


def _report_of(
    task: AskJob, plan: Battery, evidence: Evidence, notes: Sequence[str], twin: str, codes: tuple[CodeShare, ...]
) -> AttackReport:
    """The outcomes as a report keeps them."""
    case = evidence.case
    return AttackReport(
        model_type=task.job.pair.base.row.model_type,
        clusters=len(set(case.clusters)),
        questions=tuple(_records(case)),
        rows=evidence.rows(),
        returned=evidence.returned(),
        codes=codes,
        tiers=evidence.tiers(plan.attacks),
        reference="" if plan.reference is None else plan.reference.location,
        reference_kind=plan.reference_kind,
        settings=settings_of(task, plan),
        notes=tuple(dict.fromkeys(notes)),
        twin=twin,
        reference_digest=plan.reference_digest,
    )


def _open_kept(task: AskJob, plan: Battery, keeping: Keeping) -> Kept:
    """What was done of the same attack before, or nothing."""
    job = task.job
    reference = () if plan.reference is None else plan.reference.shards
    tree = [
        settings_of(task, plan),
        settings_record(job),
        [(prompt.ids, prompt.question.cluster, prompt.question.kind) for prompt in job.prompts],
        keeping.weights,
        [(str(shard.path), shard.size, shard.path.stat().st_mtime_ns) for shard in reference],
        library_versions(),
        torch.get_num_threads(),
        [task.way.batch_size, task.way.stream],
    ]
    key = hashlib.sha256(json.dumps(tree).encode()).hexdigest()
    return open_kept(keeping.place, key, keeping.resume)


def _attack_all(case: Case, lives: Lives, side: Attacked, names: Sequence[str], kept: Kept) -> Iterator[Made]:
    """Every outcome of some attacks on one model, one after the other."""
    for name in names:
        _make(case, lives, kept, side, name, names)
        yield from (Made(name, side, outcome) for outcome in kept.made.get((name, side), ()))
    case.listener.progress(f"attacking the {side}", len(names), len(names), "")


def _save(case: Case, kept: Kept) -> None:
    try:
        kept.save()
    except OSError as error:
        case.listener.remark(
            f"{kept.place}: what is done could not be kept ({str(error)[:100]}); free some disk to use --resume"
        )


def _train_all(
    case: Case, lives: Mapping[Attacked, LiveModel], names: Sequence[str], before: Sequence[Made], kept: Kept
) -> tuple[str, list[Made]]:
    """The outcomes of attacks that train, and how their control came about: a suppressed copy of the base.

    The unlearned model comes first, since the others repeat its trainings. Where an answer came back from it there is
    nothing to control.
    """
    training = [name for name in names if ATTACKS[name].trains]
    found: list[Made] = []
    for side in ("unlearned", "reference", "base"):
        if side in lives:
            found += _attack_all(case, lives, side, training, kept)
    if not training:
        return "", found
    alike = [name for name in names if ATTACKS[name].tier == WEIGHTS]
    if Evidence(case, [*before, *found], None).proves(WEIGHTS):
        return "not needed: answers came back from the unlearned model", found
    try:
        return _attack_twin(case, alike, kept, found)
    except (AttackError, NotFiniteError, TooLittleMemoryError) as error:
        return f"not made: {error}", found


def _attack_twin(case: Case, names: Sequence[str], kept: Kept, found: list[Made]) -> tuple[str, list[Made]]:
    """How the twin came about, and what was found, with what the attacks made of the twin added.

    Raises:
        AttackError: there can be none.
        NotFiniteError: it computes what is no number.
        TooLittleMemoryError: it cannot be trained here.
    """
    live = case.job.pair.base
    if kept.twin is None or any("twin" in ATTACKS[name].sides and (name, "twin") not in kept.made for name in names):
        twin = suppress(case)
        live = twin.live
        read_plain(case, live, "twin")
        kept.sides.pop("twin", None)
        said = {case.sought[place].cluster for place in case.plain["twin"].said if case.sought[place].counts}
        kept.twin = KeptTwin(twin.says, sorted({one.cluster for one in case.sought if one.counts} - said))
    recall_plain(case, live, "twin", kept)
    case.lost = set(kept.twin.lost)
    return kept.twin.says, found + list(_attack_all(case, {"twin": live}, "twin", names, kept))


def _attack(case: Case, live: LiveModel, side: Attacked, name: str) -> Iterator[Made]:
    """Every outcome of one attack on one model; where it cannot be made, one that says why."""
    try:
        for outcome in ATTACKS[name].outcomes(case, live, side):
            yield Made(name, side, outcome)
    except (AttackError, NotFiniteError, TooLittleMemoryError) as error:
        yield Made(name, side, Outcome("not measured", None, note=str(error)))


def _records(case: Case) -> Iterator[AttackQuestion]:
    base, unlearned, reference = case.plain["base"], case.plain["unlearned"], case.plain.get("reference")
    for place, one in enumerate(case.sought):
        yield AttackQuestion(
            text=one.question.text,
            answer=one.text,
            answer_ids=one.answer,
            matched=one.matched_text,
            cluster=one.cluster,
            counts=one.counts,
            base_right=math.nan if one.base_right is None else float(one.base_right),
            log_p_base=float(base.level[place]),
            log_p_unlearned=float(unlearned.level[place]),
            leak_unlearned=float(np.exp(unlearned.log_p[place])),
            said_unlearned=case.answers["unlearned"][place],
            log_p_reference=math.nan if reference is None else float(reference.level[place]),
            leak_reference=math.nan if reference is None else float(np.exp(reference.log_p[place])),
        )


def settings_of(task: AskJob, plan: Battery) -> dict[str, str]:
    """The settings that determine the numbers, as the report keeps them."""
    settings, target = task.job.settings, task.asked.target
    assert target is not None
    return {
        "attacks": ",".join(plan.attacks),
        "tokens": str(settings.tokens),
        "prompt": settings.prompt,
        "answers": "greedy, of the base, up to the end of their first line",
        "matched": f"the first {MATCHED} tokens of an answer that no question holds",
        "questions_source": target.source,
        "questions_digest": target.digest,
        "details_digest": _details(task),
        "samples": str(plan.options.samples),
        "seed": str(plan.options.seed),
        **(_trainings(plan.options) if any(ATTACKS[name].trains for name in plan.attacks) else {}),
        "dtype": settings.dtype,
        "device": task.job.device.type,
        "bootstrap": METHOD,
    }


def _details(task: AskJob) -> str:
    """A digest of all else that is asked, and of which questions are about one fact or ask for one kind of thing."""
    target = task.asked.target
    assert target is not None
    facts = [[one.cluster, one.kind, list(one.paraphrases)] for one in target.questions]
    choices = [[list(prompt.ids), list(prompt.answer)] for prompt in task.choices]
    return canonical_digest([facts, choices, task.asked.unrelated.digest])


def _trainings(options: Options) -> dict[str, str]:
    """The settings of attacks that train."""
    return {
        "training": options.training,
        "arms": ",".join(options.arms),
        "rates": ",".join(f"{rate:g}" for rate in options.rates) or "by width",
        "train_steps": str(options.steps),
        "folds": str(options.folds),
        "train_seeds": str(options.seeds),
    }
