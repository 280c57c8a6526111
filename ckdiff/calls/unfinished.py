"""What a command that was interrupted has done, beside its report: `Unfinished(place, resume)`.

A folder holds digests of weight files and both models' answers, and of an audit the report with the parts that are
whole. Without hashes nobody knows whether the weights are still the same, and nothing is kept. The states of a sweep
lie in a file of their own (`probes/kept_sweep.py`).
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckdiff.cache import Cache
from ckdiff.errors import ReportError

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import Report


def folder_of(keep: Path) -> Path:
    """The folder beside the file in which an unfinished sweep is kept."""
    return keep.with_name(f"{keep.name}.parts")


@dataclass(slots=True)
class Unfinished:
    """Parts of a command's work, from one run of it to the next.

    Attributes:
        keep: the file of the unfinished sweep, which names the folder.
        resume: go on with what is there.
        cache: of digests and answers.
    """

    keep: Path
    resume: bool
    cache: Cache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = Cache(folder_of(self.keep), both=True, recall=self.resume)

    def place(self, name: str) -> Path:
        """Where a part keeps a file of its own."""
        return folder_of(self.keep) / name

    def read(self) -> Report | None:
        """The report of an audit that was interrupted, or None."""
        from ckdiff.report.hdf5.file import read_report

        place = self.place("report.h5")
        with contextlib.suppress(ReportError):
            return read_report(place) if self.resume and place.exists() else None
        return None

    def save(self, report: Report, listener: Listener) -> None:
        """Keep what there is of a report; where there is no room, it is measured again."""
        from ckdiff.report.hdf5.file import write_report

        if report.provenance.base.digest is None:
            return
        place = self.place("report.h5")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_report(replace(report, complete=False), place)
        except (OSError, ReportError) as error:
            listener.remark(f"what is done could not be kept ({str(error)[:100]}); free some disk to use --resume")


def is_kept(keep: Path) -> bool:
    """Whether anything was kept."""
    return folder_of(keep).exists()


def forget(keep: Path) -> None:
    """Remove what was kept, once the report is written."""
    folder = folder_of(keep)
    if not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
