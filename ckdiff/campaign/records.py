"""Records that the parts of a campaign hand to each other: frozen, no work.

Plan (what a file asks)  ->  Task (one job, with its key)  ->  engine  ->  Outcome
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ckdiff.errors import CkdiffError
from ckdiff.options import Option

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ckdiff.audit.gate.records import Policy

RUNS = ("compare", "behave", "probe", "audit", "attack", "depth")
"""What a job can do, in the order in which the jobs of a pair stand in a plan."""
ENDED = ("done", "inconclusive", "failed")
"""How a job can end; "inconclusive" would end the same way again, "failed" is tried again on request."""


class PlanError(CkdiffError):
    """A plan that cannot be read, or that asks for what does not exist."""


class CampaignError(CkdiffError):
    """A campaign that cannot be run or gathered as it is."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that one job gets.

    Attributes:
        threads: CPU threads; the last bits of a sum depend on them, so that they belong to a job's key.
        gpus: GPUs, 0 or 1.
        memory: bytes to plan with; 0: all that the machine has.
        retries: how often a job is tried again whose process or node was lost.
        device: "auto", "cpu" or "cuda".
        stream: "auto", "on" or "off".
        batch_size: questions that go through a layer together.
    """

    threads: int = 1
    gpus: int = 0
    memory: int = 0
    retries: int = 1
    device: str = "auto"
    stream: Literal["auto", "on", "off"] = "auto"
    batch_size: int = 32


@dataclass(frozen=True, slots=True)
class Topic:
    """The questions of one column of a campaign.

    Attributes:
        name: the concept, or the question file's name without its ending; "" where nothing is asked.
        questions: a file of questions, or None.
        concept: which entry of the file, or None for all of it.
    """

    name: str
    questions: Path | None = None
    concept: str | None = None


@dataclass(frozen=True, slots=True)
class PairPlan:
    """One pair of checkpoints of a plan.

    Attributes:
        name: unique in the plan.
        group: pairs of one group are averaged together (a method, a model); "" where none is named.
        base, unlearned: what `open_checkpoint` takes; paths are absolute.
        topics: what is asked; one at least, and no two of one name.
        runs: keys of `RUNS`.
        required: a campaign without it is incomplete.
        measure: keys of `audit.policy.MEASURES` without questions and concept, paths absolute.
        policy: what an audit, or the gathered reports, are held against, or None.
        attack: fields of `AttackSpec` that say which attacks, and beside which reference; its path is absolute.
        audit: fields of `AuditSpec` that say the same of an audit.
        reference: what `depth` and `behave` measure beside, or None; its path is absolute.
        reference_kind: how it came about, or None.
        adapter_base: as in `CompareSpec`.
        tokenizer: as in `Settings`.
    """

    name: str
    group: str
    base: str
    unlearned: str
    topics: tuple[Topic, ...]
    runs: tuple[str, ...]
    required: bool = True
    measure: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy | None = None
    attack: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None
    reference_kind: str | None = None
    adapter_base: str | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan, globs and concepts written out.

    Attributes:
        name: whose results these are; a results directory belongs to one name.
        text: of the file, as it was read.
        source: the file's name, for people.
        results: where results are kept; absolute.
    """

    name: str
    text: str
    source: str
    results: Path
    pairs: tuple[PairPlan, ...]
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True, slots=True)
class Task:
    """One job as a worker gets it, in whatever process; it can be pickled.

    Attributes:
        key: digest of everything that determines its result.
        name: for people: pair, concept and run.
        run: a key of `work.WORK`.
        spec: what that function is given.
        results: the results directory.
        threads, gpus, memory, retries: as in `Resources`.
        weight: how heavy it is beside others, for an estimate of the time left.
    """

    key: str
    name: str
    run: str
    spec: Any
    results: Path
    threads: int = 1
    gpus: int = 0
    memory: int = 0
    retries: int = 1
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Slot:
    """One job of a plan, as a results directory records it.

    Attributes:
        pair, group, required: of its `PairPlan`.
        concept: name of its topic; "" for a job that asks nothing.
        run: a key of `RUNS`.
        base, unlearned: as the plan names them.
        base_digest, unlearned_digest: of the weights; "" where they could not be read.
        key: digest of everything that determines its result; "" where it is not known.
        reason: why it is not known, in one line; else "".
        policy, policy_source: the text of the pair's policy, and its file's name; "" for none.
    """

    pair: str
    group: str
    concept: str
    run: str
    required: bool
    base: str
    unlearned: str
    base_digest: str = ""
    unlearned_digest: str = ""
    key: str = ""
    reason: str = ""
    policy: str = ""
    policy_source: str = ""


State = Literal["done", "inconclusive", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        state: one of `ENDED`, or "stopped": it was asked to, and can be gone on with.
        reason: one line; "" where it is done.
        seconds: of the last attempt, in the worker.
        peak: greatest resident memory in bytes; 0: not known.
        attempts: processes that were lost, and the one that ended it.
        sha256: of the report's file; "" where there is none.
    """

    key: str
    state: State
    reason: str = ""
    seconds: float = 0.0
    peak: int = 0
    attempts: int = 1
    sha256: str = ""


Stop = Callable[[], bool]
"""Asked often; True: end soon, keeping what is done."""
Work = Callable[[Task, Stop], Outcome]
"""Does a job; raises nothing. Importable by its name, so that other processes find it."""
Ended = Callable[[Task, Outcome], None]
"""Told of each job as it ends, in the process and thread that called the engine."""


@dataclass(frozen=True, slots=True)
class Found:
    """A slot, and what results directories hold of it.

    Attributes:
        report: its report's file, or None.
        outcome: how it ended, as it was recorded beside the report; None where nothing was.
    """

    slot: Slot
    report: Path | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Results:
    """The results directories of one plan, taken together.

    Attributes:
        name, plan: name and text of the plan.
        found: every job of the plan, in its order.
    """

    name: str
    plan: str
    found: tuple[Found, ...]


WORKERS = Option("--workers", "Jobs at a time (local); 0: what cores and memory allow.", least=0, most=1024)
ADDRESS = Option("--address", "A running Ray cluster: HOST:PORT, or auto; else one is started here.")
PATIENCE = Option("--patience", "Seconds to wait for a cluster's answer.", least=1, most=3600)


@dataclass(frozen=True, slots=True)
class Ways:
    """How an engine runs jobs.

    Attributes:
        workers: jobs at the same time (local); 0: the engine's own choice.
        address: of a Ray cluster; "" for one that is started for this campaign.
        patience: seconds to wait for a cluster.
    """

    workers: Annotated[int, WORKERS] = 0
    address: Annotated[str, ADDRESS] = ""
    patience: Annotated[float, PATIENCE] = 30.0


Engine = Callable[[Sequence[Task], Work, Ended, Stop, Ways], None]
"""Runs every task once, whatever becomes of the others, and tells of each; returns early when asked to stop."""
