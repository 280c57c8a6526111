"""A report that was bent, cut, written over by a killed process, or written by two at once: whole, or refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ckdiff.errors import CkdiffError
from ckdiff.report.hdf5.file import read_report, write_report
from tests.reports import behaviour, comparison, gate, probe, report, run, verdict

FULL = report(comparison(layers=2), probe(questions=2), behaviour(), verdict(gate=gate()))
KILLS = int(os.environ.get("CKDIFF_KILLS", "12"))
"""How many writers are killed; more by hand, as in `CKDIFF_KILLS=100 pytest tests/test_report_damage.py`."""
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "r.h5"
    write_report(FULL, path)
    return path.read_bytes()


def refusal(content: bytes, path: Path) -> str:
    """What is said about a file of these bytes."""
    path.write_bytes(content)
    with pytest.raises(CkdiffError) as raised:
        read_report(path)
    return str(raised.value)


# ---------------------------------------------------------------------------------------------------------- damage


def test_a_flipped_byte_is_refused_wherever_it_is(whole: bytes, tmp_path: Path) -> None:
    """200 places spread evenly, each moved a little at random, and every byte of the seal and of the signature."""
    chance = random.Random(5)
    step = len(whole) // 200
    places = {start + chance.randrange(step) for start in range(0, len(whole) - step, step)}
    places |= {*range(8), *range(len(whole) - 80, len(whole))}
    assert len(places) > 250
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= chance.randrange(1, 256)
        words = refusal(bytes(damaged), tmp_path / "r.h5")
        assert words.startswith(str(tmp_path / "r.h5")), place
        assert words.isprintable(), place


def test_a_report_that_was_cut_or_has_grown_is_refused(whole: bytes, tmp_path: Path) -> None:
    chance = random.Random(6)
    ends = {*range(10), *(chance.randrange(len(whole)) for _ in range(150)), *range(len(whole) - 90, len(whole))}
    for content in [*(whole[:end] for end in sorted(ends)), whole + b"\0", whole + whole]:
        assert refusal(content, tmp_path / "r.h5").isprintable(), len(content)


def test_both_commands_that_read_say_it_in_one_line(whole: bytes, tmp_path: Path, warm: Path) -> None:
    path = tmp_path / "r.h5"
    path.write_bytes(whole[:5000] + b"x" + whole[5001:])
    words = "changed after ckdiff wrote it (checksum); restore a copy or run the comparison again"
    for arguments in (("show", path), ("show", path, "--section", "verdict"), ("show", path, "--format", "json")):
        done = subprocess.run([warm / "ckdiff", *map(str, arguments)], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"ckdiff: {path}: {words}\n")


# ----------------------------------------------------------------------------------------------------- killed writers


WRITER = """
import os, sys
from ckdiff.report.hdf5.file import write_report
from tests.test_report_damage import OLD, NEW

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        while True:
            write_report(NEW, sys.argv[1])
            write_report(OLD, sys.argv[1])
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""
"""Starts, for each line it reads, a process that writes two reports in turn over each other until it is killed."""
OLD = report(comparison(layers=2), None, behaviour(), None)
NEW = report(comparison(layers=2), None, behaviour(), verdict(gate=gate()))


def await_temporary(directory: Path) -> None:
    """Wait until a file is being written beside the report: the moment in which a kill would hurt."""
    for _ in range(20_000):
        if any(directory.glob(".*.tmp")):
            return
        time.sleep(0.0005)
    raise AssertionError("nothing was written")


def test_after_a_kill_the_report_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    """Half of them at any moment, half while a temporary file is there; what a kill leaves of it is no report."""
    path = tmp_path / "r.h5"
    write_report(NEW, path)
    new = path.read_bytes()
    write_report(OLD, path)
    known = {path.read_bytes(): "old", new: "new"}
    assert len(known) == 2
    chance, seen, left = random.Random(7), [], 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        for number in range(KILLS):
            starter.stdin.write("\n")
            starter.stdin.flush()
            writer = int(starter.stdout.readline())
            if number % 2:
                await_temporary(tmp_path)
            time.sleep(chance.uniform(0, 0.002 if number % 2 else 0.4))
            os.kill(writer, signal.SIGKILL)
            assert starter.stdout.readline() == "dead\n"
            content = path.read_bytes()
            assert content in known
            seen.append(known[content])
            read_report(path)
            temporary = [other for other in tmp_path.iterdir() if other != path]
            left += len(temporary)
            for other in temporary:
                assert other.name.startswith(".r.h5."), other.name
                other.unlink()
    print(f"{KILLS} kills: {seen.count('old')} old, {seen.count('new')} new, {left} temporary files left")


# -------------------------------------------------------------------------------------------------------- two writers


MERGER = """
import sys
from pathlib import Path  # noqa: TC003  (Typer reads annotations when the program runs)
from ckdiff.calls.merge import merge_reports
from ckdiff.cli.session import only_writer
from ckdiff.report.hdf5.file import read_report, write_report
from tests.reports import probe, report, run

path, mode = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    found = report(None, probe(runs=(run(mode, f"v{number}"),)))
    with only_writer(path):
        write_report(merge_reports(read_report(path), found), path)
"""
"""Puts runs of one mode into a report, one after the other, as `ckdiff probe` does."""


def test_two_processes_that_write_into_one_report_lose_nothing(tmp_path: Path) -> None:
    path, rounds = tmp_path / "r.h5", 6
    write_report(report(None, probe(runs=(run("values"),))), path)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", MERGER, str(path), mode, str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for mode in ("coeff", "attn")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert (writer.returncode, errors) == (0, "")
    found = read_report(path).probe
    assert found is not None
    wanted = {("values", "open"), *((mode, f"v{number}") for mode in ("coeff", "attn") for number in range(rounds))}
    assert {(one.mode, one.variant) for one in found.runs} == wanted
    assert list(tmp_path.iterdir()) == [path]
