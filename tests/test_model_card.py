"""The model card: front matter that huggingface_hub reads, and a section that says nothing of where the models lay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard, ModelCardData

from ckdiff.report.formats import say
from ckdiff.report.markdown.parts import escape
from ckdiff.report.schema.report import Provenance
from ckdiff.report.words.metrics import metrics_of
from tests.campaigns import campaign, hostile_campaign
from tests.reports import report, verdict
from tests.test_cyclonedx import EVIL, FULL


def card(found: object) -> tuple[str, ModelCardData]:
    """The section, and what the hub reads of the front matter."""
    text = say(found, "model-card")  # type: ignore[arg-type]
    assert isinstance(text, str)
    assert "\x1b" not in text
    read = ModelCard(text)
    assert isinstance(read.data, ModelCardData)
    return read.text, read.data


def test_the_hub_reads_every_figure_about_answers() -> None:
    _, data = card(FULL)
    results = data.eval_results
    assert results is not None
    wanted = [one for one in metrics_of(FULL) if not one.name.startswith(("probe.", "compare."))]
    assert {(one.metric_type, one.dataset_name, one.metric_value) for one in results} == {
        (one.name, one.about or "the whole report", one.value) for one in wanted
    }
    named = {one.metric_name for one in results if one.dataset_name == "target questions"}
    assert "behaviour.bleu [0.24, 0.44]" in named
    assert data.model_name == "unlearned"
    assert data.base_model is None


def test_a_tiny_figure_is_a_number() -> None:
    assert FULL.verdict is not None
    results = card(replace(FULL, verdict=replace(FULL.verdict, score=1e-07)))[1].eval_results
    assert results is not None
    assert [one.metric_value for one in results if one.metric_type == "verdict.score"] == [1e-07]


def test_a_base_of_the_hub_is_named() -> None:
    base = replace(FULL.provenance.base, location="org/model", revision="0123456789" * 4)
    _, data = card(replace(FULL, provenance=Provenance(base, FULL.provenance.unlearned)))
    assert data.base_model == "org/model"


def test_the_section_says_what_was_found_and_not_where_it_lay() -> None:
    text, _ = card(FULL)
    assert FULL.verdict is not None
    assert "## Unlearning" in text
    assert "GATE FAILED: 1 of 3 checks failed, 1 lacks evidence" in text
    assert r"| behaviour.bleu | target questions | 0.34 \[0.24, 0.44\] |" in text
    for sentence in (*FULL.verdict.side_effects, *FULL.verdict.unmeasured):
        assert escape(sentence) in text
    assert str(FULL.provenance.unlearned.digest) in text
    assert FULL.provenance.base.location not in text
    assert f"All {len(list(metrics_of(FULL)))} figures" in text


@pytest.mark.parametrize(
    "found", [EVIL, report(None), report(None, None, None, verdict()), campaign(), hostile_campaign()]
)
def test_front_matter_is_read_whatever_stands_in_a_report(found: object) -> None:
    assert card(found)[1].tags == ["unlearning"]
