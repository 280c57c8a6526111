"""What could hang on a processor's last digits, run on other processors than this one, as far as one can play them.

    python benchmarks/processors.py                  # every combination, three seeds
    python benchmarks/processors.py --quick          # one combination, one seed, fewer tests: `.ci/check`
    python benchmarks/processors.py --seeds 0 -- tests/test_sweep.py -k isolated

The tests are those marked `rounding`: trainings that are judged, the demo with its verdict, and what is asserted to be
exact. A combination sets what chooses the kernels of torch, oneDNN, MKL and OpenBLAS, and the number of threads; those
that this processor does not have are left out. Exit status 1: a test failed somewhere.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent.parent
FILES = ("unlearn", "demo", "neurons", "losses", "sweep")
TESTS = ["-m", "rounding", *(f"tests/test_{name}.py" for name in FILES)]
FEW = "lost_one_town or suppressed or sgd or accumulated or (put_back_as_hooks and break)"
LEVELS = ("DEFAULT", "AVX2", "AVX512")
"""As torch calls them, each able to play those before it."""


class Combination(NamedTuple):
    """Instruction sets, by library, and threads."""

    name: str
    level: str
    threads: int
    settings: dict[str, str]


PLAIN = {"ATEN_CPU_CAPABILITY": "default"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
AVX512 = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
COMBINATIONS = (
    Combination("as it is", "DEFAULT", 1, {}),
    Combination("as it is", "DEFAULT", 2, {}),
    Combination("oldest", "DEFAULT", 1, PLAIN | {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}),
    Combination("oldest", "DEFAULT", 2, PLAIN | {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}),
    Combination("plain torch, OpenBLAS of 2008", "DEFAULT", 1, PLAIN | {"OPENBLAS_CORETYPE": "Nehalem"}),
    Combination("AVX2", "AVX2", 1, AVX2 | {"MKL_CBWR": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}),
    Combination("AVX2, strict", "AVX2", 2, AVX2 | {"MKL_CBWR": "AVX2,STRICT", "OPENBLAS_CORETYPE": "Zen"}),
    Combination("AVX-512", "AVX512", 1, AVX512 | {"MKL_CBWR": "AVX512", "OPENBLAS_CORETYPE": "SkylakeX"}),
    Combination("torch AVX-512, MKL compatible", "AVX512", 2, AVX512 | {"MKL_CBWR": "COMPATIBLE"}),
)
QUICK = COMBINATIONS[3:4]
"""Other kernels and another number of threads at once: what hangs on last digits shows in one of them as in nine."""


def play(one: Combination, seed: int, arguments: Sequence[str]) -> tuple[bool, str]:
    """Whether all tests pass, and a row of the table."""
    settings = one.settings | {"OMP_NUM_THREADS": str(one.threads), "CKDIFF_TEST_SEED": str(seed)}
    # Threads that wait in a loop would take the cores from each other.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT), **settings}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT) as tests:
            _, status, used = os.wait4(tests.pid, 0)
            tests.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    seconds = f"{used.ru_utime + used.ru_stime:5.0f}  {time.monotonic() - start:6.0f}"
    outcome = (re.findall(r"^(.*\d+ \w+.*) in [\d.]+s", text, re.MULTILINE) or [text[-300:]])[-1]
    failed = [f"    {line}" for line in re.findall(r"^(?:FAILED|ERROR) .*$", text, re.MULTILINE)]
    row = f"{one.name:30}  {one.threads:7}  {seed:4}  {seconds}  {outcome}"
    return tests.returncode == 0, "\n".join([row, *failed])


def highest() -> int:
    """The place of this processor in `LEVELS`."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    plain = {key: value for key, value in os.environ.items() if key != "ATEN_CPU_CAPABILITY"}
    found = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True)
    name = found.stdout.strip()
    return LEVELS.index(name) if name in LEVELS else 0


def rows(combinations: Sequence[Combination], known: Sequence[str]) -> Iterator[Combination]:
    """Those that this processor has; the others are named."""
    for one in combinations:
        if one.level in known:
            yield one
        else:
            print(f"{one.name:30}  {one.threads:7}  not on this processor, which has {known[-1]}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run tests as other processors would.")
    parser.add_argument("--quick", action="store_true", help="one combination and one seed, a few of the tests")
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the trainings (default: 0 1 2)")
    parser.add_argument("arguments", nargs="*", help="of pytest, after --, in the place of the marked tests")
    options = parser.parse_args()
    seeds = options.seeds or ([0] if options.quick else [0, 1, 2])
    arguments = options.arguments or [*TESTS, *(("-k", FEW) if options.quick else ())]
    print(f"{'':30}  threads  seed  CPU s  wall s")
    chosen = rows(QUICK if options.quick else COMBINATIONS, LEVELS[: highest() + 1])
    jobs = [(one, seed) for one in chosen for seed in seeds]
    good = True
    with ThreadPoolExecutor(options.jobs) as pool:
        for passed, row in pool.map(lambda job: play(job[0], job[1], arguments), jobs):
            print(row, flush=True)
            good = good and passed
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
