"""`ckdiff campaign` and `ckdiff gather` from end to end: the same answer from every engine, faults, bad input."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file, save_file

from ckdiff.audit.verify.report import check
from ckdiff.cache import Cache
from ckdiff.campaign.plan.plan import read_plan
from ckdiff.campaign.run.store import Store, read_results
from ckdiff.campaign.run.tasks import WEIGHTS, jobs
from ckdiff.campaign.run.work import WORK
from ckdiff.report.hdf5.file import read_campaign, read_report
from tests.test_probe_cli import ASKED, ckdiff, made, place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckdiff.campaign.records import Task
    from tests.conftest import Share

    Run = Callable[..., tuple[int, str, str]]

__all__ = ["ckdiff", "made", "place"]  # fixtures

PLAN = """
name = "many"
base = "base"
runs = ["compare", "behave", "probe"]
policy = "lax.toml"
[measure]
questions = ["b.txt", "d.txt"]
unrelated = "questions.txt"
neutral = false
tokens = 4
window = 1
modes = ["coeff", "values"]
[[pairs]]
unlearned = "models/*"
group = "noise"
"""
LAX = '[require]\nsections = ["compare", "probe", "behaviour"]\n'
MODELS = ("m1", "m2", "m3")
JOBS = len(MODELS) * (1 + 2 + 2)


@pytest.fixture(scope="session")
def field(made: Path, kept: Share) -> Path:
    """A base, three unlearned models, two question files and a plan: 15 small jobs."""
    return kept("campaign", lambda root: make_field(made, root))


def make_field(made: Path, root: Path) -> None:
    import torch

    shutil.copytree(made / "base", root / "base")
    (root / "questions.txt").write_text("\n".join([*ASKED, "Who left?"]))
    for number, name in enumerate(MODELS):
        shutil.copytree(made / "base", root / "models" / name)
        file = root / "models" / name / "model.safetensors"
        tensors = load_file(file)
        torch.manual_seed(number)
        save_file({key: one + 0.05 * torch.randn_like(one) for key, one in tensors.items()}, file, {"format": "pt"})
    for name, questions in zip("bd", (ASKED[1:], ASKED), strict=True):
        (root / f"{name}.txt").write_text("\n".join(questions))
    (root / "lax.toml").write_text(LAX)
    (root / "plan.toml").write_text(PLAN)


@pytest.fixture
def here(field: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(field)
    return field


def command(*arguments: object, python: str = sys.executable) -> list[str]:
    return [python, "-m", "ckdiff", "campaign", *map(str, arguments)]


def bytes_of(ckdiff: Run, output: Path, *folders: Path) -> bytes:
    status, _, err = ckdiff("gather", *folders, "-o", output)
    assert status == 0, err
    return output.read_bytes()


@pytest.fixture(scope="session")
def reference(field: Path, kept: Share) -> tuple[Path, bytes]:
    """The results directory of one process, and what is gathered from it."""
    from ckdiff.cli.app import run

    def make(root: Path) -> None:
        results, output = str(root / "results"), str(root / "campaign.h5")
        root.mkdir()
        assert run(["campaign", str(field / "plan.toml"), "-o", results, "--engine", "inline", "--quiet"]) == 0
        assert run(["gather", results, "-o", output, "--quiet"]) == 0

    root = kept("reference", make)
    return root / "results", (root / "campaign.h5").read_bytes()


# ----------------------------------------------------------------------------------------------- the same from each


def test_one_process_does_every_job_once(reference: tuple[Path, bytes], here: Path) -> None:
    results, content = reference
    found = read_results([results]).found
    assert len(found) == JOBS
    assert all(one.report is not None and one.outcome is not None and one.outcome.state == "done" for one in found)
    assert len({one.slot.key for one in found}) == JOBS
    (results.parent / "again.h5").write_bytes(content)
    campaign = read_campaign(results.parent / "again.h5")
    assert [pair.name for pair in campaign.pairs] == list(MODELS)
    assert campaign.concepts == ("b", "d")
    assert (campaign.complete, campaign.outcome) == (True, "passed")


def test_a_job_finds_what_the_command_finds(
    ckdiff: Run, reference: tuple[Path, bytes], here: Path, tmp_path: Path
) -> None:
    results, _ = reference
    output = tmp_path / "alone.h5"
    options = ("-Q", "b.txt", "--tokens", 4, "--window", 1, "--mode", "coeff,values", "--device", "cpu", "--threads", 1)
    status, _, err = ckdiff("probe", here / "base", here / "models" / "m2", *options, "-o", output)
    assert status == 0, err
    slot = next(
        one
        for one in read_results([results]).found
        if (one.slot.pair, one.slot.concept, one.slot.run) == ("m2", "b", "probe")
    )
    assert slot.report is not None
    assert slot.report.read_bytes() == output.read_bytes()


def lose_some(results: Path, copy: Path, count: int = 1, runs: Sequence[str] = ("compare", "behave", "probe")) -> Path:
    """A copy of a results directory in which so many jobs of each kind are not done, nor their base asked."""
    shutil.copytree(results, copy)
    shutil.rmtree(copy / "base")
    for run in runs:
        for one in [one for one in read_results([copy]).found if one.slot.run == run][:count]:
            for path in copy.glob(f"jobs/{one.slot.key}.*"):
                path.unlink()
    return copy


def test_attacks_of_a_campaign_are_those_of_the_command(ckdiff: Run, here: Path, tmp_path: Path) -> None:
    attacks = '[attack]\nattacks = ["prune"]\nreference = "models/m3"\nreference_kind = "before"\n'
    text = PLAN.replace('"compare", "behave", "probe"', '"attack"').replace("models/*", "models/m1")
    text = text.replace('["b.txt", "d.txt"]', '"b.txt"').replace("[[pairs]]", attacks + "[[pairs]]")
    plan, output = here / "attacks.toml", tmp_path / "alone.h5"
    plan.write_text(text)
    assert ckdiff("campaign", plan, "-o", tmp_path / "r", "--engine", "inline", "--quiet")[0] == 0
    (found,) = read_results([tmp_path / "r"]).found
    options = ("-Q", "b.txt", "--unrelated", "questions.txt", "--tokens", 4, "--device", "cpu", "--threads", 1)
    beside = ("--attack", "prune", "--reference", here / "models" / "m3", "--reference-kind", "before")
    sides = (here / "base", here / "models" / "m1")
    assert ckdiff("attack", *sides, *options, *beside, "-o", output)[0] in (0, 3)
    assert found.report is not None
    assert found.report.read_bytes() == output.read_bytes()
    assert ckdiff("gather", tmp_path / "r", "-o", tmp_path / "g.h5", "--format", "json")[0] in (0, 3)
    keys = [found.slot.key]
    for change in ('["prune"]', '["quantise"]'), ("models/m3", "models/m2"), ('"before"', '"retrained"'):
        plan.write_text(text.replace(*change))
        keys += jobs(read_plan(plan), Cache(tmp_path / "r")).tasks
    assert len(set(keys)) == 4
    plan.unlink()


def test_margins_of_a_plan_are_a_part_of_the_key(here: Path, tmp_path: Path) -> None:
    text = PLAN.replace('"compare", "behave", "probe"', '"audit", "attack", "depth"').replace("models/*", "models/m1")
    text = text.replace('["b.txt", "d.txt"]', '"b.txt"')
    beside = 'reference = "models/m3"\nmargins = "zero.h5"\n'
    plan, zero, keys = here / "margins.toml", here / "zero.h5", list[str]()
    for more, content in (beside, b"one"), (beside, b"two"), ('reference = "models/m3"\n', b"two"):
        zero.write_bytes(content)
        plan.write_text(text.replace('policy = "lax.toml"\n', more))
        tasks = jobs(read_plan(plan), Cache(tmp_path)).tasks
        margins = {task.run: getattr(task.spec, "margins", None) for task in tasks.values()}
        given = str(zero) if "margins" in more else None
        assert margins == {"audit": given, "attack": given, "depth": None}
        keys += tasks
    # a depth knows of no margins: one key for all three plans
    assert len(set(keys)) == 2 * 3 + 1
    # a pair's own reference has no margins of the plan's
    plan.write_text(
        text.replace('policy = "lax.toml"\n', beside).replace("[[pairs]]", '[[pairs]]\nreference = "models/m2"')
    )
    assert {
        task.spec.margins for task in jobs(read_plan(plan), Cache(tmp_path)).tasks.values() if task.run != "depth"
    } == {None}
    plan.unlink()
    zero.unlink()


def test_hold_out_answers_and_a_reference_of_a_plan_are_those_of_behave(here: Path, tmp_path: Path) -> None:
    beside = 'reference = "models/m3"\nreference_kind = "before"\n'
    text = PLAN.replace('"compare", "behave", "probe"', '"behave", "audit", "attack"').replace("models/*", "models/m1")
    text = text.replace('["b.txt", "d.txt"]', '"b.txt"\nholdout = "held.jsonl"')
    text = text.replace('policy = "lax.toml"\n', beside)
    plan, held, keys = here / "beside.toml", here / "held.jsonl", list[str]()

    def tasks_of(said: str) -> dict[str, Task]:
        plan.write_text(said)
        return {task.run: task for task in jobs(read_plan(plan), Cache(tmp_path)).tasks.values()}

    held.write_text('{"question": "who", "answer": "red wool"}')
    first = tasks_of(text)
    for run in ("behave", "audit"):
        spec = first[run].spec.behave if run == "audit" else first[run].spec
        assert (spec.holdout, spec.reference, spec.reference_kind) == (held, str(here / "models" / "m3"), "before")
    others = [
        tasks_of(text.replace("models/m3", "models/m2")),
        tasks_of(text.replace('"before"', '"retrained"')),
        tasks_of(text.replace(beside, "")),
        tasks_of(text.replace('holdout = "held.jsonl"\n', "")),
    ]
    held.write_text('{"question": "who", "answer": "red tin"}')
    others.append(tasks_of(text))
    for run in ("behave", "audit"):
        keys = [tasks[run].key for tasks in (first, *others)]
        assert len({*keys}) == 6, run
    # Attacks know of no hold-out answers.
    assert others[3]["attack"].key == others[4]["attack"].key == first["attack"].key
    # General questions are asked of the two alone.
    assert tasks_of(text.replace('questions = "b.txt"\nholdout = "held.jsonl"\n', ""))["behave"].spec.reference == ""
    plan.unlink()
    held.unlink()


def test_depth_and_an_audit_beside_a_reference_are_those_of_the_commands(
    ckdiff: Run, here: Path, tmp_path: Path
) -> None:
    beside = 'reference = "models/m3"\nreference_kind = "retrained"\n[audit]\ntiers = [0]\n'
    text = PLAN.replace('"compare", "behave", "probe"', '"audit", "depth"').replace("models/*", "models/m1")
    text = text.replace('["b.txt", "d.txt"]', '"b.txt"').replace('policy = "lax.toml"\n', beside)
    plan, output = here / "deep.toml", tmp_path / "alone.h5"
    plan.write_text(text)
    tasks = jobs(read_plan(plan), Cache(tmp_path)).tasks
    audit, depth = (task.spec for task in tasks.values())
    assert (audit.tiers, audit.reference, audit.reference_kind) == ((0,), depth.reference, "retrained")
    status, _, err = ckdiff("campaign", plan, "--plan")
    assert status == 0, err
    assert ckdiff("campaign", plan, "-o", tmp_path / "r", "--engine", "inline", "--quiet")[0] == 0
    one, other = (found.report for found in read_results([tmp_path / "r"]).found)
    assert one is not None
    assert other is not None
    options = ("-Q", "b.txt", "--tokens", 4, "--device", "cpu", "--threads", 1)
    sides = (here / "base", here / "models" / "m1", "--reference", here / "models" / "m3")
    assert ckdiff("depth", *sides, *options, "--reference-kind", "retrained", "-o", output)[0] == 0
    assert other.read_bytes() == output.read_bytes()
    judged, deep = read_report(one), read_report(other)
    assert judged.attack is not None
    assert judged.depth is not None
    assert deep.depth is not None
    assert check(judged).found == []
    assert judged.attack.reference_digest == judged.depth.reference_digest == deep.depth.reference_digest != ""
    assert judged.behaviour is not None
    assert judged.behaviour.reference is not None
    assert judged.behaviour.reference.digest == deep.depth.reference_digest
    assert judged.behaviour.reference.kind == "retrained"
    assert ckdiff("gather", tmp_path / "r", "-o", tmp_path / "g.h5", "--format", "json")[0] in (0, 3)
    keys = [*tasks]
    for change in ("[0]", "[1]"), ("models/m3", "models/m2"), ('"retrained"', '"before"'), ("tokens = 4", "tokens = 5"):
        plan.write_text(text.replace(*change))
        keys += jobs(read_plan(plan), Cache(tmp_path)).tasks
    # The tiers change nothing of the depth.
    assert len(set(keys)) == 2 * 5 - 1
    plan.unlink()


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_the_same_bytes(
    ckdiff: Run, reference: tuple[Path, bytes], here: Path, tmp_path: Path, warm_python: str, workers: int
) -> None:
    results = lose_some(reference[0], tmp_path / "results")
    status, _, err = ckdiff("campaign", "plan.toml", "-o", results, "--workers", workers)
    assert (status, "(3 in this run)" in err) == (0, True)
    assert bytes_of(ckdiff, tmp_path / "campaign.h5", results) == reference[1]


def test_three_shards_in_three_places_or_in_one_give_the_same_bytes(
    ckdiff: Run, reference: tuple[Path, bytes], here: Path, tmp_path: Path
) -> None:
    apart = [tmp_path / f"shard{number}" for number in (1, 2, 3)]
    for number, folder in enumerate(apart, 1):
        assert ckdiff("campaign", "plan.toml", "-o", folder, "--shard", f"{number}/3")[0] == 0
        # In one place each finds what it had already done, but for one job, beside what the others do.
        one = lose_some(folder, tmp_path / f"some{number}", runs=["probe"])
        shutil.copytree(one, tmp_path / "one", dirs_exist_ok=True)
        assert ckdiff("campaign", "plan.toml", "-o", tmp_path / "one", "--shard", f"{number}/3")[0] == 0
    assert bytes_of(ckdiff, tmp_path / "a.h5", *apart[::-1]) == reference[1]
    assert bytes_of(ckdiff, tmp_path / "c.h5", tmp_path / "one") == reference[1]
    status, out, _ = ckdiff("gather", apart[0], apart[2], "-o", tmp_path / "d.h5")
    assert status == 3
    assert "not run" in out


def test_a_run_that_is_killed_again_and_again_gives_the_same_bytes(
    ckdiff: Run, reference: tuple[Path, bytes], here: Path, tmp_path: Path, warm_python: str
) -> None:
    results, chance = lose_some(reference[0], tmp_path / "results", 2), random.Random(6)
    kills = int(os.environ.get("CKDIFF_CAMPAIGN_KILLS", "2"))
    for _ in range(kills):
        given = command("plan.toml", "-o", results, "-q", python=warm_python)
        process = subprocess.Popen(given, cwd=here, stdout=subprocess.PIPE)
        before = len(list(results.glob("jobs/*.h5")))
        # A moment that is random, and in which something may be in flight: from a job's start to a few jobs later.
        wanted, deadline = before + chance.randint(0, 2), time.monotonic() + 60
        while process.poll() is None and len(list(results.glob("jobs/*.h5"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.random() * (4 if before == wanted else 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)  # the pipe is closed once the last process that holds it is gone
    assert ckdiff("campaign", "plan.toml", "-o", results)[0] == 0
    assert bytes_of(ckdiff, tmp_path / "campaign.h5", results) == reference[1]


def test_what_is_done_is_not_done_again(ckdiff: Run, reference: tuple[Path, bytes], here: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(reference[0], results)
    before = {path: path.stat().st_mtime_ns for path in results.glob("jobs/*")}
    status, _, err = ckdiff("campaign", "plan.toml", "-o", results)
    assert (status, f"{JOBS} of {JOBS} jobs done (0 in this run)" in err) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in results.glob("jobs/*")} == before


def test_what_changes_is_done_again_and_nothing_else(
    ckdiff: Run, reference: tuple[Path, bytes], field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(field, tmp_path / "field")
    shutil.copytree(reference[0], tmp_path / "results")
    monkeypatch.chdir(tmp_path / "field")
    file = Path("models/m1/model.safetensors")
    tensors = load_file(file)
    name = next(iter(tensors))
    tensors[name] = tensors[name] * 1.5
    save_file(tensors, file, {"format": "pt"})
    Path("d.txt").write_text("\n".join((*ASKED, "who sold Oskary")))
    status, _, err = ckdiff("campaign", "plan.toml", "-o", tmp_path / "results", "--engine", "inline")
    # All of the first model, and of the other two what asks d.txt.
    assert (status, f"({1 + 2 + 2 + 2 * 2} in this run)" in err) == (0, True)


# ------------------------------------------------------------------------------------------------------------- faults


def test_a_pair_that_is_corrupt_says_why_and_the_rest_is_done(
    ckdiff: Run, reference: tuple[Path, bytes], field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(field, tmp_path / "field")
    monkeypatch.chdir(tmp_path / "field")
    lose_some(reference[0], Path("plan"), len(MODELS))
    file = Path("models/m2/model.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    status, _, err = ckdiff("campaign", "plan.toml", "--engine", "inline")
    assert status == 3
    assert "m2, b, probe: " in err
    assert "truncated" in err or "bytes" in err
    assert f"{JOBS * 2 // 3} of {JOBS} jobs done" in err
    assert ckdiff("gather", "plan", "-o", "campaign.h5")[0] == 3
    found = read_campaign("campaign.h5")
    assert {job.state for job in found.jobs if job.pair == "m2"} == {"failed"}
    assert {job.state for job in found.jobs if job.pair != "m2"} == {"done"}
    assert not found.complete
    # Mended, it is done without being asked to.
    shutil.copy(field / "models/m2/model.safetensors", file)
    assert ckdiff("campaign", "plan.toml", "--engine", "inline")[0] == 0
    assert ckdiff("gather", "plan", "-o", "campaign.h5")[0] == 0


def test_a_job_that_wants_more_memory_than_the_plan_gives_says_so(ckdiff: Run, here: Path, tmp_path: Path) -> None:
    plan = here / "small.toml"
    plan.write_text(PLAN.replace('name = "many"', 'name = "small"') + "[resources]\nmemory = 1000\n")
    status, _, err = ckdiff("campaign", plan, "-o", tmp_path / "r", "--engine", "inline")
    assert status == 3
    # Comparing takes no such memory.
    assert f"{len(MODELS)} of {JOBS} jobs done" in err
    assert "memory are needed" in err
    assert "[resources]" in err
    # What failed is left alone, until somebody asks for it.
    status, _, err = ckdiff("campaign", plan, "-o", tmp_path / "r", "--engine", "inline")
    assert (status, "(0 in this run)" in err, "--retry" in err) == (3, True, True)
    assert (
        f"({JOBS - len(MODELS)} in this run)"
        in ckdiff("campaign", plan, "-o", tmp_path / "r", "--engine", "inline", "--retry")[2]
    )


def test_a_disk_that_is_full_costs_the_jobs_that_found_it_full(
    ckdiff: Run, reference: tuple[Path, bytes], here: Path, tmp_path: Path, warm: Path
) -> None:
    import resource

    results = lose_some(reference[0], tmp_path / "results")
    # Reports here are larger than what a file may have: the nearest to a full disk that needs no rights.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY));"
        "from ckdiff.cli.app import run; sys.exit(run(sys.argv[1:]))"
    )
    assert resource.RLIMIT_FSIZE is not None
    words = [str(warm / "python"), "-c", code, "campaign", "plan.toml", "-o", str(results), "--engine", "inline"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=here, check=False)
    assert done.returncode == 3, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(results.glob("jobs/.*.tmp"))
    assert ckdiff("campaign", "plan.toml", "-o", results, "--engine", "inline", "--retry")[0] == 0


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(ckdiff: Run, here: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    process = subprocess.Popen(
        command("plan.toml", "-o", results, "--workers", 1), cwd=here, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(results.glob("jobs/*.h5")):
        time.sleep(0.02)
    status, out, _ = ckdiff("campaign", "plan.toml", "-o", results, "--status")
    assert status == 0
    assert "many: running" in out
    # Nobody else does the same jobs meanwhile.
    status, _, err = ckdiff("campaign", "plan.toml", "-o", results)
    assert (status, "running already" in err) == (2, True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert "many: not running" in ckdiff("campaign", "plan.toml", "-o", results, "--status")[1]
    assert not list((results / "running").glob("*.json"))
    assert 0 < len(list(results.glob("jobs/*.h5"))) < JOBS


# --------------------------------------------------------------------------------------------------- plan and status


def test_plan_lists_jobs_and_starts_nothing(
    ckdiff: Run, here: Path, reference: tuple[Path, bytes], tmp_path: Path
) -> None:
    status, out, err = ckdiff("campaign", "plan.toml", "-o", tmp_path / "none", "--plan")
    assert (status, err) == (0, "")
    assert len(re.findall(r", probe: to do", out)) == len(MODELS) * 2
    assert not (tmp_path / "none").exists()
    status, out, _ = ckdiff("campaign", "plan.toml", "-o", reference[0], "--plan")
    assert status == 0
    assert len(re.findall(r": done$", out, re.MULTILINE)) == JOBS
    assert f"{JOBS} done, 0 to do" in out


def test_status_tells_what_is_done(ckdiff: Run, here: Path, reference: tuple[Path, bytes]) -> None:
    status, out, _ = ckdiff("campaign", "plan.toml", "-o", reference[0], "--status")
    assert status == 0
    assert f"done      {JOBS} of {JOBS}" in out
    assert "running   0" in out


def test_show_figure_and_page_take_a_campaign(
    ckdiff: Run, here: Path, reference: tuple[Path, bytes], tmp_path: Path
) -> None:
    report = tmp_path / "campaign.h5"
    report.write_bytes(reference[1])
    status, out, _ = ckdiff("show", report)
    assert status == 0
    assert "m3" in out
    tree = json.loads(ckdiff("show", report, "--format", "json")[1])
    assert [pair["name"] for pair in tree["pairs"]] == list(MODELS)
    assert ckdiff("figure", report, "-o", tmp_path / "f.svg")[0] == 0
    assert ckdiff("html", report, "-o", tmp_path / "f.html")[0] == 0
    for words in (("gate", report), ("verify", report), ("compare", "base", "models/m1", "-o", report)):
        status, _, err = ckdiff(*words)
        assert status == 2
        assert len(err.strip().splitlines()) == 1


def test_gather_writes_the_report_of_each_pair(
    ckdiff: Run, here: Path, reference: tuple[Path, bytes], tmp_path: Path
) -> None:
    assert ckdiff("gather", reference[0], "-o", tmp_path / "c.h5", "--reports", tmp_path / "all")[0] == 0
    found = sorted((tmp_path / "all").glob("*.h5"))
    assert len(found) == len(MODELS) * 2
    one = read_report(found[0])
    assert None not in (one.compare, one.behaviour, one.probe, one.verdict)


# ----------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_starts_nothing(ckdiff: Run, here: Path, reference: tuple[Path, bytes], tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(
        (here / "plan.toml").read_text().replace('"many"', '"others"').replace('"models', f'"{here}/models')
    )
    text = other.read_text().replace('base = "base"', f'base = "{here}/base"').replace("lax.toml", f"{here}/lax.toml")
    for name in ("b", "d", "questions"):
        text = text.replace(f'"{name}.txt"', f'"{here}/{name}.txt"')
    other.write_text(text)
    newer, foreign, file = tmp_path / "newer", tmp_path / "foreign", tmp_path / "file"
    shutil.copytree(reference[0], newer)
    tree = json.loads((newer / "campaign.json").read_text())
    (newer / "campaign.json").write_text(json.dumps(tree | {"schema_version": 99, "ckdiff": "9.9"}))
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    file.write_text("")
    for words, said in (
        ((other, "-o", reference[0]), "of plan 'many', not of 'others'"),
        (("plan.toml", "-o", newer), "schema 99"),
        (("plan.toml", "-o", foreign), "something else"),
        (("plan.toml", "-o", file), "no directory"),
        (("plan.toml", "--engine", "slurm"), "--engine"),
        (("plan.toml", "--shard", "4/3"), "--shard"),
        (("plan.toml", "--address", "h:1"), "--engine ray"),
        (("none.toml",), "none.toml"),
    ):
        status, out, err = ckdiff("campaign", *words)
        assert (status, out) == (2, "")
        assert said in err
        assert len(err.strip().splitlines()) == 1
    assert (foreign / "thesis.txt").read_text() == "mine"
    assert sorted(path.name for path in foreign.iterdir()) == ["thesis.txt"]


def test_a_report_that_was_edited_by_hand_is_refused(
    ckdiff: Run, here: Path, reference: tuple[Path, bytes], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(reference[0], results)
    report = next(one.report for one in read_results([results]).found if one.slot.run == "probe")
    assert report is not None
    content = bytearray(report.read_bytes())
    content[len(content) // 2] ^= 1
    report.write_bytes(content)
    for words in (("campaign", "plan.toml", "-o", results), ("gather", results, "-o", tmp_path / "c.h5")):
        status, _, err = ckdiff(*words)
        assert (status, len(err.strip().splitlines())) == (2, 1)
        assert report.name in err
    assert not (tmp_path / "c.h5").exists()


def test_the_report_of_another_job_is_refused(
    ckdiff: Run, here: Path, reference: tuple[Path, bytes], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(reference[0], results)
    found = [one.report for one in read_results([results]).found if one.slot.run == "compare"]
    assert found[0] is not None
    assert found[1] is not None
    shutil.copy(found[0], found[1])
    status, _, err = ckdiff("gather", results, "-o", tmp_path / "c.h5")
    assert status == 2
    assert found[1].name in err


def test_every_kind_of_job_has_a_weight() -> None:
    assert set(WEIGHTS) == set(WORK)


def test_a_damaged_record_counts_as_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "jobs").mkdir()
    values: list[Any] = ["", "{}", '{"key": 3, "state": "done"}', '{"key": "a", "state": "great"}', "[1]"]
    for text in values:
        (tmp_path / "jobs" / "a.json").write_text(text)
        assert store.outcome("a") is None


def test_what_was_left_half_written_goes_when_nobody_can_be_at_it(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    old, new, report = (tmp_path / "jobs" / name for name in (".a.h5.0000.tmp", ".b.h5.0000.tmp", "c.h5"))
    for path in (old, new, report):
        path.write_bytes(b"half")
    for path in (old, report):
        os.utime(path, (1, 1))
    Store(tmp_path).tidy()
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == [".b.h5.0000.tmp", "c.h5"]
