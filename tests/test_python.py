"""ckdiff from Python: short reprs, tables for notebooks, data frames, and calls that take paths."""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ckdiff
from ckdiff.audit.gate.policy import parse_policy
from ckdiff.calls.paths import make_spec, take_paths
from ckdiff.calls.specs import AttackSpec, AuditSpec, BehaveSpec, CompareSpec, DepthSpec, ProbeSpec
from ckdiff.errors import CkdiffError
from ckdiff.report.rows.frames import FRAMES
from ckdiff.report.schema.brief import LONGEST, Brief
from ckdiff.scoring.settings import Settings
from tests import reports
from tests.reports import same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.report.schema.report import Report
    from tests.tiny_pairs import Folders


COMPARE: Any = ckdiff.compare
"""Without its types."""


def full_report() -> Report:
    found = reports.report(reports.comparison(30), reports.probe(30), reports.behaviour())
    return replace(
        found,
        attack=reports.attacks(),
        depth=reports.depth(),
        discovery=reports.discovery(),
        verdict=reports.verdict(gate=reports.gate()),
    )


def records(value: Any) -> Iterator[Any]:
    """A record and all that are in it."""
    if is_dataclass(value):
        yield value
        for one in fields(value):
            yield from records(getattr(value, one.name))
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from records(one)
    elif isinstance(value, dict):
        yield from records(tuple(value.values()))


def test_every_record_that_holds_many_has_a_short_repr() -> None:
    found = list(records(full_report()))
    assert {type(one).__name__ for one in found} > {"Report", "Comparison", "ProbeRun", "AnswerSet", "Gate", "Curve"}
    for one in found:
        many = any(
            isinstance(value, np.ndarray)
            or (isinstance(value, tuple) and any(is_dataclass(part) for part in value))
            or isinstance(value, Brief)
            for value in (getattr(one, part.name) for part in fields(one))
        )
        assert isinstance(one, Brief) or not many, type(one)
        if isinstance(one, Brief):
            assert len(repr(one)) < LONGEST, type(one)
            assert repr(one).startswith(f"{type(one).__name__}(")
            assert repr(one).endswith(")")


def test_a_repr_says_what_there_is() -> None:
    found = full_report()
    text = repr(found)
    assert "provenance=<'/models/base', '/models/unlearned'>, compare=<tensors: " in text
    assert "verdict=<'suppressed', " in text
    assert "depth=<questions: " in text
    assert found.probe is not None
    run = repr(found.probe.runs[0])
    assert "mode='coeff'" in run
    assert "krs_kl=<Curve>" in run
    assert "loss_kl=<30x4>" in run
    assert "attack" not in repr(replace(found, attack=None))


def test_a_repr_that_is_too_long_ends_in_an_ellipsis() -> None:
    verdict = reports.verdict(reason="r" * 500, component="c" * 500, knowledge_reason="k" * 500)
    assert "reason='rrr" in repr(verdict)
    assert repr(verdict).endswith(", …)")
    assert LONGEST - 90 < len(repr(verdict)) < LONGEST


def test_a_notebook_gets_a_table_in_which_nothing_is_markup() -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    found = replace(
        full_report(), versions={}, verdict=reports.verdict(reason=evil), behaviour=reports.behaviour(method=evil)
    )
    for one in (found, found.verdict, found.behaviour):
        assert one is not None
        text = one._repr_html_()
        assert "<script" not in text
        assert "\x1b" not in text
        assert text.startswith(f"<table><caption>{type(one).__name__}</caption><tr><th>")
        assert text.endswith("</table>")
    assert "&lt;script&gt;" in reports.verdict(reason=evil)._repr_html_()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("components", {"component", "one_minus_cosine", "relative_l2"}),
        ("tensors", {"name", "component", "layer", "cosine"}),
        ("windows", {"mode", "layer", "krs_kl", "krs_kl_low"}),
        ("answers", {"text", "answer_base", "answer_unlearned", "bleu"}),
        ("attacks", {"attack", "side", "recovery", "recovery_low"}),
        ("depth", {"question", "layer", "depth"}),
        ("discovery", {"kind", "rank", "name", "p"}),
        ("checks", {"name", "outcome", "threshold"}),
    ],
)
def test_parts_become_data_frames(name: str, columns: set[str]) -> None:
    found = full_report()
    frame = ckdiff.to_dataframe(found, name)
    assert columns <= set(frame.columns)
    assert len(frame) > 0
    assert {*FRAMES} == {"components", "tensors", "windows", "answers", "attacks", "depth", "discovery", "checks"}


def test_a_data_frame_has_the_numbers_of_the_report() -> None:
    found = full_report()
    assert found.compare is not None
    assert found.probe is not None
    frame = ckdiff.to_dataframe(found, "components").set_index("component")
    for row in found.compare.components:
        assert frame.loc[row.component, "relative_l2"] == pytest.approx(row.drift.relative_l2, nan_ok=True)
    windows = ckdiff.to_dataframe(found, "windows")
    run = found.probe.runs[0]
    own = windows[(windows["mode"] == run.mode) & (windows["variant"] == run.variant)]
    assert own["krs_kl"].to_numpy()[: len(run.layers)] == pytest.approx(run.krs_kl.score)
    assert len(ckdiff.to_dataframe(found, "tensors")) == len(found.compare.tensors)


def test_what_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CkdiffError, match=r"^to_dataframe: no 'rows'; there are components, tensors, windows"):
        ckdiff.to_dataframe(full_report(), "rows")
    with pytest.raises(
        CkdiffError, match=r"^to_dataframe: the report holds no behaviour; `ckdiff behave` puts one in$"
    ):
        ckdiff.to_dataframe(replace(full_report(), behaviour=None), "answers")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        CkdiffError, match=r"^to_dataframe: needs pandas; `pip install '.\[pandas\]'` in ckdiff's checkout brings it$"
    ):
        ckdiff.to_dataframe(full_report(), "tensors")


def test_dir_lists_the_public_names_alone() -> None:
    assert dir(ckdiff) == sorted(ckdiff.__all__)
    assert {*ckdiff._PLACES} == {*ckdiff.__all__} - {"__version__"}
    for name in ckdiff.__all__:
        assert getattr(ckdiff, name).__doc__


def test_two_paths_are_a_comparison(pairs: Callable[[str], Folders]) -> None:
    folders = pairs("llama")
    found = ckdiff.compare(folders.base, str(folders.unlearned), hash=False)
    expected = ckdiff.compare(CompareSpec(str(folders.base), str(folders.unlearned), hash=False))
    assert same(found, expected)
    assert same(COMPARE(spec=CompareSpec(str(folders.base), str(folders.unlearned), hash=False)), expected)
    seen: list[tuple[int, int]] = []
    ckdiff.compare(folders.base, folders.unlearned, hash=False, progress=lambda *done: seen.append(done))
    assert seen


def test_options_are_read_as_the_command_line_reads_them() -> None:
    probe = make_spec(ProbeSpec, ("a", Path("b")), {"questions": "q.txt", "modes": "coeff,attn", "window": 1})
    settings = Settings(modes=("coeff", "attn"), window=1)
    assert probe == ProbeSpec("a", "b", Path("q.txt"), settings=settings)
    behave = make_spec(BehaveSpec, ("a", "b"), {"asked": "Who?", "dtype": "bf16", "neutral": "n.txt"})
    assert behave == BehaveSpec("a", "b", asked=("Who?",), neutral=Path("n.txt"), settings=Settings(dtype="bfloat16"))
    attack = make_spec(AttackSpec, ("a", "b"), {"asked": ["Who?", "When?"], "tiers": "0-1", "rates": "1e-4"})
    assert attack == AttackSpec("a", "b", asked=("Who?", "When?"), tiers=(0, 1), rates=(1e-4,))
    depth = make_spec(DepthSpec, ("a", "b"), {"reference": "c", "layers": "0-2", "directions": "both"})
    assert depth.reference == "c"
    assert (depth.settings.layers, depth.settings.directions) == ((0, 1, 2), ("restore", "break"))
    template = make_spec(ProbeSpec, ("a", "b"), {"prompt_template": r"{q}\n", "settings": Settings(window=3)})
    assert template.settings == Settings(window=3, template=r"{q}\n")


def test_a_spec_takes_texts_for_paths_too() -> None:
    call: Any = take_paths(AttackSpec)(lambda spec: spec)
    loose = AttackSpec(Path("a"), "b", questions="q.txt", asked=["Who?"])  # type: ignore[arg-type]
    assert call(loose) == call(spec=loose) == AttackSpec("a", "b", questions=Path("q.txt"), asked=("Who?",))
    strict = AttackSpec("a", "b", tiers=(1,))
    assert call(strict) is strict


def test_a_policy_says_how_an_audit_measures_what_nobody_says(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(
        '[measure]\nwindow = 3\ntokens = 7\nquestions = "own.txt"\n[require]\nquestions = 3\n'
    )
    (tmp_path / "own.txt").write_text("Who?")
    spec = make_spec(AuditSpec, ("a", "b"), {"policy": str(tmp_path / "policy.toml"), "tokens": 9, "hash": False})
    assert (spec.settings.window, spec.settings.tokens, spec.hash) == (3, 9, False)
    assert spec.questions == tmp_path / "own.txt"
    assert spec.settings.variants == ("open", "whole")
    assert spec.policy is not None
    assert make_spec(AuditSpec, ("a", "b"), {"policy": spec.policy}).settings.tokens == 7
    assert make_spec(AuditSpec, ("a", "b"), {}).policy is None


def test_an_audit_attacks_what_needs_no_training_and_what_its_policy_requires() -> None:
    def tiers(policy: str = "", **changes: object) -> tuple[int, ...] | None:
        found = AuditSpec("a", "b", parse_policy(policy, "p") if policy else None, **{"asked": ("Who?",), **changes})  # type: ignore[arg-type]
        return None if found.attack is None else found.attack.tiers

    assert tiers() == (0, 1)
    assert tiers("[require]\ntiers = [2]\n") == tiers('[require]\nattacks = ["relearn"]\n') == (0, 1, 2)
    assert tiers("[require]\ntiers = [2]\n", tiers=(0,)) == (0,)
    # Nobody wants any, or there is nothing to ask; what was named all the same is refused later.
    assert tiers(tiers=()) is tiers(asked=()) is None
    assert tiers(asked=(), tiers=(0,)) == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ckdiff.probe("a", "b", question="q"), "no option 'question'; write questions"),
        (lambda: ckdiff.compare("a", "b", zzz=1), "no option 'zzz'; there are hash, adapter_base"),
        (lambda: ckdiff.compare("a", "b", window=1), "no option 'window'; there are hash, adapter_base"),
        (lambda: COMPARE("a"), "give two checkpoints, base and unlearned, or a CompareSpec"),
        (lambda: COMPARE("a", 3), "give two checkpoints, base and unlearned, or a CompareSpec"),
        (lambda: ckdiff.figure("a.h5", "a.svg", kid="probe"), "no option 'kid'; write kind"),
    ],
)
def test_an_option_that_there_is_not_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(CkdiffError) as refused:
        call()
    assert str(refused.value) == message


def test_page_figure_and_verification_are_functions(tmp_path: Path) -> None:
    found = reports.report(reports.comparison(), reports.probe(), reports.behaviour())
    place = tmp_path / "report.h5"
    ckdiff.write_report(found, place)
    for given in (found, place, str(place)):
        page = ckdiff.html(given, tmp_path / "page.html")
        assert page.read_text().startswith("<!doctype html>")
        assert "<svg" in ckdiff.figure(given, tmp_path / "probe.svg", score="krs_kl").read_text()
    both = ckdiff.figure([found, place], tmp_path / "both.svg", kind="behaviour").read_text()
    assert ">unlearned<" in both
    assert ">report<" in both
    with pytest.raises(CkdiffError, match="is the report itself"):
        ckdiff.html(place, place, overwrite=True)
    outcome = ckdiff.verify(str(place))
    assert outcome.differences.compared > 0
    with pytest.raises(CkdiffError, match="a signature says nothing without a key"):
        ckdiff.verify(place, attestation="envelope")
