"""ckdiff as functions: a frozen spec in, a frozen report out. Each command is one of these plus presentation."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckdiff import __version__
from ckdiff.errors import ReportError
from ckdiff.probes.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.probes.asking import Asked
    from ckdiff.probes.jobs import Outline
    from ckdiff.probes.probing import Listener
    from ckdiff.probes.questions import QuestionSet
    from ckdiff.probes.shared import Shared
    from ckdiff.report.schema import CheckpointRecord, Probe, Provenance, Report, ShardRecord
    from ckdiff.unlearn.recipe import UnlearnSpec
    from ckdiff.unlearn.unlearning import Made
    from ckdiff.weights.hashing import ShardHasher
    from ckdiff.weights.reader import Checkpoint

SCOPE = ("modes", "variants", "directions", "neurons")
"""Settings that say which runs were made; the others say how, and only equals can stand in one report."""


@dataclass(frozen=True, slots=True)
class CompareSpec:
    """What to compare, and how.

    Attributes:
        base: a directory, a .safetensors file, an index file, an adapter directory, or a hub id with @revision.
        unlearned: the same.
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    base: str
    unlearned: str
    hash: bool = True
    adapter_base: str | None = None


def compare(
    spec: CompareSpec,
    progress: Callable[[int, int], None] | None = None,
    accept: Callable[[str, str], None] | None = None,
    *,
    shared: Shared | None = None,
) -> Report:
    """Parameter drift between two checkpoints: per tensor, component, layer and neuron.

    Args:
        spec: what to compare.
        progress: called with (elements done, elements in all).
        accept: called with both locations once the headers are read; it raises where the work should not begin.
        shared: what several jobs have in common.

    Raises:
        CheckpointError: a checkpoint cannot be read; nothing has been written.
    """
    from ckdiff.weights.opening import open_checkpoint

    base = open_checkpoint(spec.base, spec.adapter_base)
    unlearned = open_checkpoint(spec.unlearned, spec.adapter_base)
    if accept is not None:
        accept(base.location, unlearned.location)
    return compared(base, unlearned, spec.hash, progress, shared)


def compared(
    base: Checkpoint,
    unlearned: Checkpoint,
    hashes: bool,
    progress: Callable[[int, int], None] | None = None,
    shared: Shared | None = None,
) -> Report:
    """What `compare` does, from two opened checkpoints on."""
    hasher: ShardHasher | None = None
    if hashes:
        from ckdiff.weights.hashing import ShardHasher

        # Started before NumPy is imported: on two cores hashing is what takes longest.
        hasher = ShardHasher((*base.shards, *unlearned.shards), None if shared is None else shared.digest)
    try:
        from ckdiff.report.schema import Provenance, Report
        from ckdiff.weights.pairs import compare_checkpoints

        comparison = compare_checkpoints(base, unlearned, progress)
        provenance = Provenance(_record(base, hasher), _record(unlearned, hasher))
    finally:
        if hasher is not None:
            hasher.close()
    return Report(provenance, compare=comparison, versions=versions())


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """What to probe, and how.

    Attributes:
        base: as in `CompareSpec`; a probe needs a directory with config and tokenizer.
        unlearned: the same.
        questions: a file of questions (text, JSON, JSONL, ConceptVectors, TOFU, MUSE, RWKU).
        asked: questions as texts; with neither, a bundled set of general questions is asked.
        concept: which entry of the file.
        unrelated: of that entry the unrelated questions.
        settings: modes, variants, directions, window and the rest.
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    base: str
    unlearned: str
    questions: Path | None = None
    asked: tuple[str, ...] = ()
    concept: str | None = None
    unrelated: bool = False
    settings: Settings = field(default_factory=Settings)
    hash: bool = True
    adapter_base: str | None = None


def probe(
    spec: ProbeSpec,
    listener: Listener | None = None,
    existing: Report | None = None,
    keep: Path | None = None,
    resume: bool = False,
    *,
    shared: Shared | None = None,
) -> Report:
    """Restoration probes: where the effect of an unlearning lives, on live activations.

    Args:
        spec: what to probe.
        listener: told of progress, asked whether to stop.
        existing: a report of the same pair; the probe is put into it.
        keep: a file to keep an unfinished sweep in.
        resume: go on with what is kept there.
        shared: what several jobs have in common.

    Raises:
        CkdiffError: the pair, the questions or the settings do not allow a probe, or `existing` is about other weights.
        NothingToRecoverError: on these questions the two models do not differ.
    """
    from ckdiff.probes.jobs import prepare
    from ckdiff.probes.probing import run

    questions = questions_of(spec)
    spec.settings.check()
    base, unlearned = opened(spec)
    # Everything that can be refused is refused before files are hashed, which takes a while.
    job = prepare(base, unlearned, questions, spec.settings)
    found = _begun(base, unlearned, spec.hash, listener, existing, shared, "torch", "transformers")
    kept = None if keep is None else (keep, identity(base, unlearned, found.provenance))
    result = run(job, listener, kept, resume, shared)
    return merged(existing, replace(found, probe=result))


@dataclass(frozen=True, slots=True)
class BehaveSpec:
    """What to ask both models, and how.

    Attributes:
        base: as in `ProbeSpec`.
        unlearned: the same.
        questions: a file of questions about what was to be unlearned, as in `ProbeSpec`.
        asked: such questions as texts; with neither, none are asked.
        concept: which entry of the file.
        unrelated: a file of questions about anything else; without it those of the questions' own file, else the
            bundled general questions.
        most_unrelated: how many of them are asked, from the first on.
        choices: a file of multiple-choice questions (WMDP, MMLU), or None.
        neutral: a file of neutral texts; True for the bundled ones, False for none.
        settings: tokens, template, device and the rest; what is about probes alone is not looked at.
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    base: str
    unlearned: str
    questions: Path | None = None
    asked: tuple[str, ...] = ()
    concept: str | None = None
    unrelated: Path | None = None
    most_unrelated: int = 50
    choices: Path | None = None
    neutral: Path | bool = True
    settings: Settings = field(default_factory=Settings)
    hash: bool = True
    adapter_base: str | None = None


def behave(
    spec: BehaveSpec,
    listener: Listener | None = None,
    existing: Report | None = None,
    *,
    shared: Shared | None = None,
) -> Report:
    """What both models say: on target and unrelated questions, multiple choice and neutral text.

    Args:
        spec: what to ask, and how.
        listener: told of progress.
        existing: a report of the same pair; the behaviour is put into it, in the place of an older one.
        shared: what several jobs have in common.

    Raises:
        CkdiffError: the pair, the questions or the settings do not allow it, or `existing` is about other weights.
    """
    from ckdiff.probes.behaviour import prepare_behaviour, run
    from ckdiff.probes.history import read_making

    asked = asked_by(spec)
    spec.settings.check()
    base, unlearned = opened(spec)
    task = prepare_behaviour(base, unlearned, asked, spec.settings)
    found = _begun(base, unlearned, spec.hash, listener, existing, shared, "sacrebleu", "torch", "transformers")
    making = read_making(unlearned.root, found.provenance.unlearned.digest)
    said = run(task, making, listener, shared)
    digests = found.provenance.base.digest, found.provenance.unlearned.digest
    if digests[0] is not None and digests[0] == digests[1]:
        note = "both checkpoints hold the same weights (one digest): every answer is the same by necessity"
        said = replace(said, notes=(*said.notes, note))
    found = replace(found, behaviour=said)
    return found if existing is None else joined(existing, found)


def make_unlearned(spec: UnlearnSpec, listener: Listener | None = None, resume: bool = False) -> Made:
    """Make a checkpoint that has unlearned something, and measure what it still answers as it was saved.

    Args:
        spec: what to unlearn, and how.
        listener: told of progress, asked whether to stop.
        resume: go on with an interrupted training to the same output.

    Raises:
        CkdiffError: what was given does not allow it; nothing has been written.
        DivergedError: the loss was no longer finite before anything was measured.
        UnlearningStopped: the listener asked for it; what was done is kept for `resume`.
    """
    from ckdiff.unlearn.inputs import read_inputs
    from ckdiff.unlearn.saving import check_output
    from ckdiff.unlearn.unlearning import make
    from ckdiff.weights.opening import open_checkpoint

    spec.recipe.check()
    check_output(spec.output)
    return make(open_checkpoint(spec.base), read_inputs(spec), spec.recipe, spec.output, listener, resume)


def outline(spec: ProbeSpec) -> Outline:
    """What a probe would do, how much memory it wants and about how long it takes; no weights are read."""
    from ckdiff.probes.jobs import outline as look

    return look(*opened(spec), questions_of(spec), spec.settings)


def merged(existing: Report | None, found: Report) -> Report:
    """A report with a new probe, put into an older report of the same pair; see `joined` and `combined`."""
    if existing is None or found.probe is None:
        return found
    return replace(joined(existing, found), probe=combined(existing.probe, found.probe))


def joined(existing: Report, found: Report) -> Report:
    """A report of a pair, put into an older one of the same pair: what is new replaces what it replaces.

    Raises:
        ReportError: the older one is about other weights.
    """
    for side in ("base", "unlearned"):
        old, new = getattr(existing.provenance, side), getattr(found.provenance, side)
        if old.location != new.location:
            raise ReportError(f"the report is about {old.location}, not {new.location}; use -o FILE, or --overwrite")
        if old.digest and new.digest and old.digest != new.digest:
            raise ReportError(
                f"{new.location}: its weights have changed since the report was written (sha256 {old.digest[:12]}, now"
                f" {new.digest[:12]}); use -o FILE, or --overwrite"
            )
    provenance = found.provenance if found.provenance.base.digest else existing.provenance
    return replace(
        found,
        provenance=provenance,
        compare=found.compare or existing.compare,
        probe=found.probe or existing.probe,
        behaviour=found.behaviour or existing.behaviour,
        versions={**existing.versions, **found.versions},
    )


def combined(older: Probe | None, newer: Probe) -> Probe:
    """Two probes of one pair as one, where they asked the same questions in the same way; else the newer alone."""
    if older is None or not comparable(older, newer):
        return newer
    again = {(run.direction, run.mode, run.variant) for run in newer.runs}
    kept = tuple(run for run in older.runs if (run.direction, run.mode, run.variant) not in again)
    names = {(control.name, control.direction, control.mode, control.variant) for control in newer.controls}
    controls = tuple(row for row in older.controls if (row.name, row.direction, row.mode, row.variant) not in names)
    settings = {**older.settings, **newer.settings}
    for key in SCOPE:
        if key in older.settings and key in newer.settings:
            both = (*older.settings[key].split(","), *newer.settings[key].split(","))
            settings[key] = ",".join(dict.fromkeys(both))
    notes = tuple(dict.fromkeys((*older.notes, *newer.notes)))
    # A run made again has the same numbers, so that what was found in it stays true.
    found = {(one.direction, one.layer < 0) for one in newer.neurons}
    neurons = tuple(one for one in older.neurons if (one.direction, one.layer < 0) not in found) + newer.neurons
    runs, controls = kept + newer.runs, controls + newer.controls
    return replace(newer, runs=runs, controls=controls, settings=settings, notes=notes, neurons=neurons)


def comparable(older: Probe, newer: Probe) -> bool:
    """Whether the runs of two probes can stand in one report."""

    def how(found: Probe) -> dict[str, str]:
        return {key: value for key, value in found.settings.items() if key not in SCOPE}

    def asked(found: Probe) -> list[tuple[str, tuple[int, ...]]]:
        return [(question.text, question.answer_ids) for question in found.questions]

    return how(older) == how(newer) and asked(older) == asked(newer)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint holds, from its headers alone.

    Attributes:
        rows: component, tensors, parameters, dtypes; components in the order of the tables.
    """

    location: str
    model_type: str
    rows: tuple[tuple[str, int, int, str], ...]
    shards: tuple[ShardRecord, ...]
    notes: tuple[str, ...]


def inspect(checkpoint: str, adapter_base: str | None = None) -> Contents:
    """What a checkpoint holds, by component; no tensor's data is read.

    Raises:
        CheckpointError: it cannot be read.
    """
    import math

    from ckdiff.report.schema import COMPONENTS, ShardRecord
    from ckdiff.weights.components import layout
    from ckdiff.weights.opening import open_checkpoint

    opened = open_checkpoint(checkpoint, adapter_base)
    found = layout(opened.shapes(), opened.config)
    rows = []
    for component in COMPONENTS:
        pieces = [piece for piece in found.pieces if piece.component == component]
        if pieces:
            dtypes = sorted({opened.dtype(piece.tensor) for piece in pieces})
            size = sum(math.prod(piece.shape) for piece in pieces)
            rows.append((component, len(pieces), size, ", ".join(dtypes)))
    shards = tuple(ShardRecord(shard.name, shard.size, None) for shard in opened.shards)
    notes = (*opened.notes, *found.notes, *(f"ignored, no parameters: {name}" for name in found.ignored))
    return Contents(opened.location, found.model_type, tuple(rows), shards, notes)


def opened(spec: ProbeSpec | BehaveSpec) -> tuple[Checkpoint, Checkpoint]:
    """Both checkpoints of a spec, their headers read."""
    from ckdiff.weights.opening import open_checkpoint

    return open_checkpoint(spec.base, spec.adapter_base), open_checkpoint(spec.unlearned, spec.adapter_base)


def _begun(
    base: Checkpoint,
    unlearned: Checkpoint,
    hashes: bool,
    listener: Listener | None,
    existing: Report | None,
    shared: Shared | None,
    *libraries: str,
) -> Report:
    """A report of a pair that holds nothing yet; refused where it could not be put into an older one."""
    from ckdiff.report.schema import Report

    if listener is not None and hashes:
        listener.progress("hashing", 0, 1, "sha256 of the weight files")
    found = Report(_provenance(base, unlearned, hashes, shared), versions=versions(*libraries))
    if listener is not None:
        listener.progress("hashing", 1, 1, "")
    if existing is not None:
        # Refused before the work, not after it.
        joined(existing, found)
    return found


def asked_by(spec: BehaveSpec) -> Asked:
    """What is asked by a spec, all files read.

    A file of one concept has its own unrelated questions; other files have none, and the bundled ones are asked.
    """
    from ckdiff.probes.asking import Asked, first_questions, own_unrelated
    from ckdiff.probes.choices import read_choices
    from ckdiff.probes.questions import QuestionsError, general_questions, given_questions, read_questions
    from ckdiff.probes.texts import neutral_texts, read_texts

    _check_asked(spec)
    if spec.concept is not None and spec.questions is None:
        raise QuestionsError("--concept chooses from a file; name it with --questions")
    if spec.most_unrelated < 1:
        raise QuestionsError(f"--most-unrelated: {spec.most_unrelated} is too few; give 1 or more")
    target = unrelated = None
    if spec.questions is not None:
        target = read_questions(spec.questions, concept=spec.concept)
        unrelated = own_unrelated(spec.questions, spec.concept) if spec.unrelated is None else None
    elif spec.asked:
        target = given_questions(spec.asked)
    if spec.unrelated is not None:
        unrelated = read_questions(spec.unrelated)
    unrelated = first_questions(unrelated or general_questions(), spec.most_unrelated)
    if target is None:
        note = "no questions about what was to be unlearned were given: nothing is said about it"
        unrelated = replace(unrelated, notes=(*unrelated.notes, note))
    choices = None if spec.choices is None else read_choices(spec.choices)
    if isinstance(spec.neutral, bool):
        return Asked(target, unrelated, choices, neutral_texts() if spec.neutral else None)
    return Asked(target, unrelated, choices, read_texts(spec.neutral))


def _check_asked(spec: ProbeSpec | BehaveSpec) -> None:
    from ckdiff.probes.questions import QuestionsError

    if spec.questions is not None and spec.asked:
        raise QuestionsError("--questions and --question: give one of them")


def questions_of(spec: ProbeSpec) -> QuestionSet:
    """What a spec asks, all files read."""
    from ckdiff.probes.questions import QuestionsError, general_questions, given_questions, read_questions

    _check_asked(spec)
    if spec.questions is not None:
        return read_questions(spec.questions, concept=spec.concept, unrelated=spec.unrelated)
    if spec.concept is not None or spec.unrelated:
        raise QuestionsError("--concept and --unrelated choose from a file; name it with --questions")
    if spec.asked:
        return given_questions(spec.asked)
    found = general_questions()
    note = "no questions were given: general ones were asked, which say nothing about any one topic"
    return replace(found, notes=(*found.notes, note))


def _provenance(base: Checkpoint, unlearned: Checkpoint, hashes: bool, shared: Shared | None) -> Provenance:
    from ckdiff.report.schema import Provenance

    hasher: ShardHasher | None = None
    if hashes:
        from ckdiff.weights.hashing import ShardHasher

        hasher = ShardHasher((*base.shards, *unlearned.shards), None if shared is None else shared.digest)
    try:
        return Provenance(_record(base, hasher), _record(unlearned, hasher))
    finally:
        if hasher is not None:
            hasher.close()


def identity(base: Checkpoint, unlearned: Checkpoint, provenance: Provenance) -> str:
    """What tells these weights from others: their digests, or else the files' names, sizes and times."""
    digests = [side.digest for side in (provenance.base, provenance.unlearned)]
    if all(digests):
        return " ".join(map(str, digests))
    files = [shard for side in (base, unlearned) for shard in side.shards]
    return " ".join(f"{shard.path} {shard.size} {shard.path.stat().st_mtime_ns}" for shard in files)


def _record(checkpoint: Checkpoint, hasher: ShardHasher | None) -> CheckpointRecord:
    from ckdiff.report.schema import CheckpointRecord, ShardRecord
    from ckdiff.weights.hashing import joint_digest

    shards = tuple(
        ShardRecord(shard.name, shard.size, hasher.digest(shard) if hasher else None) for shard in checkpoint.shards
    )
    known = [(shard.name, shard.sha256) for shard in shards if shard.sha256 is not None]
    digest = joint_digest(known) if hasher else None
    return CheckpointRecord(checkpoint.location, checkpoint.revision, digest, shards)


def versions(*libraries: str) -> dict[str, str]:
    """Versions of ckdiff, of NumPy, and of the libraries named."""
    return {"ckdiff": __version__} | {name: importlib.metadata.version(name) for name in ("numpy", *libraries)}
