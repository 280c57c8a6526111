"""Data sets of the hub, read from a cache as huggingface_hub lays it out, with no way out to the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from ckdiff.audit.gate.policy import parse_policy
from ckdiff.calls.specs import measures_of
from ckdiff.campaign.plan import paths
from ckdiff.campaign.plan.kinds import Where
from ckdiff.campaign.records import PlanError
from ckdiff.hub import DataId, data_path, find_data_id, parse_data_id
from ckdiff.questions.choices import read_choices
from ckdiff.questions.questions import Question, read_questions
from ckdiff.questions.streams import RecordsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
license: mit
configs:
- config_name: forget10
  default: true
  data_files: forget10.json
- config_name: knowmem
  data_files:
  - split: forget_qa
    path: knowmem/forget_qa-*
  - split: retain_qa
    path: [knowmem/retain_qa.csv]
- config_name: wmdp-bio
  data_files: {test: bio.jsonl}
- config_name: folder
  data_dir: folder
- config_name: gone
  data_files: gone.json
- config_name: code
  data_files: "*.py"
---
# A data set
"""
ROW = {"question": "Who?", "answer": "Ada"}
FILES = {
    "README.md": CARD,
    "forget10.json": json.dumps(ROW) + "\n",
    "knowmem/forget_qa-00000-of-00002.json": json.dumps([ROW]),
    "knowmem/forget_qa-00001-of-00002.json": json.dumps([{"question": "What?", "answer": ["tin", "zinc"]}]),
    "knowmem/retain_qa.csv": "question,answer\nWhere?,there\n",
    "bio.jsonl": json.dumps({"question": "q", "choices": ["a", "b"], "answer": 1}),
    "folder/a.txt": "Why?\n",
    "load.py": "print(1)\n",
    "bad.json": "[3]",
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repo = tmp_path / "hub" / "datasets--org--name"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "blobs").mkdir()
    for number, (name, content) in enumerate(FILES.items()):
        (repo / "blobs" / f"{number}").write_text(content)
        path = repo / "snapshots" / COMMIT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(repo / "blobs" / f"{number}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return repo


WHO = Question("Who?", "Ada")
READ: dict[str, tuple[tuple[Question, ...], str]] = {
    "hf://datasets/org/name/forget10.json": ((WHO,), "forget10.json, JSON"),
    "hf://org/name/forget10.json": ((WHO,), "forget10.json, JSON"),
    "hf://datasets/org/name@main/knowmem/retain_qa.csv": ((Question("Where?", "there"),), "knowmem/retain_qa.csv, CSV"),
    "hf://datasets/org/name": ((WHO,), "forget10.json, JSON"),
    "org/name:": ((WHO,), "forget10.json, JSON"),
    "org/name:forget10:train": ((WHO,), "forget10.json, JSON"),
    f"org/name@{COMMIT}:knowmem:forget_qa": (
        (WHO, Question("What?", "tin", ("zinc",))),
        "knowmem/forget_qa-00000-of-00002.json and 1 more, JSON",
    ),
    "hf://datasets/org/name:knowmem:retain_qa": ((Question("Where?", "there"),), "knowmem/retain_qa.csv, CSV"),
    "hf://datasets/org/name/knowmem/*_qa.csv": ((Question("Where?", "there"),), "knowmem/retain_qa.csv, CSV"),
    "org/name:folder": ((Question("Why?"),), "folder/a.txt, text"),
}


@pytest.mark.parametrize("text", READ)
def test_a_data_set_is_read_from_the_cache_and_its_commit_is_recorded(text: str, cache: Path) -> None:
    expected, said = READ[text]
    found = read_questions(Path(text))
    assert found.questions == expected
    assert found.source == f"org/name@{COMMIT}/{said}"


def test_choices_of_a_data_set(cache: Path) -> None:
    found = read_choices(Path("org/name:wmdp-bio:test"))
    assert [one.answer for one in found.questions] == [1]
    assert found.source == f"org/name@{COMMIT}/bio.jsonl, 1 multiple-choice questions"


REFUSED = {
    "org/name:knowmem": '2 splits; write org/name:CONFIG:SPLIT; it has: "forget_qa", "retain_qa"',
    "org/name:nothing:train": 'no config "nothing"; write org/name:CONFIG:SPLIT; it has: "forget10", "knowmem"',
    "org/name:forget10:test": 'no split "test"; write org/name:CONFIG:SPLIT; it has: "train"',
    "org/name:gone": 'no such file in it, or not in the cache; there is "README.md", "bad.json", "bio.jsonl"',
    "org/name:code": "no such file in it, or not in the cache",
    "hf://datasets/org/name/load.py": "no such file in it, or not in the cache",
    "hf://datasets/org/name/../../../x": "no such file in it, or not in the cache",
    "hf://datasets/org/name/bad.json": "bad.json: entry 1: a number; write a string",
    "hf://datasets/org/name@v9/forget10.json": "not in the hub's cache, and HF_HUB_OFFLINE is set",
    "org/other:config:train": "not in the hub's cache, and HF_HUB_OFFLINE is set; unset it",
    "hf://datasets/name/": "no such file; of the hub name hf://datasets/org/name/FILE or org/name:CONFIG:SPLIT",
    "org/name": "no such file; of the hub name hf://datasets/org/name/FILE",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_a_data_set_does_not_have_is_one_line(text: str, cache: Path) -> None:
    with pytest.raises(RecordsError) as caught:
        read_questions(Path(text))
    assert REFUSED[text] in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("no card", "its card names no configs; name a file: hf://datasets/org/name/FILE"),
        ("---\nconfigs: 3\n---\n", "its card names no configs"),
        ("---\nconfigs: [\n---\n", "its card cannot be read"),
        ("---\n!!python/object/apply:os.getcwd []\n---\n", "its card cannot be read"),
    ],
)
def test_a_card_that_says_nothing(card: str, message: str, cache: Path) -> None:
    (cache / "blobs" / "0").write_text(card)
    with pytest.raises(RecordsError, match=message):
        read_questions(Path("org/name:forget10"))


def test_a_link_that_leaves_the_cache_is_no_file_of_the_data_set(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("Who?")
    link = cache / "snapshots" / COMMIT / "forget10.json"
    link.unlink()
    link.symlink_to(tmp_path / "secret.txt")
    with pytest.raises(RecordsError, match="no such file in it"):
        read_questions(Path("org/name:forget10"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://datasets/org/name", DataId("org/name")),
        ("hf:/datasets/org/name/a/b.json", DataId("org/name", None, "a/b.json")),
        (
            "hf://org/name@refs/convert/parquet/c/train/0000.parquet",
            DataId("org/name", "refs/convert/parquet", "c/train/0000.parquet"),
        ),
        ("org/name@v1:c:s", DataId("org/name", "v1", "", "c", "s")),
        ("org/name", None),
        ("org/name/file.json", None),
        ("name:config", None),
        ("/org/name:c", None),
        ("../name:c", None),
        ("hf://datasets/org", None),
        ("hf://datasets/org/n me", None),
        ("org/name:c:s:t", None),
        ("", None),
    ],
)
def test_parse_data_id(text: str, expected: DataId | None) -> None:
    assert parse_data_id(text) == expected
    assert expected is None or parse_data_id(str(expected)) == expected


def test_a_path_that_is_there_is_never_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    assert find_data_id("org/name:c", tmp_path) is None
    assert find_data_id("org/name:c", tmp_path / "elsewhere") == DataId("org/name", config="c")
    assert data_path(tmp_path, "org/name:c") == tmp_path / "org" / "name:c"
    assert data_path(tmp_path, "hf://a/b/c.json") == Path("hf://a/b/c.json")


def test_a_plan_may_name_a_data_set(tmp_path: Path) -> None:
    where = Where("plan.toml", "measure.questions")
    assert paths.data(where, tmp_path, "org/name:c:s") == Path("org/name:c:s")
    with pytest.raises(PlanError, match="no such file"):
        paths.data(where, tmp_path, "org/name")


def test_a_policy_may_name_a_data_set(tmp_path: Path) -> None:
    text = '[measure]\nquestions = "hf://datasets/a/b/c.json"\nunrelated = "near.jsonl"\n[require]\nquestions = 1\n'
    (tmp_path / "near.jsonl").write_text('{"question": "Who?"}')
    found = measures_of(parse_policy(text, "policy.toml", tmp_path), {})
    assert (found["questions"], found["unrelated"]) == (Path("hf://datasets/a/b/c.json"), tmp_path / "near.jsonl")
