"""Does the built wheel hold everything, and run its demo where no checkout is? `python benchmarks/wheel.py`.

It builds the wheel, makes an environment of its own with what the wheel asks for, and runs `ckdiff demo`, a page, a
figure and a verification there, in an empty directory. `--borrow` takes what the wheel asks for from this interpreter,
so that nothing but the build's own tools is downloaded. CI does the same once in `examples/quickstart`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMANDS = (
    ("demo", "pair", "--quiet"),
    ("html", "pair/ckdiff.h5", "--output", "page.html"),
    ("figure", "pair/ckdiff.h5", "--output", "probe.svg"),
    ("verify", "pair/ckdiff.h5", "--base", "pair/base", "--unlearned", "pair/unlearned"),
)


def lacking(wheel: Path) -> list[str]:
    """Files of the package that a wheel lacks."""
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ckdiff").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as file:
        return sorted(package - {*file.namelist()})


def build(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("ckdiff-*.whl")
    return wheel


def install(wheel: Path, folder: Path, borrow: bool) -> Path:
    """A new environment with the wheel in it; its `ckdiff`."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    wanted = ["--no-deps", str(wheel)] if borrow else [f"{wheel}[unlearn]"]
    constraint = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *constraint, *wanted], check=True)
    if borrow:
        site = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        # Behind its own: what is borrowed hides nothing of the wheel.
        (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "ckdiff"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--borrow", action="store_true", help="take what it depends on from this interpreter")
    borrow = parser.parse_args().borrow
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        wheel = build(place / "wheels")
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB", flush=True)
        if missing := lacking(wheel):
            print(f"lacks {', '.join(missing)}")
            return 1
        command = install(wheel, place / "venv", borrow)
        work = place / "work"
        work.mkdir()
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        for words in COMMANDS:
            run = subprocess.run(
                [command, *words],
                cwd=work,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            print(f"ckdiff {' '.join(words)}: exit status {run.returncode}", flush=True)
            if run.returncode:
                print(run.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
