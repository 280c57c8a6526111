"""Commands that are killed, or have no room: what they leave is whole, and gone after the next run.

  python benchmarks/kills.py WORK [--kills 1000] [--seed 0] [--cases compare,gate,...]
  python benchmarks/kills.py WORK --full

A copy of one process runs each command, so that a run costs no import. Half of the kills (SIGKILL, to the command and
all that it began) come at a moment of its own run time, the others just before one of its own openings for writing,
moves and removals. After each, every file is as it was before, as an undisturbed run leaves it, or can be read; after
four of them the command runs to its end, and nothing lies there that an undisturbed run does not leave. Each kill is a
line in WORK/kills.jsonl, from where a later call goes on. Where a campaign has processes for its jobs every third kill
is of one of these; when it is killed itself, they are to end on their own within `SECONDS_ALONE`.

With `--full` each command runs on a small disk (tmpfs, mounted by root) with room for nothing, for a part of what it
writes, and for all: it ends with one line and a status of its own, and leaves nothing half-written. Then there is room,
the command runs to its end, and nothing lies there that an undisturbed run does not leave.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
ROUND = 4
"""Kills before the command runs to its end."""
PATIENCE = 300
SECONDS_ALONE = 90.0
"""For processes whose command was killed: they end by themselves."""
OWN = "CKDIFF_KILLS"
"""A variable in the environment of what a command begins."""
JOB = b"ckdiff.campaign.engines.job"
STATUSES = (0, 1, 2, 3)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
ACTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.symlink")


# ---------------------------------------------------------------------------------------------------------------- runs


def start(words: list[str], folder: Path, event: int) -> int:
    """A copy of this process that runs a command in a folder, and dies before its so-many-th change of a file."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    os.chdir(folder)
    sink = os.open(folder.parent.parent / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.environ.update({"TMPDIR": str(folder.parent / "tmp"), OWN: str(folder), "PYTHONPATH": str(ROOT)})
    status = 4
    try:
        _watch(folder.parent, event)
        from ckdiff.cli.app import run

        status = run(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch(place: Path, event: int) -> None:
    """Count the changes of files in `place`, and end all of this command before one of them."""
    seen, own = [0], os.getpid()

    def hook(name: str, given: tuple[Any, ...]) -> None:
        is_write = name == "open" and isinstance(given[2], int) and given[2] & WRITES
        if not (is_write or name in ACTS) or os.getpid() != own or str(place) not in os.path.abspath(str(given[0])):
            return
        seen[0] += 1
        if seen[0] == event:
            os.killpg(0, signal.SIGKILL)
        if not event:
            os.pwrite(COUNT, seen[0].to_bytes(8, "little"), 0)

    sys.addaudithook(hook)


COUNT = os.memfd_create("events") if hasattr(os, "memfd_create") else -1


def wait(child: int, seconds: float) -> int | None:
    """The status of a command, or None where it had to be killed after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    _end(child)
    return None


def begun(folder: Path) -> dict[int, bytes]:
    """What a command has begun and still runs: process numbers with their words."""
    mark, found = f"{OWN}={folder}".encode(), {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (
                mark in (entry / "environ").read_bytes().split(b"\0")
                and b"\nState:\tZ" not in (entry / "status").read_bytes()
            ):
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def alone_too_long(folder: Path) -> list[str]:
    """Wait for what a killed command had begun; what does not end by itself is named and ended."""
    end = time.monotonic() + SECONDS_ALONE
    while (left := begun(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return [words.replace(b"\0", b" ").decode(errors="replace")[:100] for words in left.values()]


def kill_a_job(folder: Path, child: int, seconds: float) -> bool:
    """Kill one of the processes in which a campaign does its jobs, after so much time; whether there was one."""
    time.sleep(seconds)
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for process, words in begun(folder).items():
            if JOB in words:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                return True
        time.sleep(0.01)
    return False


def _end(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


# --------------------------------------------------------------------------------------------------------------- cases


def undisturbed(case: Any, place: Path) -> dict[str, Any]:
    """How long a command takes, how many changes of files it makes, and what it leaves."""
    folder = fresh(case, place)
    before = contents(folder)
    os.pwrite(COUNT, bytes(8), 0)
    began = time.monotonic()
    status = wait(start(case.words, folder, 0), PATIENCE)
    seconds = time.monotonic() - began
    if status not in (0, 1, 3):
        raise SystemExit(f"{case.name}: {status}: {(place / 'said').read_text()[-2000:]}")
    events = int.from_bytes(os.pread(COUNT, 8, 0), "little")
    return {"seconds": seconds, "events": events, "before": before, "after": contents(folder), "status": status}


def fresh(case: Any, place: Path) -> Path:
    """A new folder with what the command needs."""
    folder = place / "here"
    for path in (folder, place / "tmp"):
        shutil.rmtree(path, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    shutil.copytree(case.folder, folder, symlinks=True)
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Digests by name of every file of a folder, and of the place for temporary ones."""
    found = {}
    for path in [*folder.rglob("*"), *(folder.parent / "tmp").rglob("*")]:
        name = str(path.relative_to(folder.parent))
        try:
            whole = path.is_symlink() or path.is_dir()
            found[name] = "" if whole else hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            continue
    return found


def broken(folder: Path, plain: dict[str, Any]) -> list[str]:
    """Files that are neither as before nor as after an undisturbed run, and that cannot be read."""
    found = []
    for name, digest in contents(folder).items():
        path = folder.parent / name
        hidden = any(part.startswith(".") or part.endswith((".tmp", ".parts")) for part in Path(name).parts[1:])
        known = digest in (plain["before"].get(name), plain["after"].get(name))
        if not (hidden or known or not digest or name.startswith("tmp/") or _is_whole(path)):
            found.append(name)
    return found


def _is_whole(path: Path) -> bool:
    from ckdiff.report.hdf5.file import read_any
    from ckdiff.weights.headers import read_shard

    try:
        if path.suffix == ".h5":
            read_any(path)
        elif path.suffix in (".json", ".sig"):
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                json.loads(line)
        elif path.suffix == ".safetensors":
            read_shard(path)
        elif path.suffix in (".pem", ".pub"):
            return path.read_text().rstrip().endswith("KEY-----")
        else:
            return path.suffix in (".log", ".partial") or path.name.startswith("events")
    except Exception:
        return False
    return True


def leftovers(folder: Path, plain: dict[str, Any]) -> list[str]:
    """Names that an undisturbed run does not leave; a log is one of a run."""
    return sorted(name for name in contents(folder) if name not in plain["after"] and not name.endswith(".log"))


# --------------------------------------------------------------------------------------------------------------- kills


def kill_often(case: Any, place: Path, chance: random.Random, most: int, lines: Any) -> Counter[str]:
    """Kill a command again and again."""
    plain = undisturbed(case, place)
    total: Counter[str] = Counter()
    folder = fresh(case, place)
    for number in range(most):
        row = {"case": case.name, "number": number, **kill_once(case, folder, plain, chance, number)}
        row["alone"] = alone_too_long(folder) if case.jobs else []
        row["broken"] = broken(folder, plain)
        last = number % ROUND == ROUND - 1 or number == most - 1
        if last:
            row["end"] = wait(start([*case.words, *case.again], folder, -1), PATIENCE)
            row["said"] = (place.parent / "said").read_text()[-300:] if row["end"] not in (0, 1, 3) else ""
            row["left"] = leftovers(folder, plain)
        if last or row["status"] in (0, 1, 3):
            folder = fresh(case, place)
        bad = bool(row["broken"] or row["alone"] or row.get("left")) or not _ends_well(row)
        bad = bad or not (row["killed"] or row["status"] in STATUSES)
        total.update({"killed": int(row["killed"]), "faults": int(bad), "runs": 1})
        lines.write(json.dumps(row) + "\n")
        lines.flush()
    return total


def kill_once(case: Any, folder: Path, plain: dict[str, Any], chance: random.Random, number: int) -> dict[str, Any]:
    """Begin a command, and kill it, or one of its jobs: what was killed when, and how it ended."""
    if case.jobs and number % 3 == 2:
        child, moment = start(case.words, folder, -1), chance.uniform(0, 0.6 * plain["seconds"])
        killed = kill_a_job(folder, child, moment)
        return {"job": True, "moment": round(moment, 3), "status": wait(child, PATIENCE), "killed": killed}
    by_event = bool(plain["events"]) and number % 2 == 0
    event = chance.randint(1, plain["events"]) if by_event else 0
    moment = chance.uniform(0, 1.05 * plain["seconds"])
    status = wait(start(case.words, folder, event or -1), PATIENCE if by_event else moment)
    return {
        "event": event,
        "moment": round(moment, 3),
        "status": status,
        "killed": status is None or status == -signal.SIGKILL,
    }


def _ends_well(row: dict[str, Any]) -> bool:
    """Whether a run after kills came to its end, or says that all is there, which it may not replace."""
    said = row.get("said", "")
    return row.get("end", 0) in (0, 1, 3) or any(words in said for words in ("is there already", "exists"))


def fill_up(case: Any, place: Path) -> list[str]:
    """Run a command on a disk that becomes full, in some places; what is wrong with how it ended."""
    plain = undisturbed(case, place)
    need = sum(_room(place / name) for name, one in plain["after"].items() if plain["before"].get(name) != one)
    wrong, statuses = [], []
    for room in sorted({0, 1, need // 8, need // 4, need // 2, need - 1, need}):
        with _small_disk(case, place, room) as folder:
            status = wait(start(case.words, folder, -1), PATIENCE)
            said = (place.parent / "said").read_text(errors="replace")
            faults = [f"broken: {name}" for name in broken(folder, plain)]
            rows = [line for line in said.splitlines() if line.startswith("ckdiff: ")]
            if status not in STATUSES or "Traceback" in said or (status == 2 and len(rows) != 1):
                faults.append(f"status {status}: {said[-300:]}")
            _resize(place, 1 << 30)
            if (end := wait(start([*case.words, *case.again], folder, -1), PATIENCE)) not in (0, 1, 3):
                said = (place.parent / "said").read_text(errors="replace")
                faults += [] if _ends_well({"end": end, "said": said}) else [f"then {end}: {said[-300:]}"]
            faults += [f"left: {name}" for name in leftovers(folder, plain)]
            wrong += [f"{room * PAGE} bytes left: {one}" for one in faults]
            statuses.append(status)
    return wrong or [f"statuses {' '.join(map(str, statuses))}"]


PAGE = 4096


def _room(path: Path) -> int:
    """Pages of a small disk that a file takes."""
    return -(-path.stat().st_size // PAGE) + 1 if path.is_file() else 1


@contextlib.contextmanager
def _small_disk(case: Any, place: Path, room: int) -> Iterator[Path]:
    """The folder of a command on a disk of its own with so many pages left; who mounts it must be root."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1G", "tmpfs", str(place)], check=True)
    try:
        folder = fresh(case, place)
        found = os.statvfs(place)
        # Of no size at all it would have room for everything.
        _resize(place, max(PAGE, (found.f_blocks - found.f_bfree) * found.f_frsize + room * PAGE))
        yield folder
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _resize(place: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", default="", help="some only, by name, with commas between")
    parser.add_argument("--full", action="store_true", help="a disk without room, instead of kills")
    given = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    from kills_cases import make_cases

    from tests.warm import import_all

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import_all()
    given.work.mkdir(parents=True, exist_ok=True)
    cases = make_cases(given.work.resolve() / "world")
    names = given.cases.split(",") if given.cases else list(cases)
    whole, faults = sum(one.weight for one in cases.values()), 0
    done_before = _done(given.work / "kills.jsonl")
    for name in names:
        case, place = cases[name], given.work.resolve() / "place"
        if given.full:
            wrong = fill_up(case, place)
            faults += not wrong[0].startswith("statuses")
            sys.stdout.write(f"{name:14}{'; '.join(wrong)}\n")
        else:
            most = max(1, round(given.kills * case.weight / whole)) - done_before[name]
            with (given.work / "kills.jsonl").open("a") as lines:
                chance = random.Random(f"{given.seed} {name} {done_before[name]}")
                total = kill_often(case, place, chance, most, lines) if most > 0 else Counter()
            faults += total["faults"]
            sys.stdout.write(f"{name:14}{total['runs']:5} runs, {total['killed']:4} killed, {total['faults']} faults\n")
        sys.stdout.flush()
    return 1 if faults else 0


def _done(path: Path) -> Counter[str]:
    rows = path.read_text().splitlines() if path.exists() else []
    return Counter(json.loads(row)["case"] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
