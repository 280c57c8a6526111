"""From a plan to jobs: what each measures, and the key that everything which determines its result makes.

    pair x topic x run  ->  Slot (for the record)  and  Task (for a worker)

Weight files are hashed once a campaign: `digests.json` of the results directory knows them as long as size and times
of a file are the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckdiff.cache import state_of
from ckdiff.campaign.records import RUNS, PlanError, Slot, Task
from ckdiff.campaign.run.store import sha256_of
from ckdiff.errors import CkdiffError
from ckdiff.report.schema.report import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ckdiff.cache import Cache
    from ckdiff.calls.specs import AttackSpec, AuditSpec, BehaveSpec, CompareSpec, DepthSpec, ProbeSpec
    from ckdiff.campaign.records import PairPlan, Plan, Resources, Topic
    from ckdiff.questions.asked import Asked
    from ckdiff.questions.questions import QuestionSet
    from ckdiff.scoring.settings import Settings
    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.headers import Shard

    Spec = CompareSpec | BehaveSpec | ProbeSpec | AuditSpec | AttackSpec | DepthSpec


WEIGHTS = {"compare": 1.0, "behave": 20.0, "probe": 50.0, "audit": 120.0, "attack": 200.0, "depth": 50.0}
"""How heavy a job is beside others, roughly, where nothing was measured yet."""


OF_A_PROBE = ("modes", "variants", "directions", "window", "windows", "neurons")
"""Measures that say nothing of how deep it goes."""


@dataclass(frozen=True, slots=True)
class Known:
    """One checkpoint of a plan, or why it cannot be read.

    Attributes:
        digest: of its weights.
        around: of the files beside them: config, tokenizer, and what it says of its own making.
        bytes: of its weight files.
    """

    digest: str = ""
    around: str = ""
    bytes: int = 0
    reason: str = ""


@dataclass(slots=True)
class Jobs:
    """Every job of a plan.

    Attributes:
        slots: in the plan's order.
        tasks: by key, in the plan's order; of a shard its own ones. Two slots may share one.
    """

    slots: list[Slot] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)


def jobs(
    plan: Plan,
    cache: Cache,
    shard: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    hashing: bool = True,
) -> Jobs:
    """Every job of a plan, with its key.

    Args:
        plan: what is asked.
        cache: knows digests of weight files, and learns those that are computed.
        shard: (i, n): only every n-th job from the i-th on gets a task and a key.
        progress: called with (bytes hashed, bytes in all).
        hashing: False: files whose digest is not known yet are left unhashed, and their jobs have no key.

    Raises:
        CkdiffError: the plan asks for what cannot be (settings, questions); a checkpoint that cannot be read is no
            error but the reason of its slots.
    """
    wanted = list(_wanted_jobs(plan))
    own = [number % shard[1] == shard[0] - 1 if shard else True for number in range(len(wanted))]
    specs = [spec for (_, _, _, spec), mine in zip(wanted, own, strict=True) if mine]
    sides = [(side, spec.adapter_base) for spec in specs for side in _sides_of(spec)]
    known = _know_sides(sides, cache, progress, hashing)
    found, questions = Jobs(), Questions()
    for (pair, topic, run, spec), mine in zip(wanted, own, strict=True):
        slot = _slot(pair, topic, run)
        if mine:
            sides_known = tuple(known[side, spec.adapter_base] for side in _sides_of(spec))
            slot = _give_key(slot, spec, sides_known, plan.resources, questions)
            # A plan that is only looked at has jobs whose weights nobody has hashed: they cost as much as others.
            key = slot.key or (f"unhashed {len(found.slots)}" if not hashing and not slot.reason else "")
            if key and key not in found.tasks:
                found.tasks[key] = _task(replace(slot, key=key), spec, plan)
                found.bytes[key] = sum(side.bytes for side in sides_known)
        found.slots.append(slot)
    return found


def _sides_of(spec: Spec) -> tuple[str, ...]:
    """Base, unlearned model, and the model that never knew where one stands beside them."""
    reference = getattr(spec, "reference", None)
    return spec.base, spec.unlearned, *((reference,) if reference else ())


def name_of(slot: Slot) -> str:
    """The name of a job, for people."""
    return ", ".join(filter(None, (slot.pair, slot.concept, slot.run)))


def _wanted_jobs(plan: Plan) -> Iterator[tuple[PairPlan, Topic, str, Spec]]:
    for pair in plan.pairs:
        for run in (run for run in RUNS if run in pair.runs):
            for topic in pair.topics[:1] if run == "compare" else pair.topics:
                yield pair, topic, run, spec_of(pair, topic, run, plan.resources)


def spec_of(pair: PairPlan, topic: Topic, run: str, resources: Resources) -> Spec:
    """The spec of one job: that of the function that does it."""
    from ckdiff.calls import specs

    sides: dict[str, Any] = {"base": pair.base, "unlearned": pair.unlearned, "adapter_base": pair.adapter_base}
    if run == "compare":
        return specs.CompareSpec(**sides)
    given = dict(pair.measure)
    if topic.questions is not None:
        given["questions"] = topic.questions
    if topic.concept is not None:
        given["concept"] = topic.concept
    measures = specs.measures_of(pair.policy if run == "audit" else None, given)
    settings = _settings(measures, run, pair, resources)
    asked = {"questions": measures.get("questions"), "concept": measures.get("concept")}
    if run == "probe":
        return specs.ProbeSpec(**sides | asked, settings=settings)
    beside: dict[str, Any] = {"reference": pair.reference, "reference_kind": pair.reference_kind}
    if run == "depth":
        return specs.DepthSpec(**sides | asked | beside, settings=settings)
    sides |= specs.questions_in(measures)
    if run == "behave":
        # A model that never knew has nothing to say to general questions.
        beside = beside if pair.reference is not None and asked["questions"] is not None else {}
        return specs.BehaveSpec(**sides | beside, settings=settings)
    if run == "attack":
        sides = {key: value for key, value in sides.items() if key != "holdout"} | {"neutral": False}
        return specs.AttackSpec(**sides, settings=settings, **pair.attack)
    return specs.AuditSpec(**sides, settings=settings, policy=pair.policy, **pair.audit)


def _settings(measures: dict[str, Any], run: str, pair: PairPlan, resources: Resources) -> Settings:
    from ckdiff.calls.specs import audit_settings, settings_in
    from ckdiff.scoring.settings import Settings

    if resources.gpus and resources.device == "cpu":
        raise PlanError("[resources]: gpus = 1 and device = 'cpu' contradict each other; leave one out")
    device = resources.device
    if device == "auto":
        device = "cuda" if resources.gpus else "cpu"
    if run == "depth":
        # Nothing is put back in windows.
        measures = {key: value for key, value in measures.items() if key not in OF_A_PROBE}
    # A probe is made as `ckdiff probe` makes it where nothing else is said.
    plain = replace(
        Settings() if run in ("probe", "depth") else audit_settings(),
        device=device,
        stream=resources.stream,
        batch_size=resources.batch_size,
        tokenizer=pair.tokenizer,
        memory=resources.memory,
    )
    return settings_in(measures, plain)


def _slot(pair: PairPlan, topic: Topic, run: str) -> Slot:
    return Slot(
        pair=pair.name,
        group=pair.group,
        concept="" if run == "compare" else topic.name,
        run=run,
        required=pair.required,
        base=pair.base,
        unlearned=pair.unlearned,
        policy="" if pair.policy is None else pair.policy.text,
        policy_source="" if pair.policy is None else pair.policy.source,
    )


def _give_key(slot: Slot, spec: Spec, sides: tuple[Known, ...], resources: Resources, questions: Questions) -> Slot:
    reasons = [side.reason for side in sides if side.reason]
    slot = replace(slot, base_digest=sides[0].digest, unlearned_digest=sides[1].digest)
    if reasons or not all(side.digest for side in sides):
        return replace(slot, reason=reasons[0] if reasons else "")
    return replace(slot, key=key_of(slot.run, spec, sides, resources, questions))


class Questions:
    """Question files, each read once for all jobs that ask the same."""

    def __init__(self) -> None:
        self._probes: dict[Any, QuestionSet] = {}
        self._behaves: dict[Any, Asked] = {}

    def of_probe(self, spec: ProbeSpec | DepthSpec) -> QuestionSet:
        """The questions of a probe."""
        from ckdiff.calls.ask import read_questions_of

        what = spec.questions, spec.asked, spec.concept, spec.unrelated
        if what not in self._probes:
            self._probes[what] = read_questions_of(spec)
        return self._probes[what]

    def of_behave(self, spec: BehaveSpec) -> Asked:
        """The questions to both models."""
        from ckdiff.calls.ask import read_asked

        first = spec.questions, spec.asked, spec.concept, spec.unrelated, spec.most_unrelated
        what = (*first, spec.choices, spec.neutral, spec.holdout)
        if what not in self._behaves:
            self._behaves[what] = read_asked(spec)
        return self._behaves[what]


def key_of(
    run: str, spec: Spec, sides: tuple[Known, ...], resources: Resources, questions: Questions | None = None
) -> str:
    """sha256 over everything that determines the result of a job, in hexadecimal.

    The checkpoints (weights, config, tokenizer), the questions (their content, not their file's name), every setting,
    the device's kind, CPU threads, the memory that is planned with, the policy, and the report's schema version.
    """
    tree = {
        "schema": SCHEMA_VERSION,
        "run": run,
        "sides": [(side.digest, side.around) for side in sides],
        "threads": resources.threads,
        "memory": resources.memory,
        **_question_key(spec, questions or Questions()),
    }
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()


def _question_key(spec: Spec, questions: Questions) -> dict[str, Any]:
    from ckdiff.calls.attack import options_of
    from ckdiff.calls.specs import AttackSpec, AuditSpec, BehaveSpec, CompareSpec, DepthSpec, ProbeSpec

    if isinstance(spec, CompareSpec):
        return {}
    settings = asdict(spec.settings)
    tokenizer = settings.pop("tokenizer")
    found: dict[str, Any] = {"settings": settings, "tokenizer": "" if tokenizer is None else around(tokenizer)}
    if isinstance(spec, ProbeSpec):
        return found | {"questions": questions.of_probe(spec).digest}
    if isinstance(spec, DepthSpec):
        return found | {"questions": questions.of_probe(spec).digest, "depth": [spec.compat, spec.reference_kind]}
    behave = spec if isinstance(spec, BehaveSpec) else spec.behave
    asked = questions.of_behave(behave)
    sets = {name: one.digest for name, one in asked.open.items()}
    others = [None if part is None else part.digest for part in (asked.choices, asked.neutral)]
    if asked.holdout is not None:
        found["holdout"] = asked.holdout.digest
    if isinstance(spec, BehaveSpec) and spec.reference:
        found["reference_kind"] = spec.reference_kind
    policy = spec.policy.digest if isinstance(spec, AuditSpec) and spec.policy is not None else None
    attack = spec if isinstance(spec, AttackSpec) else spec.attack if isinstance(spec, AuditSpec) else None
    if attack is not None:
        found["attack"] = [attack.chosen, asdict(options_of(attack)), attack.reference_kind]
        if attack.margins is not None:
            found["margins"] = sha256_of(Path(attack.margins))
    return found | {"questions": sets, "others": others, "policy": policy}


def around(root: Path | None) -> str:
    """A digest of the files beside the weights: config, tokenizer, adapter, what a checkpoint says of its making."""
    from ckdiff.weights.around import settings_files, weight_files
    from ckdiff.weights.making import FILE as MAKING
    from ckdiff.weights.reader import ADAPTER_CONFIG

    if root is None:
        return ""
    names = {*settings_files(root), ADAPTER_CONFIG, MAKING}
    lines = [f"{name} {sha256_of(root / name)}\n" for name in sorted(names) if (root / name).is_file()]
    # Which other weights lie there, unread, is said in a note.
    lines += [f"{name}\n" for name in weight_files(root)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _know_sides(
    sides: Iterable[tuple[str, str | None]],
    cache: Cache,
    progress: Callable[[int, int], None] | None,
    hashing: bool,
) -> dict[tuple[str, str | None], Known]:
    """Every checkpoint that is named, once, with digests; what cannot be read has a reason."""
    from ckdiff.weights.opening import open_checkpoint

    opened: dict[tuple[str, str | None], Checkpoint | str] = {}
    for side in dict.fromkeys(sides):
        try:
            opened[side] = open_checkpoint(*side)
        except CkdiffError as error:
            opened[side] = str(error)
    checkpoints = [one for one in opened.values() if not isinstance(one, str)]
    if hashing:
        _hash([shard for one in checkpoints for shard in one.shards], cache, progress)
    return {side: _one(found, cache, hashing) for side, found in opened.items()}


def _one(found: Checkpoint | str, cache: Cache, hashed: bool) -> Known:
    from ckdiff.weights.hashing import joint_digest

    if isinstance(found, str):
        return Known(reason=found)
    files = [(shard.name, cache.digest(shard.path)) for shard in found.shards]
    size = sum(shard.size for shard in found.shards)
    known = [(name, digest) for name, digest in files if digest is not None]
    if hashed and len(known) < len(files):
        return Known(reason=f"{found.location}: a weight file cannot be read, or changes while it is; copy it again")
    try:
        return Known(joint_digest(known) if len(known) == len(files) else "", around(found.root), size)
    except OSError as error:
        return Known(reason=f"{found.location}: cannot be read ({error.strerror})")


def _hash(shards: list[Shard], cache: Cache, progress: Callable[[int, int], None] | None) -> None:
    from ckdiff.weights.hashing import ShardHasher

    todo = {shard.path: shard for shard in shards if cache.digest(shard.path) is None}
    if not todo:
        return
    done, total = 0, sum(shard.size for shard in todo.values())
    states = {path: state_of(path) for path in todo}
    hasher = ShardHasher(todo.values())
    try:
        for path, shard in todo.items():
            # Told before the first is done, so that a bar is there.
            if progress is not None:
                progress(done, total)
            try:
                cache.add(path, hasher.digest(shard), states[path])
            except CkdiffError:
                continue  # its jobs have no key, and say so
            done += shard.size
        if progress is not None:
            progress(total, total)
    finally:
        hasher.close()
    cache.save()


def _task(slot: Slot, spec: Spec, plan: Plan) -> Task:
    resources = plan.resources
    return Task(
        key=slot.key,
        name=name_of(slot),
        run=slot.run,
        spec=spec,
        results=plan.results,
        threads=resources.threads,
        gpus=resources.gpus,
        memory=resources.memory,
        retries=resources.retries,
        weight=WEIGHTS[slot.run],
    )
