"""`discover`: what was unlearned, when nobody says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.calls.merge import merge_reports
from ckdiff.calls.paths import take_paths
from ckdiff.calls.provenance import begin_report, open_pair
from ckdiff.calls.specs import DiscoverSpec
from ckdiff.options import check_options

if TYPE_CHECKING:
    from ckdiff.progress import Listener
    from ckdiff.report.schema.discovery import DiscoveryReport
    from ckdiff.report.schema.report import Report


@take_paths(DiscoverSpec)
def discover(spec: DiscoverSpec, listener: Listener | None = None, existing: Report | None = None) -> Report:
    """A report of what the unlearned model lost, found without being told where to look.

    Args:
        spec: which pair, on which texts, beside which candidates.
        listener: told of progress, asked whether to stop.
        existing: a report of the same pair; the discovery is put into it, in the place of an older one.

    Raises:
        CkdiffError: the pair, the texts, the candidates or the settings do not allow it.
    """
    from ckdiff.discovery.candidates import known_topics, read_candidates
    from ckdiff.discovery.opening import DiscoveryError, open_models
    from ckdiff.discovery.section import run
    from ckdiff.discovery.work import How

    check_options(spec, DiscoveryError)
    candidates = known_topics() if spec.candidates is None else read_candidates(spec.candidates)
    base, unlearned = open_pair(spec)
    models = open_models(base, unlearned, spec.dtype, spec.device)
    found = begin_report(base, unlearned, spec.hash, listener, existing, "torch", "transformers")
    how = How(
        texts=spec.texts,
        count=spec.sampled,
        length=spec.length,
        seed=spec.seed,
        batch_size=spec.batch_size,
        words=spec.texts is not None and spec.candidates is None,
    )
    return merge_reports(existing, replace(found, discovery=run(models, how, candidates, listener)))


def question_lines(found: DiscoveryReport) -> str:
    """JSON lines of the questions about the topic, the base's answers with them, as `probe` and `attack` read them."""
    asked = [{"question": one.question, "answer": one.base} for one in found.answers if one.base]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked)
