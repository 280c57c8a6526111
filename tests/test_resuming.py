"""What was done before an interruption is not done again, and the end is that of an uninterrupted run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file, save_file

from ckdiff.attacks.battery import settings_of
from ckdiff.attacks.table import ATTACKS
from ckdiff.calls.ask import read_questions_of
from ckdiff.calls.attack import attack, battery_of, is_attacked, prepare_attack
from ckdiff.calls.audit import audit_pair
from ckdiff.calls.behave import behave
from ckdiff.calls.expected import READ
from ckdiff.calls.provenance import open_pair
from ckdiff.calls.specs import AttackSpec, AuditSpec, BehaveSpec, audit_settings
from ckdiff.calls.swept import find_swept
from ckdiff.calls.unfinished import folder_of, forget, is_kept
from ckdiff.cli.options import Output
from ckdiff.cli.session import KEPT, KEPT_MENDED, NOTHING_KEPT, Session
from ckdiff.errors import CkdiffError
from ckdiff.options import UNCHATTED
from ckdiff.probes.preparation import prepare, settings_record
from ckdiff.progress import Listener, Stopped, nothing_to_resume
from ckdiff.report.hdf5.file import read_report, write_report
from tests import reports
from tests.test_probe_cli import ASKED, ckdiff, made, place, save_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ckdiff.report.schema.report import Report
    from tests.test_probe_cli import Run

__all__ = ["ckdiff", "made", "place"]  # fixtures

SETTINGS = replace(audit_settings(), modes=("coeff",), window=1, tokens=4, device="cpu")
BEHAVE = BehaveSpec("base", "unlearned", asked=ASKED, neutral=False, settings=SETTINGS)
AUDIT = AuditSpec("base", "unlearned", asked=ASKED, tiers=(), neutral=False, settings=SETTINGS)
USUAL = [name for name, row in ATTACKS.items() if row.tier < 2]
BASE, UNLEARNED = "the base answers", "the unlearned answers"


@dataclass
class Told:
    """How often each stage was told of, and what was remarked; Ctrl-C comes when one begins."""

    until: str = ""
    stages: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    parts: list[tuple[str, int, int]] = field(default_factory=list)

    def progress(self, stage: str, done: int, total: int, detail: str) -> None:
        if stage == self.until:
            raise KeyboardInterrupt
        self.stages[stage] = self.stages.get(stage, 0) + 1

    def listener(self, stop: bool = False) -> Listener:
        return Listener(self.progress, lambda: stop, self.remarks.append, part=lambda *part: self.parts.append(part))


def bytes_of(report: Report, name: str = "r.h5") -> bytes:
    write_report(report, name)
    return Path(name).read_bytes()


def test_an_audit_tells_what_its_parts_will_take_before_the_first_of_them(place: Path) -> None:
    expected: list[dict[str, float]] = []

    class BegunError(Exception):
        """Nothing is measured here."""

    def begin(part: str, number: int, total: int) -> None:
        assert number == 1
        raise BegunError

    def expect(seconds: Callable[[], Mapping[str, float]]) -> None:
        expected.append(dict(seconds()))

    for spec in (
        AUDIT,
        replace(AUDIT, tiers=(0, 1), reference="base"),
        replace(AUDIT, asked=()),
    ):
        with pytest.raises(BegunError):
            audit_pair(spec, Listener(part=begin, expect=expect))
    plain, whole, unasked = expected
    assert list(plain) == ["compare", "behave", "probe"]
    assert list(whole) == ["compare", "behave", "probe", "depth", "attack"]
    assert "probe" not in unasked
    assert all(0 < seconds < 60 for seconds in whole.values())
    assert (
        plain["compare"]
        == whole["compare"]
        == sum(Path(side, "model.safetensors").stat().st_size for side in ("base", "unlearned")) / READ
    )


def test_answers_that_were_given_are_not_given_again(place: Path) -> None:
    whole, keep = bytes_of(behave(BEHAVE)), place / "partial"
    with pytest.raises(KeyboardInterrupt):
        behave(BEHAVE, Told(until="the unlearned reads").listener(), keep=keep)
    assert len(list((folder_of(keep) / "base").iterdir())) == 2
    told = Told()
    assert bytes_of(behave(BEHAVE, told.listener(), keep=keep, resume=True)) == whole
    # Told at the beginning and at the end, and not between: nobody was asked.
    assert told.stages[BASE] == told.stages[UNLEARNED] == 2
    anew = Told()
    assert bytes_of(behave(BEHAVE, anew.listener(), keep=keep)) == whole
    assert anew.stages[BASE] > 2


@pytest.mark.parametrize("change", ["weights", "questions", "tokens"])
def test_answers_of_something_else_are_not_taken(place: Path, change: str) -> None:
    keep = place / "partial"
    behave(BEHAVE, keep=keep)
    spec = replace(BEHAVE, asked=ASKED[:2]) if change == "questions" else BEHAVE
    spec = replace(spec, settings=replace(SETTINGS, tokens=3)) if change == "tokens" else spec
    if change == "weights":
        shutil.rmtree("base")
        shutil.copytree("unlearned", "base")
    told = Told()
    again = bytes_of(behave(spec, told.listener(), keep=keep, resume=True))
    # What is base now was the unlearned model before: its answers are known.
    assert (told.stages[BASE] > 2) == (change != "weights")
    assert again == bytes_of(behave(spec))


def test_without_hashes_nothing_is_kept(place: Path) -> None:
    behave(replace(BEHAVE, hash=False), keep=place / "partial")
    assert not is_kept(place / "partial")


def test_an_audit_compares_and_asks_once(place: Path) -> None:
    whole, keep = bytes_of(audit_pair(AUDIT)), place / "partial"
    with pytest.raises(KeyboardInterrupt):
        audit_pair(AUDIT, Told(until=BASE).listener(), keep=keep)
    kept = read_report(folder_of(keep) / "report.h5")
    assert (kept.complete, kept.compare is None, kept.behaviour) == (False, False, None)
    with pytest.raises(Stopped):
        audit_pair(AUDIT, (second := Told()).listener(stop=True), keep=keep, resume=True)
    assert "comparing" not in second.stages
    assert second.remarks == ["compared already: nothing is compared again"]
    assert second.stages[BASE] > 2
    told = Told()
    assert bytes_of(audit_pair(AUDIT, told.listener(), keep=keep, resume=True)) == whole
    assert not {"comparing", "loading the base", BASE, UNLEARNED} & told.stages.keys()
    assert told.remarks == ["compared already: nothing is compared again", "asked already: nothing is asked again"]
    assert told.parts == [("compare", 1, 3), ("behave", 2, 3), ("probe", 3, 3)]
    forget(keep)
    assert not is_kept(keep)


def test_an_audit_takes_what_a_report_of_the_pair_holds(place: Path) -> None:
    whole = audit_pair(AUDIT)
    told = Told()
    assert bytes_of(audit_pair(AUDIT, told.listener(), whole, resume=True)) == bytes_of(whole, "s.h5")
    assert not {"comparing", BASE} & told.stages.keys()
    # Other questions, other tokens, other libraries: asked again; without --resume everything is.
    older = replace(whole, versions={**whole.versions, "torch": "1.0"})
    for spec, existing, resume, compared in (
        (replace(AUDIT, asked=ASKED[:2]), whole, True, False),
        (replace(AUDIT, settings=replace(SETTINGS, tokens=3)), whole, True, False),
        (AUDIT, older, True, True),
        (AUDIT, whole, False, True),
    ):
        again = Told(until=UNLEARNED)
        with pytest.raises(KeyboardInterrupt):
            audit_pair(spec, again.listener(), existing, resume=resume)
        assert BASE in again.stages
        assert ("comparing" in again.stages) == compared


def test_attacks_that_nobody_named_are_not_made_in_the_place_of_more(place: Path) -> None:
    usual, named = replace(AUDIT, tiers=None), {"attacks": ("samples", "blend")}
    more = attack(AttackSpec("base", "unlearned", asked=ASKED, settings=SETTINGS, **named))  # type: ignore[arg-type]
    assert more.attack is not None
    # As if all of them had been made, and one of another tier.
    every = replace(more.attack, settings={**more.attack.settings, "attacks": ",".join([*USUAL, "guide"])})
    told = Told()
    assert audit_pair(usual, told.listener(), replace(more, attack=every)).attack == every
    assert [one for one in told.remarks if one.startswith("attacked already")]
    shutil.copytree("base", "never")
    values = load_file("never/model.safetensors")
    save_file(values | {"model.norm.weight": values["model.norm.weight"] * 1.5}, "never/model.safetensors")
    for changes in ({"tiers": (0, 1)}, {"reference": "never"}):
        with pytest.raises(KeyboardInterrupt):
            audit_pair(replace(usual, **changes), Told("attacking the base").listener(), replace(more, attack=every))


def test_attacks_are_there_where_they_asked_the_same_in_the_same_way(place: Path) -> None:
    wanted = AttackSpec("base", "unlearned", asked=ASKED, settings=SETTINGS)
    task, _ = prepare_attack(wanted)
    same = reports.attacks()
    same = replace(same, reference="", settings=settings_of(task, battery_of(wanted)))
    assert is_attacked(task, wanted, same, resume=True)
    assert not is_attacked(task, wanted, same, resume=False)
    assert is_attacked(task, wanted, replace(same, reference="c"), resume=False)
    for name, found in (
        ("attacks", ",".join(USUAL[:-1])),
        ("questions_digest", "another"),
        ("tokens", "3"),
        ("samples", "8"),
    ):
        other = replace(same, reference="c", settings={**same.settings, name: found})
        assert not is_attacked(task, wanted, other, resume=True), name
    # Its digest is of texts and answers: what else there is to a question changes what attacks make of it.
    target, unrelated = task.asked.target, task.asked.unrelated
    assert target is not None
    asked = [
        replace(
            task.asked,
            target=replace(target, questions=(replace(target.questions[0], **change), *target.questions[1:])),
        )
        for change in ({"kind": "town"}, {"cluster": "one"}, {"paraphrases": ("And?",)})
    ]
    asked.append(replace(task.asked, unrelated=replace(unrelated, digest="another")))
    others = [replace(task, asked=one) for one in asked] + [replace(task, choices=[*task.choices, task.job.prompts[0]])]
    assert [is_attacked(one, wanted, same, resume=True) for one in others] == [False] * 5


def test_who_does_not_use_the_chat_template_hears_of_it_before_anything_is_asked(place: Path) -> None:
    plain, told = Told(BASE), Told(BASE)
    for one in (plain, told):
        with pytest.raises(KeyboardInterrupt):
            audit_pair(AUDIT, one.listener())
        for side in ("base", "unlearned"):
            save_tokenizer(place / side, chat_template="{{ messages[0].content }}")
    assert UNCHATTED not in plain.remarks
    assert UNCHATTED in told.remarks


def test_weights_that_changed_are_compared_again(place: Path) -> None:
    whole, keep = audit_pair(AUDIT), place / "partial"
    with pytest.raises(KeyboardInterrupt):
        audit_pair(AUDIT, Told(until="layers").listener(), keep=keep)
    shutil.rmtree("unlearned")
    shutil.copytree("base", "unlearned")
    told = Told()
    found = audit_pair(AUDIT, told.listener(), keep=keep, resume=True)
    assert found.provenance.unlearned.digest != whole.provenance.unlearned.digest
    assert "comparing" in told.stages
    assert found.verdict is not None
    assert found.verdict.label == "identical"


def test_the_commands_leave_nothing_beside_the_report(ckdiff: Run, place: Path) -> None:
    before = {path.name for path in place.iterdir()}
    quick = ("--question", ASKED[0], "--tokens", 2, "--no-neutral", "--device", "cpu")
    assert ckdiff("behave", "base", "unlearned", *quick)[0] == 0
    status, _, err = ckdiff("behave", "base", "unlearned", *quick, "--resume")
    assert status == 0
    assert nothing_to_resume(Path(".ckdiff.h5.partial")) in err
    assert {path.name for path in place.iterdir()} == before | {"ckdiff.h5"}
    # What an interrupted run has left is said, not taken, and gone in the end.
    parts = folder_of(place / ".ckdiff.h5.partial")
    parts.mkdir()
    status, _, err = ckdiff("behave", "base", "unlearned", *quick)
    assert status == 0
    assert "interrupted work is there and will be discarded; stop, and use --resume to go on with it" in err
    assert not parts.exists()


def test_an_audit_makes_each_attack_once(place: Path) -> None:
    spec, keep = replace(AUDIT, tiers=(1,)), place / "partial"
    whole = bytes_of(audit_pair(spec))
    with pytest.raises(KeyboardInterrupt):
        audit_pair(spec, Told(until="pruning the unlearned").listener(), keep=keep)
    told = Told()
    assert bytes_of(audit_pair(spec, told.listener(), keep=keep, resume=True)) == whole
    assert not {"quantising the unlearned", "layers"} & told.stages.keys()
    assert {"pruning the unlearned", "codes"} <= told.stages.keys()


def test_what_was_put_back_is_not_put_back_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, keep = audit_pair(AUDIT), place / "partial"
    assert whole.probe is not None
    first, *more = whole.probe.questions
    for told, existing in (
        (Told("pruning the unlearned"), None),  # with the probe, which is kept
        *(
            (Told("layers"), replace(whole, probe=replace(whole.probe, **changes)))
            for changes in (
                {"runs": whole.probe.runs[1:]},
                {"questions": (replace(first, answer_ids=(*first.answer_ids[:-1], 0)), *more)},
                {"questions": (replace(first, cluster=7), *more)},
                {"questions": (replace(first, prompt_tokens=1), *more)},
            )
        ),
    ):
        kept = keep if existing is None else None
        with pytest.raises(KeyboardInterrupt):
            audit_pair(replace(AUDIT, tiers=(1,)), told.listener(), existing, keep=kept, resume=existing is not None)
    for changes in ({"window": 2}, {"modes": ("coeff", "values")}, {"variants": ("open",)}, {"windows": "all"}):
        spec = replace(AUDIT, settings=replace(SETTINGS, **changes))
        with pytest.raises(KeyboardInterrupt):
            audit_pair(spec, Told("layers").listener(), keep=keep, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr("ckdiff.calls.audit.versions", lambda *names: {"torch": "another"})
        with pytest.raises(KeyboardInterrupt):
            audit_pair(AUDIT, Told("layers").listener(), whole, resume=True)
    # Windows that the verdict would want: those that can be wanted are swept, and then all is done again.
    assert AUDIT.probe is not None
    job = prepare(*open_pair(BEHAVE), read_questions_of(AUDIT.probe), AUDIT.settings)
    job.known = [list(row.answer_ids) for row in whole.probe.questions]
    assert find_swept(job, lambda probe: ("coeff",), whole.probe) is None
    assert find_swept(job, lambda probe: ("values",), whole.probe) is whole.probe
    # Answers that the file gives have to be the same ones, as the base's own have.
    for number, same in ((0, True), (1, False)):
        answers = [tuple(number + one for one in row.answer_ids) for row in whole.probe.questions]
        prompts = [replace(one, answer=said) for one, said in zip(job.prompts, answers, strict=True)]
        given = replace(job, settings=replace(job.settings, given_answers=True), prompts=prompts, known=None)
        done = replace(whole.probe, settings=settings_record(given))
        assert (find_swept(given, lambda probe: ("values",), done) is done) is same
    told = Told()
    assert bytes_of(audit_pair(AUDIT, told.listener(), keep=keep, resume=True)) == bytes_of(whole, "s.h5")
    assert "layers" not in told.stages
    assert told.remarks[-1] == "probed already: nothing is put back again"


@pytest.mark.parametrize("kept", [False, True])
def test_resuming_what_was_kept_says_nothing_of_a_start(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path(".ckdiff.h5.partial")
    place.touch() if kept else folder_of(place).mkdir()
    with Session(Output()).keep(resume=True):
        pass
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("kept", "error"),
    [
        ("", KeyboardInterrupt),
        ("folder", KeyboardInterrupt),
        ("file", KeyboardInterrupt),
        ("folder", Stopped),
        ("file", Stopped),
    ],
)
def test_ctrl_c_says_once_whether_anything_was_kept(
    kept: str,
    error: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def stop() -> None:
        session = Session(Output())
        with session.keep(resume=False) as place:
            if kept:
                folder_of(place).mkdir() if kept == "folder" else place.touch()

            def fail(listener: Listener) -> None:
                raise error

            session.work(fail)

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert capfd.readouterr().err == f"{KEPT if kept else NOTHING_KEPT}\n"


@pytest.mark.parametrize("kept", [False, True])
def test_a_mistake_that_is_found_late_says_that_what_is_done_is_kept(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def fail() -> None:
        with Session(Output()).keep(resume=False) as place:
            if kept:
                folder_of(place).mkdir()
            raise CkdiffError("--reference: is the base itself")

    with pytest.raises(CkdiffError):
        fail()
    assert capfd.readouterr().err == (f"{KEPT_MENDED}\n" if kept else "")
