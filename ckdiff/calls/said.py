"""What models say in an audit: said before, or beside a model that never knew. `find_said(...)`, `open_never(...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.probes.behaviour.beside import NeverKnew
    from ckdiff.progress import Listener
    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.weights.checkpoint import Checkpoint


def open_never(task: AskJob, reference: Checkpoint, kind: str | None, digest: str = "") -> NeverKnew:
    """A model that never knew, to be asked what the two are asked.

    Args:
        task: from `prepare_behaviour`.
        reference: its headers read.
        kind: how it came about, or None.
        digest: over its weight files, or "".

    Raises:
        AttackError: its ids mean something else than the base's.
    """
    from ckdiff.attacks.opening import open_reference
    from ckdiff.probes.behaviour.beside import NeverKnew

    live, notes = open_reference(task, reference)
    return NeverKnew(live, digest, kind or "", notes)


def try_never(
    task: AskJob, reference: Checkpoint | None, kind: str | None, digest: str, listener: Listener
) -> NeverKnew | None:
    """The same; None, with a remark, where its ids mean something else, and where there is none."""
    from ckdiff.attacks.case import AttackError

    try:
        return None if reference is None else open_never(task, reference, kind, digest)
    except AttackError as error:
        listener.remark(f"the reference is not asked: {error}")
        return None


def find_said(task: AskJob, never: NeverKnew | None, said: Behaviour | None) -> Behaviour | None:
    """What was said already, where the same was asked in the same way, beside the same reference; else None.

    Args:
        task: what is asked now.
        never: what it is asked beside, or None.
        said: of the very same weights, or None.
    """
    from ckdiff.probes.behaviour.behaviour import settings_record

    if said is None or dict(said.settings) != settings_record(task, said.answers):
        return None
    asked, there = task.asked, [(one.name, one.digest) for one in said.answers]
    if there != [(name, one.digest) for name, one in asked.open.items()]:
        return None
    wanted = [None if one is None else one.digest for one in (asked.choices, asked.neutral, asked.holdout)]
    if wanted != [None if one is None else one.digest for one in (said.choices, said.neutral, said.holdout)]:
        return None
    beside = None if said.reference is None else (said.reference.digest, said.reference.kind)
    return said if beside == (None if never is None else (never.digest, never.kind)) else None


def doubt_order(root: Path | None, digest: str | None = None) -> str:
    """Why the two checkpoints may have been swapped, as far as the base says itself how it was made; or "".

    Args:
        root: the base's directory, or None.
        digest: of its weights; None where they were not hashed.
    """
    from ckdiff.audit.verdict.side_effects import SWAPPED
    from ckdiff.weights.making import read_making

    made = read_making(root, digest).method
    return f"the base says itself that it was made by unlearning ({made}): {SWAPPED}" if made else ""
