"""What each command imports, in milliseconds of CPU time: `python benchmarks/starting.py [COMMAND ...]`.

    python benchmarks/starting.py                 # every command of the table, on the demo's pair
    python benchmarks/starting.py probe audit     # these

Every command is run in a new Python, and each module that it loads is timed by itself, without those that it imports
in turn: its own code, compiled beforehand, and what the system does for it. A module counts under its package; "others"
are the standard library and what is not named. Beside it stands all that the process took, its end included. CPU time
of all threads, so that a loaded machine changes little; the least of some runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import wraps
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
PAIR = ("pair/base", "pair/unlearned")
ASKED = (*PAIR, "--questions", "pair/target.jsonl", "--device", "cpu", "--threads", "1", "-o", "new.h5", "--overwrite")
COMMANDS: dict[str, tuple[str, ...]] = {
    "--version": (),
    "inspect": ("pair/base",),
    "compare": (*PAIR, "-o", "new.h5", "--overwrite"),
    "behave": (*ASKED, "--no-neutral", "--most-unrelated", "1"),
    "probe": (*ASKED, "--window", "1", "--mode", "coeff", "--variant", "open", "--direction", "restore"),
    "attack": (*ASKED, "--attack", "prune", "--most-unrelated", "2"),
    "audit": (*ASKED, "--window", "1", "--mode", "coeff", "--no-neutral", "--most-unrelated", "1"),
    "show": ("pair/ckdiff.h5",),
    "gate": ("pair/ckdiff.h5",),
    "verify": ("pair/ckdiff.h5",),
    "figure": ("pair/ckdiff.h5", "-o", "figure.svg"),
    "html": ("pair/ckdiff.h5", "-o", "page.html"),
}
"""Each as small as it can be asked for, so that starting is most of it."""
NAMED = ("torch", "transformers", "numpy", "h5py", "sympy", "ckdiff")


def time_imports(own: dict[str, float]) -> None:
    """Count from now on the seconds that each package's modules take by themselves."""
    inner = [0.0]

    def timed(load: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        @wraps(load)
        def loaded(loader: Any, module: Any) -> Any:
            start = time.process_time()
            inner.append(0.0)
            try:
                return load(loader, module)
            finally:
                spent = time.process_time() - start
                own[loader.name.partition(".")[0]] += spent - inner.pop()
                inner[-1] += spent

        return loaded

    for kind in (SourceFileLoader, ExtensionFileLoader):
        for step in ("create_module", "exec_module"):
            setattr(kind, step, timed(getattr(kind, step)))


def watch(place: Path, words: list[str]) -> int:
    """Run a command and write down what it imported."""
    own: dict[str, float] = defaultdict(float)
    time_imports(own)
    from ckdiff.cli.app import run

    status = run(words)
    place.write_text(json.dumps({"own": own, "all": time.process_time()}), encoding="utf-8")
    return status


def measure(command: str, folder: Path) -> tuple[dict[str, float], float]:
    """Milliseconds by package, and of the whole process."""
    place = folder / "found.json"
    call = [sys.executable, __file__, "--watch", str(place), command, *COMMANDS[command]]
    done = subprocess.run(call, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"{command}: {done.stderr}")
    found = json.loads(place.read_text(encoding="utf-8"))
    return {name: 1e3 * seconds for name, seconds in found["own"].items()}, 1e3 * found["all"]


def environment() -> dict[str, str]:
    """One thread, and modules that are compiled once."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def row(command: str, own: dict[str, float], whole: float) -> str:
    """One line of the table."""
    named = [own.get(name, 0.0) for name in NAMED]
    imported = sum(own.values())
    return f"{command:10}" + "".join(f"{one:13.0f}" for one in (*named, imported - sum(named), imported, whole))


def main() -> int:
    if sys.argv[1:2] == ["--watch"]:
        return watch(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(description="What each command imports, in milliseconds of CPU time.")
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"of {', '.join(COMMANDS)} (default: all)")
    parser.add_argument("--runs", type=int, default=3, help="the least of so many (default: 3)")
    options = parser.parse_args()
    if unknown := set(options.commands) - COMMANDS.keys():
        parser.error(f"no command of the table: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo = [sys.executable, "-m", "ckdiff", "demo", "pair", "--quiet"]
        subprocess.run(demo, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
        print(f"{'ms':10}" + "".join(f"{one:>13}" for one in (*NAMED, "others", "imported", "process")))
        for command in options.commands or COMMANDS:
            found = [measure(command, folder) for _ in range(options.runs)]
            print(row(command, *min(found, key=lambda one: sum(one[0].values()))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
