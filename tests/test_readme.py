"""The README's commands run, and its tables say what the code says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ckdiff.errors import ExitStatus
from ckdiff.report.schema.comparison import COMPONENTS
from ckdiff.report.schema.probe import SCORES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAVIGATION = re.findall(r"[\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
"""The pages of docs/, in the order in which they are read."""
PAGES = "\n".join([README, *((ROOT / "docs" / name).read_text(encoding="utf-8") for name in NAVIGATION)])
INSTALLERS = ["./examples/quickstart", "./.ci/check --install"]


NOTEBOOK = """
import ast
names = {}
for cell in CELLS:
    *body, last = ast.parse(cell).body
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    shown = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    if hasattr(shown, "_repr_html_"):
        assert "<table" in shown._repr_html_()
    print(type(shown).__name__)
"""
"""Runs cells in one namespace, and shows the last value of each as a notebook does."""


class Block(NamedTuple):
    info: str
    body: str

    @property
    def runs(self) -> bool:
        return self.info in ("sh", "python")


def blocks(text: str) -> list[Block]:
    return [Block(*match) for match in re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


MADE = re.compile(r"^ckdiff demo (pair|honest --gone)\n", re.MULTILINE)
AUDIT = (
    "ckdiff audit pair/base pair/unlearned --questions pair/target.jsonl --unrelated pair/unrelated.jsonl --window 1"
)
ENDS = " || test $? -eq 1\n"


OUTPUT = re.compile(r"^<!-- output: (.*?) -->\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d.,]*(?:e[-+]?\d+)?")
ELSEWHERE = re.compile(r"/home/you|sha256|\bz \d|\[\.\.\.\]")
"""Paths and digests of one machine, which attack it was that says most, and what an example leaves out."""


def shape_of(text: str) -> str:
    return NUMBER.sub("#", " ".join(text.split()))


def stale_lines(shown: str, said: str) -> list[str]:
    """Lines of an example that a command does not print any more, numbers aside, which are those of one processor."""
    there = shape_of(said)
    return [line for line in shown.splitlines() if not ELSEWHERE.search(line) and shape_of(line) not in there]


def test_an_example_that_is_not_printed_any_more_is_found() -> None:
    said = "GATE FAILED: 2 of 19\nknowledge  still there, by\n           all (z 3.1)\n"
    assert stale_lines("GATE FAILED: 1 of 18\nsha256 ab\nstill there, by all", said) == []
    assert stale_lines("GATE PASSED: 1 of 18\n\nstill  there, by none", said) == [
        "GATE PASSED: 1 of 18",
        "still  there, by none",
    ]


def sharing_an_audit(bodies: list[str]) -> list[str]:
    """The pages audit the demo's pair twice in the same way: the second report is a copy of the first."""
    made, wanted = f"{AUDIT}{ENDS}", f"{AUDIT} --output proof.h5{ENDS}"
    assert [sum(text in body for body in bodies) for text in (made, wanted)] == [1, 1]
    copied = "cp audited.h5 proof.h5\n"
    return [body.replace(made, f"{made}cp ckdiff.h5 audited.h5\n").replace(wanted, copied) for body in bodies]


def test_every_command_runs(tmp_path: Path, warm: Path, demo: Path, honest: Path) -> None:
    # In order and in one place, as a reader would: later blocks use what earlier ones made.
    place = tmp_path / "checkout"
    shutil.copytree(demo, place / "pair")
    shutil.copytree(honest / "pair", place / "honest")
    shutil.copytree(ROOT / "examples", place / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    path = f"{warm}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # Examples are as wide as they are printed there.
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    # Two commands have made their pairs, for all tests.
    given = [block for block in blocks(PAGES) if block.runs]
    runs = [block._replace(body=MADE.sub("", block.body)) for block in given]
    assert sum(one != other for one, other in zip(given, runs, strict=True)) == 2
    runs = [Block(run.info, body) for run, body in zip(runs, sharing_an_audit([run.body for run in runs]), strict=True)]
    assert len(runs) >= 12
    shown, checked = OUTPUT.findall(PAGES), set()
    for info, body in runs:
        command = [str(warm / "python"), "-c", body] if info == "python" else ["bash", "-euo", "pipefail", "-c", body]
        run = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"{body}\n{run.stdout}\n{run.stderr}"
        assert "Traceback" not in run.stderr
        typed = [line.removesuffix(ENDS.rstrip()) for line in body.splitlines()]
        for command, example in shown:
            if command in typed:
                checked.add(command)
                assert stale_lines(example, run.stdout) == []
    assert len(checked) == 3
    notebook = json.loads((place / "examples" / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    command = [str(warm / "python"), "-c", f"CELLS = {cells!r}\n{NOTEBOOK}"]
    run = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["Report", "DataFrame", "DataFrame", "DataFrame", "Probe", "Verdict", "PosixPath"]


def test_only_the_two_installers_are_not_run_here() -> None:
    assert [block.body.strip() for block in blocks(PAGES) if block.info == "sh no-run"] == INSTALLERS
    assert {block.info for block in blocks(README)} <= {"sh", "sh no-run", "python", "text", "bibtex"}


def test_every_page_has_its_place_in_the_site() -> None:
    assert sorted(NAVIGATION) == sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))


def test_the_pages_of_commands_say_what_their_help_says() -> None:
    from tests.command_pages import FOLDER, make_pages

    pages = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert pages == make_pages(), "python -m tests.command_pages writes them"


def test_the_installers_are_what_ci_runs() -> None:
    run = (ROOT / ".ci" / "run").read_text()
    for command in INSTALLERS:
        script = command.removeprefix("./")
        assert f"\nbash {script}\n" in run
        assert os.access(ROOT / script.split()[0], os.X_OK)


def test_no_command_is_promised_that_does_not_exist() -> None:
    from ckdiff.cli.tree import build_app

    known = {command.name or getattr(command.callback, "__name__", "") for command in build_app().registered_commands}
    named = set(re.findall(r"^ckdiff ([a-z]+)", README, re.MULTILINE)) | set(re.findall(r"`ckdiff ([a-z]+)", README))
    assert named == known


def test_every_mode_variant_and_score_is_explained() -> None:
    from ckdiff.modes import DIRECTIONS, MODES, VARIANTS

    for name, row in (MODES | VARIANTS).items():
        assert f"\n| `{name}` | {row.meaning} |\n" in PAGES, name
    for name in DIRECTIONS:
        assert f"`{name}`" in PAGES or f"--direction {name}" in PAGES, name
    for name in (*SCORES, "top1"):
        assert f"\n| `{name}` | " in PAGES, name


def test_the_number_of_architectures_is_that_of_the_table() -> None:
    from ckdiff.weights.architectures import ARCHITECTURES

    said = re.findall(r"; (\d+) types work\.", PAGES)
    assert said == [str(len(ARCHITECTURES))], "docs/limits.md says how many"


def test_every_format_is_named_where_a_campaign_is_shown() -> None:
    from ckdiff.report.formats import FORMATS

    assert f"--format {'|'.join(list(FORMATS)[1:])}" in (ROOT / "docs" / "campaign.md").read_text()


def test_files_that_are_named_exist() -> None:
    """In docstrings and comments, and on the pages that people read."""
    named = re.compile(r"`((?:ckdiff|tests|benchmarks|docs|examples)/[\w./-]+\.\w+)")
    places = [
        *(ROOT / "ckdiff").rglob("*.py"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
    found = {name: place for place in places for name in named.findall(place.read_text(encoding="utf-8"))}
    assert "tests/tiny_families.py" in found
    assert {name: str(place) for name, place in found.items() if not (ROOT / name).exists()} == {}


def test_every_method_of_unlearning_is_explained() -> None:
    from ckdiff.unlearn.recipe import METHOD_NAMES

    for name in METHOD_NAMES:
        assert f"\n| `{name}` | " in PAGES, name


def test_every_verdict_is_explained() -> None:
    from ckdiff.report.schema.verdict import KNOWLEDGE, LABELS

    for label in (*LABELS, *KNOWLEDGE):
        assert f"\n| `{label}` | " in PAGES, label


def test_the_page_about_audits_has_every_rule_and_check_as_they_are() -> None:
    from ckdiff.audit.gate.checks import CHECKS
    from ckdiff.audit.gate.measures import MEASURES
    from ckdiff.audit.gate.policy import parse_policy
    from ckdiff.audit.verdict.rules import RULES

    page = (ROOT / "docs" / "audit.md").read_text()
    for name, rule in RULES.items():
        words = rule.meaning.replace("||", "‖"), rule.reason
        row = f"| `{name}` | {rule.sense.replace('_', ' ')} {rule.threshold:g} | {words[0]} | {words[1]} |"
        assert f"\n{row}\n" in page, row
    for name, check in CHECKS.items():
        assert f"\n| `{name}` | {check.meaning} |\n" in page, name
    for name in MEASURES:
        assert f"`{name}`" in page, name
    (example,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert parse_policy(example, "docs").checks


def test_help_names_every_mode_and_variant() -> None:
    from ckdiff.modes import MODES, VARIANTS

    text = subprocess.run(
        [sys.executable, "-m", "ckdiff", "probe", "--help"],
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in (*MODES, *VARIANTS):
        assert name in text, name


def test_the_tables_name_every_component_and_exit_status() -> None:
    table = PAGES[PAGES.index("| component |") : PAGES.index("Biases go")]
    first_cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    assert re.findall(r"`([a-z_]+)`", " ".join(first_cells)) == list(COMPONENTS)
    for status in ExitStatus:
        assert f"\n| {status.value} | " in PAGES
