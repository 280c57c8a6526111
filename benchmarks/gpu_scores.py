"""Probe scores of tiny pairs of every family on a device, against those of the CPU in float64."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from probe_large import write_questions, write_tokenizer

from ckdiff.cli.app import run
from ckdiff.report.hdf5.file import read_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Scores = dict[tuple[str, str, str, str], np.ndarray]
"""(direction, mode, variant, score) -> that score in every window."""

KNOWN_WORDS = 60
"""So few that every id is below the tiny models' vocabulary."""
CURVES = ("krs", "krs_centred", "krs_kl")
NOISE = 0.3
"""Of the unlearned model, on every parameter: far more than what rounding to 16 bits changes."""
TOLERANCES = {"float32": 1e-5, "float16": 0.01, "bfloat16": 0.1}
"""Of a score. On a CPU the worst of eleven dense tiny families were 4e-7, 2e-3 and 2e-2."""
ROUTED = {"float32": 1e-5, "float16": 0.1, "bfloat16": 0.3}
"""Of a mixture, where rounding may choose another expert. On a CPU the worst of three were 8e-7, 3e-2 and 6e-2."""


@dataclass(frozen=True)
class Found:
    """What a family's scores differ by at most, in one dtype; or why there are none."""

    family: str
    dtype: str
    difference: float
    error: str = ""

    @property
    def passed(self) -> bool:
        """Every score is there and within the tolerance."""
        return not self.error and self.difference <= tolerance(self.family, self.dtype)


def tolerance(family: str, dtype: str) -> float:
    """What a family's scores may differ by in a dtype."""
    from tests.tiny_families import ALL

    return (ROUTED if "num_experts" in ALL[family][1] else TOLERANCES)[dtype]


def check(families: Sequence[str], dtypes: Sequence[str], device: str, root: Path) -> list[Found]:
    """One row for each family and dtype, printed as it is found."""
    found = []
    for family in families:
        for row in check_family(family, dtypes, device, root / family):
            said = row.error or f"{row.difference:.1e}"
            print(f"  {row.family:20s} {row.dtype:9s} {said}{'' if row.passed else '  BEYOND'}", flush=True)
            found.append(row)
    return found


def check_family(family: str, dtypes: Sequence[str], device: str, root: Path) -> list[Found]:
    """The family's rows."""
    save(family, root)
    try:
        wanted = scores(root, "cpu", "float64")
    except RuntimeError as error:
        return [Found(family, dtype, np.nan, f"CPU in float64: {error}") for dtype in dtypes]
    return [compare(family, dtype, device, root, wanted) for dtype in dtypes]


def compare(family: str, dtype: str, device: str, root: Path, wanted: Scores) -> Found:
    """One row."""
    try:
        return Found(family, dtype, difference(scores(root, device, dtype), wanted))
    except RuntimeError as error:
        return Found(family, dtype, np.nan, str(error))


def save(family: str, root: Path) -> None:
    """A pair with a tokenizer that its vocabulary holds, and three questions with answers."""
    from transformers.utils import logging

    from tests.tiny_pairs import save_pair

    logging.disable_progress_bar()
    root.mkdir()
    save_pair(family, root, size=NOISE)
    for side in ("base", "unlearned"):
        write_tokenizer(root / side, KNOWN_WORDS)
    write_questions(root / "questions.jsonl", 3, 4, KNOWN_WORDS)


def scores(root: Path, device: str, dtype: str) -> Scores:
    """Scores of every mode, variant and direction.

    Raises:
        RuntimeError: the command ended with another status than 0; what it said.
    """
    words = ["probe", str(root / "base"), str(root / "unlearned"), "--questions", str(root / "questions.jsonl")]
    words += ["--mode", "all", "--variant", "all", "--direction", "both", "--window", "2", "--given-answers"]
    words += ["--device", device, "--dtype", dtype, "--no-hash", "--overwrite", "-q", "-o", str(root / "report.h5")]
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        status = run(words)
    if status:
        raise RuntimeError(f"status {status}: {said.getvalue().strip()[-200:]}")
    probe = read_report(root / "report.h5").probe
    if probe is None:
        raise RuntimeError("a report without a probe")
    return {
        (one.direction, one.mode, one.variant, curve): np.asarray(getattr(one, curve).score)
        for one in probe.runs
        for curve in CURVES
    }


def difference(found: Scores, wanted: Scores) -> float:
    """The greatest difference of any score.

    Raises:
        RuntimeError: not the same scores are there.
    """
    if found.keys() != wanted.keys():
        raise RuntimeError(f"other runs than in float64: {sorted(found.keys() ^ wanted.keys())[:2]}")
    if any((np.isfinite(found[key]) != np.isfinite(wanted[key])).any() for key in wanted):
        raise RuntimeError("scores that are no numbers in one of both only")
    return max(float(np.nanmax(np.abs(found[key] - wanted[key]), initial=0.0)) for key in wanted)
