"""`discover`: what was unlearned, when nobody says."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ckdiff.calls.merge import merge_reports
from ckdiff.calls.paths import take_paths
from ckdiff.calls.provenance import begin_report, identity, open_pair
from ckdiff.calls.specs import DiscoverSpec
from ckdiff.calls.unfinished import folder_of
from ckdiff.options import check_options
from ckdiff.progress import Listener

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.discovery.candidates import Candidates
    from ckdiff.discovery.kept import Kept
    from ckdiff.discovery.opening import Models
    from ckdiff.discovery.work import How
    from ckdiff.report.schema.discovery import DiscoveryReport
    from ckdiff.report.schema.report import Report
    from ckdiff.weights.checkpoint import Checkpoint


@take_paths(DiscoverSpec)
def discover(
    spec: DiscoverSpec,
    listener: Listener | None = None,
    existing: Report | None = None,
    keep: Path | None = None,
    resume: bool = False,
) -> Report:
    """A report of what the unlearned model lost, found without being told where to look.

    Args:
        spec: which pair, on which texts, beside which candidates.
        listener: told of progress, asked whether to stop.
        existing: a report of the same pair; the discovery is put into it, in the place of an older one.
        keep: a file beside which an unfinished discovery is kept.
        resume: go on with what is kept there.

    Raises:
        CkdiffError: the pair, the texts, the candidates or the settings do not allow it.
    """
    base, unlearned = open_pair(spec)
    opened = open_discovery(spec, base, unlearned)
    found = begin_report(base, unlearned, spec.hash, listener, existing, "torch", "transformers")
    weights = identity(base, unlearned, found.provenance)
    return merge_reports(
        existing, replace(found, discovery=discover_open(spec, opened, weights, listener, keep, resume))
    )


def open_discovery(spec: DiscoverSpec, base: Checkpoint, unlearned: Checkpoint) -> tuple[Models, Candidates]:
    """Both models and the candidates; whatever can be refused is, before a weight is read.

    Raises:
        CkdiffError: the pair, the candidates or the settings do not allow it.
    """
    from ckdiff.discovery.candidates import known_topics, read_candidates
    from ckdiff.discovery.opening import DiscoveryError, open_models

    check_options(spec, DiscoveryError)
    candidates = known_topics() if spec.candidates is None else read_candidates(spec.candidates)
    return open_models(base, unlearned, spec.dtype, spec.device, spec.tokenizer), candidates


def discover_open(
    spec: DiscoverSpec,
    opened: tuple[Models, Candidates],
    weights: str,
    listener: Listener | None = None,
    keep: Path | None = None,
    resume: bool = False,
) -> DiscoveryReport:
    """What was found in two models.

    Args:
        spec: on which texts, beside which candidates.
        opened: from `open_discovery`.
        weights: a text that tells the pair's weights from others.
        listener: told of progress, asked whether to stop.
        keep: a file beside which an unfinished discovery is kept.
        resume: go on with what is kept there.
    """
    from ckdiff.discovery.section import run

    (models, candidates), listener, how = opened, listener or Listener(), _how(spec)
    return run(models, how, candidates, listener, _open_kept(spec, how, weights, candidates, listener, keep, resume))


def _how(spec: DiscoverSpec) -> How:
    """How discovery goes by a spec."""
    from ckdiff.discovery.work import How

    return How(
        texts=spec.texts,
        count=spec.sampled,
        length=spec.length,
        seed=spec.seed,
        batch_size=spec.batch_size,
        words=spec.texts is not None and spec.candidates is None,
    )


def _open_kept(
    spec: DiscoverSpec, how: How, weights: str, candidates: Candidates, listener: Listener, keep: Path | None,
    resume: bool,
) -> Kept:  # fmt: skip
    """What was done of the same discovery before, or nothing."""
    import torch

    from ckdiff.discovery.kept import Kept, open_kept
    from ckdiff.probes.base_answers import library_versions

    if keep is None:
        return Kept()
    texts = str(spec.texts or "")
    with contextlib.suppress(OSError):  # who reads them says what is wrong
        texts = "" if spec.texts is None else hashlib.sha256(spec.texts.read_bytes()).hexdigest()
    chosen = asdict(how) | {
        "texts": texts,
        "dtype": spec.dtype,
        "device": spec.device,
        "tokenizer": str(spec.tokenizer),
    }
    tree = [weights, chosen, candidates.digest, library_versions(), torch.get_num_threads()]
    key = hashlib.sha256(json.dumps(tree).encode()).hexdigest()
    return open_kept(folder_of(keep) / "discover", key, resume, listener.remark)


def question_lines(found: DiscoveryReport) -> str:
    """JSON lines of the questions about the topic, the base's answers with them, as `probe` and `attack` read them."""
    asked = [{"question": one.question, "answer": one.base} for one in found.answers if one.base]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked)
