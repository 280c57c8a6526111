"""Attacks beside each other: the same digits as one after the other, models of their own, and all stop together."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff.attacks.abreast import Abreast, codes_aside, places
from ckdiff.attacks.battery import Battery, Keeping, run
from ckdiff.attacks.case import Options
from ckdiff.attacks.kept import open_kept
from ckdiff.probes.live.beside import BESIDE, MOST, shared_threads
from ckdiff.probes.live.model import LiveModel
from ckdiff.progress import Listener, Stopped
from tests.test_attack_relearn import case_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.attacks.abreast import Lives
    from ckdiff.attacks.case import Case

NAMES = ("forms", "samples", "quantise", "blend", "ablate", "lens")


@pytest.fixture(scope="module")
def case(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A base that knows its facts, beside the same with a little noise."""
    root = tmp_path_factory.mktemp("abreast")
    shutil.copytree(learned, root, dirs_exist_ok=True)
    shutil.copytree(root / "base", root / "noisy")
    generator = torch.Generator().manual_seed(0)
    for file in (root / "noisy").glob("*.safetensors"):
        noisy = {
            name: value + 0.02 * torch.randn(value.shape, generator=generator)
            for name, value in load_file(file).items()
        }
        save_file(noisy, file, {"format": "pt"})
    return case_of(root, "noisy")


def lives_of(case: Case) -> Lives:
    return {"base": case.job.pair.base, "unlearned": case.job.pair.unlearned}


def test_beside_each_other_is_as_one_after_the_other(case: Case) -> None:
    """Every number to the last digit: three at a time with a thread each, and one at a time with one."""
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        assert places(case.task, NAMES) == threads
        report = run(case.task, Battery(NAMES, options=Options(samples=2)), known=case.said)
        assert torch.get_num_threads() == threads
        found.append(report)
    assert {row.attack for row in found[0].rows if row.setting != "not measured"} == set(NAMES)
    assert repr(found[0]) == repr(found[1])


def test_what_codes_tell_is_found_out_while_the_base_answers(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a thread of its own, which has a place only where there are several, and stops where something fails."""
    plan, found = Battery(("quantise",), floor=False), {}
    for threads, known in ((1, None), (2, None), (2, case.said)):
        torch.set_num_threads(threads)
        stages: list[str] = []
        told = Listener(lambda stage, done, total, detail, stages=stages: stages.append(stage))  # type: ignore[misc]
        found[threads, known is None] = repr(run(case.task, plan, told, known))
        # Who tells of codes finds them out last.
        assert ("codes" in stages) == ((threads, known) != (2, None))
    assert len(set(found.values())) == 1
    read, failing = LiveModel.read, threading.Event()

    def slowly(live: LiveModel, key: str) -> torch.Tensor:
        assert failing.wait(60)
        threading.Event().wait(0.02)
        return read(live, key)

    monkeypatch.setattr(LiveModel, "read", slowly)
    found_out = []

    def fail() -> None:
        with codes_aside(case.task, lives_of(case), wanted=True) as codes:
            found_out.append(codes)
            failing.set()
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        fail()
    assert found_out[0] is not None
    with pytest.raises(Stopped):
        found_out[0]()
    with codes_aside(case.task, lives_of(case), wanted=False) as none:
        assert none is None


def test_there_are_as_many_places_as_threads_and_room(case: Case) -> None:
    task = case.task
    each = task.job.pair.base.parameter_bytes(4)
    torch.set_num_threads(MOST + 3)
    assert places(task, ["forms"]) == MOST
    for models, count in ((0.5, 1), (1 + BESIDE, 1), (2 * (1 + BESIDE), 2), (3.9 * (1 + BESIDE), 3)):
        small = replace(task, job=replace(task.job, room=int(models * each) + 1))
        assert places(small, ["forms", "blend"]) == count
    two = replace(task, job=replace(task.job, room=int(2 * (2 + BESIDE) * each) + 1))
    assert (places(two, ["guide"]), places(two, ["forms"])) == (2, 3)
    assert places(replace(task, way=replace(task.way, stream=True)), ["forms"]) == 1
    # What trains goes alone, and does not count here.
    assert places(two, ["relearn", "forms"]) == 3


def test_each_place_has_its_own_models_and_its_share_of_the_threads(case: Case) -> None:
    torch.set_num_threads(4)
    both = threading.Barrier(2, timeout=60)

    def look(mine: Case, lives: Lives) -> tuple[Case, Lives, int, bool]:
        both.wait()
        return mine, lives, torch.get_num_threads(), torch.is_inference_mode_enabled()

    with shared_threads(2), Abreast(case, lives_of(case), 2) as crew:
        one, other = [wait() for wait in [crew.begin(look), crew.begin(look)]]
    assert torch.get_num_threads() == 4
    for mine, lives, threads, still in (one, other):
        assert (threads, still) == (2, True)
        assert (mine.job.pair.base, mine.job.pair.unlearned) == (lives["base"], lives["unlearned"])
        assert (mine.plain is case.plain, mine.sought is case.sought) == (True, True)
    models = {id(lives[side].model) for _, lives, _, _ in (one, other) for side in ("base", "unlearned")}
    assert len(models) == 4


def test_where_one_fails_the_others_stop(case: Case) -> None:
    begun = threading.Event()

    def long(mine: Case, lives: Lives) -> None:
        begun.set()
        for _ in range(6000):
            mine.pause()
            threading.Event().wait(0.01)
        raise AssertionError("nobody stopped it")

    def bad(mine: Case, lives: Lives) -> None:
        assert begun.wait(60)
        raise KeyError("broken")

    before = torch.get_num_threads()
    waits = []

    def together() -> None:
        with Abreast(case, lives_of(case), 2) as crew:
            waits.extend([crew.begin(long), crew.begin(bad)])
            waits[1]()

    with pytest.raises(KeyError, match="broken"):
        together()
    with pytest.raises(Stopped):
        waits[0]()
    assert torch.get_num_threads() == before


def test_ctrl_c_ends_what_is_under_way_before_its_next_layer(case: Case) -> None:
    begun, said = threading.Event(), list[str]()
    case = replace(case, listener=Listener(remark=said.append))
    lives = lives_of(case)

    def endless(mine: Case, own: Lives) -> None:
        with mine.loaded(own["unlearned"]) as live:
            states, calls = live.front(torch.tensor([[1, 2, 3]]))
            while True:
                live.layer(0, states, calls[0])
                begun.set()

    def interrupted() -> None:
        with Abreast(case, lives, 2) as crew:
            ended.append(crew.begin(endless))
            assert begun.wait(60)
            raise KeyboardInterrupt

    ended: list[Callable[[], None]] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(Stopped):
        ended[0]()
    assert said == ["stopping before the next layer"]
    assert not any(layer._forward_pre_hooks for live in lives.values() for layer in live.layers)


def test_what_is_done_is_kept_where_somebody_stops(case: Case, tmp_path: Path) -> None:
    place, plan = tmp_path / "kept", Battery(("forms", "quantise", "blend"), options=Options())
    torch.set_num_threads(2)
    whole = run(case.task, plan, known=case.said)
    made: list[str] = []

    def progress(stage: str, done: int, total: int, detail: str) -> None:
        made.extend([detail] if stage == "blending" and done == total else [])

    with pytest.raises(Stopped):
        run(case.task, plan, Listener(progress, lambda: bool(made)), case.said, Keeping(place, "w"))
    kept = open_kept(place, _key(place), resume=True)
    assert ("blend", "unlearned") in kept.made
    assert len(kept.made) < 5
    again = run(case.task, plan, Listener(), case.said, Keeping(place, "w", resume=True))
    assert repr(again) == repr(whole)


def _key(place: Path) -> str:
    return str(json.loads(place.read_text())["key"])


def test_a_tokenizer_is_asked_by_one_thread_at_a_time(case: Case) -> None:
    """Each call sets how it cuts, and would be cut as another thread's is."""
    tokenizer, cut = case.job.tokenizer, dict[int, set[int]]()
    text = " ".join(one.question.text for one in case.sought) * 20

    def ask(most: int) -> None:
        for _ in range(50):
            found = tokenizer(text, truncation=True, max_length=most)["input_ids"]
            cut.setdefault(most, set()).add(len(found))

    threads = [threading.Thread(target=ask, args=(most,)) for most in range(5, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cut == {most: {most} for most in range(5, 9)}
