"""A job on disk: one concept, one method, and what is there of it.

OUT/CONCEPT-METHOD/ holds `unlearned` (the checkpoint), `report.h5` (what was measured on it), `job.json` (which command
made what, how long it took, how it ended), and what each command said.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckdiff import read_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.report.schema import Report

JOB, REPORT, UNLEARNED = "job.json", "report.h5", "unlearned"
PARTIAL = {"unlearn": f".{UNLEARNED}.unlearning", "probe": f".{REPORT}.partial"}
"""By step where ckdiff keeps what was interrupted."""
SECTIONS = {"compare": "compare", "probe": "probe", "behave": "behaviour"}
"""By step the part of the report that it fills in."""
AGAIN = ("--resume", "--overwrite")
"""Options that say how a command goes on, not what it makes."""


@dataclass(frozen=True, slots=True)
class Job:
    """One concept, one method.

    Attributes:
        data: the file that holds the concept.
        folder: where everything about it lies.
    """

    concept: str
    method: str
    data: Path
    base: str
    folder: Path

    @property
    def report(self) -> Path:
        """The report that its measurements go into."""
        return self.folder / REPORT

    @property
    def unlearned(self) -> Path:
        """The checkpoint that it makes."""
        return self.folder / UNLEARNED


def slug(concept: str) -> str:
    """A concept as part of a directory's name.

    >>> slug("Valentine's Day")
    'valentine-s-day'
    """
    return re.sub(r"\W+", "-", concept.casefold()).strip("-")


def read(job: Job) -> Report | None:
    """The job's report, where there is one about the checkpoint as it is now.

    Raises:
        ReportError: it is damaged.
    """
    made = _json(job.unlearned / "unlearning.json").get("digest")
    if made is None or not job.report.exists():
        return None
    found = read_report(job.report)
    return found if found.provenance.unlearned.digest == made else None


def is_done(job: Job, step: str) -> bool:
    """Whether what a step makes is there."""
    if step == "unlearn":
        return job.unlearned.is_dir()
    report = read(job)
    return report is not None and getattr(report, SECTIONS[step]) is not None


def is_interrupted(job: Job, step: str) -> bool:
    """Whether a step was begun, and can be gone on with."""
    return step in PARTIAL and (job.folder / PARTIAL[step]).exists()


def is_stale(job: Job, step: str) -> bool:
    """Whether there is a report about a checkpoint that is there no more."""
    return step != "unlearn" and job.report.exists() and job.unlearned.is_dir() and read(job) is None


def notes(folder: Path) -> dict[str, Any]:
    """What is kept beside a job; nothing where there is no such file."""
    return _json(folder / JOB)


def note(job: Job, step: str, words: Sequence[str], seconds: float, status: int) -> None:
    """Keep beside a job what was done, how long it took in all, and how it ended."""
    steps = notes(job.folder).get("steps", {})
    before = steps.get(step, {}).get("seconds", 0.0) if "--resume" in words else 0.0
    steps[step] = {"command": shlex.join(words), "seconds": round(seconds + before, 1), "status": status}
    data = {"name": job.data.name, "sha256": hashlib.sha256(job.data.read_bytes()).hexdigest()}
    kept = {"concept": job.concept, "method": job.method, "data": data, "steps": steps}
    (job.folder / JOB).write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def is_other(job: Job, step: str, words: Sequence[str]) -> bool:
    """Whether what is there was made by another command than this one."""
    said = shlex.split(notes(job.folder).get("steps", {}).get(step, {}).get("command", ""))
    return bool(said) and [word for word in said if word not in AGAIN] != [word for word in words if word not in AGAIN]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
