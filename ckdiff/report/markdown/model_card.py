"""A report as a model card of the unlearned model: `to_model_card(report)`.

Front matter that the Hugging Face hub reads (`base_model`, `model-index` with every figure about answers), then a
section to put into the card: verdict, figures with intervals, what else changed, what was not measured, and the digests
that it is about. No path of this machine is in it.

Source: huggingface.co/docs/hub/model-cards, and the metadata that huggingface_hub's ModelCardData reads.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import bullet_list, escape, table
from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words import verdict as words
from ckdiff.report.words.metrics import campaign_metrics, metrics_of
from ckdiff.report.words.names import is_hub_id, pair_names
from ckdiff.report.words.sections import WHOLE, Selection, file_of
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict
    from ckdiff.report.words.metrics import Metric

ANSWERS = ("verdict.", "behaviour.", "attack.", "depth.")
"""How the names of figures begin that stand in the front matter: those about what the model says."""


def to_model_card(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """A model card: front matter, and a section on the unlearning; of a campaign its summary with a model each pair."""
    if isinstance(found, Campaign):
        parts = ["\n".join(_campaign_matter(found)), *file_of("markdown", "campaign").parts(found)]
    else:
        parts = ["\n".join(_matter(found)), *_parts(found)]
    return "\n\n".join(parts) + "\n"


# -------------------------------------------------------------------------------------------------------- front matter


def _matter(report: Report) -> Iterator[str]:
    yield "---"
    if is_hub_id(report.provenance.base):
        yield f"base_model: {_scalar(report.provenance.base.location)}"
    yield 'tags: ["unlearning"]'
    figures = [one for one in metrics_of(report) if one.name.startswith(ANSWERS)]
    yield from _index([(pair_names(report.provenance)[1], figures)])
    yield "---"


def _campaign_matter(found: Campaign) -> Iterator[str]:
    yield "---"
    yield 'tags: ["unlearning"]'
    yield from _index((pair.name, list(campaign_metrics(found, number))) for number, pair in enumerate(found.pairs))
    yield "---"


def _index(models: Iterable[tuple[str, list[Metric]]]) -> Iterator[str]:
    """`model-index`: a result each thing that figures are about; the hub knows no intervals, so names have them."""
    rows = [(name, metrics) for name, metrics in models if metrics]
    if rows:
        yield "model-index:"
    for name, metrics in rows:
        yield f"  - name: {_scalar(name)}"
        yield "    results:"
        for about in dict.fromkeys(one.about for one in metrics):
            yield "      - task: {type: text-generation}"
            yield f"        dataset: {{type: ckdiff, name: {_scalar(about or 'the whole report')}}}"
            yield "        metrics:"
            for one in metrics:
                if one.about == about:
                    yield f"          - {_entry(one)}"


def _entry(one: Metric) -> str:
    name = _scalar(f"{one.name}{_interval(one)}")
    return f"{{type: {_scalar(one.name)}, value: {yaml_number(one.value)}, name: {name}}}"


def yaml_number(value: float) -> str:
    """A float as YAML 1.1 reads it, which takes one without a point for a string.

    >>> yaml_number(0.5), yaml_number(1e-07), yaml_number(-2.5e-07)
    ('0.5', '1.0e-07', '-2.5e-07')
    """
    mantissa, e, exponent = repr(value).partition("e")
    return f"{mantissa}{'.0' if e and '.' not in mantissa else ''}{e}{exponent}"


def _interval(one: Metric) -> str:
    """The interval behind a figure: ` [0.24, 0.44]`; nothing where there is none."""
    return f" [{one.low:.4g}, {one.high:.4g}]" if math.isfinite(one.low) and math.isfinite(one.high) else ""


def _scalar(text: str) -> str:
    """A string of YAML: one of JSON is."""
    return json.dumps(printable(text))


# --------------------------------------------------------------------------------------------------------- the section


def _parts(report: Report) -> Iterator[str]:
    base, unlearned = pair_names(report.provenance)
    yield "## Unlearning"
    version = escape(report.versions.get("ckdiff", "(version not stated)"))
    yield f"What changed from {escape(base)} to {escape(unlearned)}, by ckdiff {version}."
    if report.verdict is not None:
        yield from _verdict(report.verdict)
    metrics = list(metrics_of(report))
    if first := [one for one in metrics if one.name.startswith("behaviour.")]:
        yield "### Answers before and after"
        yield _figures(first)
    if metrics:
        yield f"<details><summary>All {len(metrics)} figures, with 95 % intervals</summary>"
        yield _figures(metrics)
        yield "</details>"
    yield "### What this is about"
    yield table(("model", "name", "sha256"), _digests(report), left=3)


def _verdict(found: Verdict) -> Iterator[str]:
    lines = [words.verdict_line(found), *([] if found.gate is None else [words.gate_line(found.gate)])]
    yield "  \n".join(f"**{escape(line)}**" for line in lines)
    yield bullet_list((words.knowledge_text(found), words.headline(found).meaning, words.action_text(found)))
    for title, sentences in (
        ("What else changed", found.side_effects),
        ("Not measured, and not shown", (*found.unmeasured, *found.lacking)),
    ):
        if sentences:
            yield f"### {title}"
            yield bullet_list(sentences)


def _figures(metrics: Iterable[Metric]) -> str:
    rows = ((one.name, one.about, f"{one.value:.4g}{_interval(one)}") for one in metrics)
    return table(("figure", "of what", "value"), rows, left=2)


def _digests(report: Report) -> Iterator[tuple[str, str, str]]:
    """Names, and never places: a card is for everybody."""
    names = pair_names(report.provenance)
    for side, name in zip(("base", "unlearned"), names, strict=True):
        yield side, name, printable(getattr(report.provenance, side).digest or "not hashed")
    if report.verdict is not None and report.verdict.gate is not None:
        yield "policy", printable(report.verdict.gate.source), printable(report.verdict.gate.digest)
