"""Plans: a good one reads as expected, globs and concepts are written out, what is wrong is refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckdiff.audit.gate.measures import MEASURES
from ckdiff.campaign.plan import kinds as plan_kinds
from ckdiff.campaign.plan.kinds import memory
from ckdiff.campaign.plan.plan import MOST_BYTES, MOST_JOBS, read_plan
from ckdiff.campaign.records import PlanError, Resources, Topic
from ckdiff.hub import parse_hub_id
from ckdiff.questions.questions import concepts_in, read_questions
from ckdiff.questions.streams import RecordsError

DOCS = Path(__file__).parent.parent / "docs" / "campaign.md"
GOOD = """
name = "release-7"
base = "models/base"
[measure]
questions = "concepts.json"
concepts = ["Super Mario", "feng shui"]
[[pairs]]
unlearned = "out/a-npo"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with everything that plans here name."""
    for folder in ("models/base", "models/other", "out/a-npo", "out/a-dpo", "out/b-npo", "tokens", "bare"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("out/loose.safetensors", "out/model.safetensors.index.json", "out/notes.txt", "out/.hidden"):
        (tmp_path / name).write_text("{}")
    entries = [concept("Super Mario"), concept("Feng shui"), concept(" Olympic Games ")]
    (tmp_path / "concepts.json").write_text(json.dumps(entries))
    (tmp_path / "more.json").write_text(json.dumps([concept("Amazon"), concept("super mario")]))
    (tmp_path / "subjects.jsonl").write_text('{"query": "Who?", "subject": "Ann"}\n{"query": "Why?", "subject": "Bob"}')
    (tmp_path / "forget.txt").write_text("Who is who?\nWhat is what?\n")
    (tmp_path / "retain.txt").write_text("Where is where?\n")
    (tmp_path / "audit.toml").write_text("[require]\nquestions = 5\n")
    (tmp_path / "strict.toml").write_text("[require]\nquestions = 50\n")
    return tmp_path


def concept(name: Any, *questions: str) -> dict[str, Any]:
    return {"Concept": name, "QA": list(questions or (f"What is {name}?",)), "unrelated_QA": ["What else?"]}


def read(place: Path, text: str, name: str = "campaign.toml", results: Path | None = None) -> Any:
    (place / name).write_text(text, encoding="utf-8")
    return read_plan(place / name, results)


def refused(place: Path, text: str) -> str:
    with pytest.raises(PlanError) as error:
        read(place, text)
    message = str(error.value)
    assert message.isprintable(), message
    assert message.startswith("campaign.toml: "), message
    assert len(message) < 800
    assert error.value.exit_status == 2
    return message


def plan(pairs: str = '[[pairs]]\nunlearned = "out/a-npo"', top: str = 'base = "models/base"', tables: str = "") -> str:
    return f'name = "p"\n{top}\n{tables}\n{pairs}\n'


# ---------------------------------------------------------------------------------------------------------- good plans


def test_a_small_plan_has_the_defaults(place: Path) -> None:
    found = read(place, GOOD)
    assert (found.name, found.text, found.source) == ("release-7", GOOD, "campaign.toml")
    assert found.results == place / "campaign"
    assert found.resources == Resources()
    (pair,) = found.pairs
    assert (pair.name, pair.group, pair.runs, pair.required) == ("a-npo", "", ("audit",), True)
    assert (pair.base, pair.unlearned) == (str(place / "models/base"), str(place / "out/a-npo"))
    file = place / "concepts.json"
    assert pair.topics == (Topic("Super Mario", file, "Super Mario"), Topic("Feng shui", file, "Feng shui"))
    assert (pair.measure, pair.policy, pair.adapter_base, pair.tokenizer) == ({}, None, None, None)
    assert read_questions(file, concept=pair.topics[1].concept).questions[0].text == "What is Feng shui?"


def test_every_key_arrives(place: Path) -> None:
    found = read(
        place,
        """
name = "release_7.b"
results = "kept/here"
base = "models/base"
runs = ["probe", "compare"]
policy = "audit.toml"
[measure]
unrelated = "retain.txt"
neutral = false
modes = ["coeff", "values"]
window = 3
given_answers = true
dtype = "float64"
prompt_template = "Q: {q}"
[resources]
threads = 2
gpus = 1
memory = "8 GB"
retries = 0
device = "cuda"
stream = "on"
batch_size = 4
[[pairs]]
unlearned = "out/a-npo"
[[pairs]]
name = "ünïcode, 2"
group = "npo"
base = "org/base@main"
unlearned = "org/unlearned@abc"
questions = ["forget.txt", "subjects.jsonl"]
runs = ["behave"]
policy = "strict.toml"
required = false
adapter_base = "models/other"
tokenizer = "tokens"
""",
    )
    assert found.results == place / "kept" / "here"
    assert found.resources == Resources(2, 1, 8_000_000_000, 0, "cuda", "on", 4)
    one, two = found.pairs
    assert one.runs == ("compare", "probe")
    assert one.topics == (Topic(""),)
    assert one.policy.text == "[require]\nquestions = 5\n"
    assert one.measure == {
        "unrelated": place / "retain.txt",
        "neutral": False,
        "modes": ("coeff", "values"),
        "window": 3,
        "given_answers": True,
        "dtype": "float64",
        "prompt_template": "Q: {q}",
    }
    assert (two.name, two.group, two.required, two.runs) == ("ünïcode, 2", "npo", False, ("behave",))
    assert (two.base, two.unlearned) == ("org/base@main", "org/unlearned@abc")
    assert two.topics == (Topic("forget", place / "forget.txt"), Topic("subjects", place / "subjects.jsonl"))
    assert (two.policy.source, two.adapter_base) == ("strict.toml", str(place / "models/other"))
    assert two.tokenizer == place / "tokens"
    assert two.measure == one.measure
    assert pickle.loads(pickle.dumps(found)) == found


def test_paths_begin_in_the_plans_folder_wherever_one_stands(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "plans").mkdir()
    text = plan('[[pairs]]\nunlearned = "../out/a-npo/"', 'base = "../models/./base"\npolicy = "../audit.toml"')
    (place / "plans" / "p.toml").write_text(text)
    monkeypatch.chdir(place / "tokens")
    found = read_plan(Path("../plans/p.toml"))
    assert found.results == place / "plans" / "p"
    (pair,) = found.pairs
    assert (pair.base, pair.unlearned) == (str(place / "models/base"), str(place / "out/a-npo"))
    assert pair.name == "a-npo"
    assert read_plan(Path("../plans/p.toml"), Path("kept")).results == place / "tokens" / "kept"


def test_absolute_paths_stay(place: Path) -> None:
    text = plan(f'[[pairs]]\nunlearned = "{place}/out/a-npo"\nquestions = "{place}/forget.txt"')
    (pair,) = read(place, text).pairs
    assert pair.unlearned == str(place / "out/a-npo")
    assert pair.topics == (Topic("forget", place / "forget.txt"),)


def test_a_mark_at_the_files_beginning_and_other_line_ends_do_no_harm(place: Path) -> None:
    (place / "campaign.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_plan(place / "campaign.toml").pairs == read(place, GOOD, "other.toml").pairs


def test_a_pair_of_a_model_with_itself(place: Path) -> None:
    (pair,) = read(place, plan('[[pairs]]\nunlearned = "models/base"')).pairs
    assert pair.base == pair.unlearned
    assert pair.name == "base"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("out/loose.safetensors", "loose"),
        ("out/model.safetensors.index.json", "model"),
        ("out/a-npo/.", "a-npo"),
        ("out/a-npo/../b-npo", "b-npo"),
    ],
)
def test_a_path_gives_its_pair_a_name(path: str, name: str, place: Path) -> None:
    (pair,) = read(place, plan(f'[[pairs]]\nunlearned = "{path}"')).pairs
    assert pair.name == name


def test_a_name_with_an_organisation_is_a_path_where_that_is_a_folder(place: Path) -> None:
    assert "no such path" in refused(place, plan('[[pairs]]\nunlearned = "out/a-npoo"'))
    (pair,) = read(place, plan('[[pairs]]\nname = "x"\nunlearned = "org/a-npoo"')).pairs
    assert pair.unlearned == "org/a-npoo"


# --------------------------------------------------------------------------------------------------------------- globs


@pytest.mark.parametrize(
    ("pattern", "names", "paths"),
    [
        ("out/*-npo", ["a-npo", "b-npo"], ["out/a-npo", "out/b-npo"]),
        ("out/?-npo", ["a-npo", "b-npo"], ["out/a-npo", "out/b-npo"]),
        ("out/[ab]-npo/", ["a-npo", "b-npo"], ["out/a-npo", "out/b-npo"]),
        ("./out//[!b]-*", ["a-dpo", "a-npo"], ["out/a-dpo", "out/a-npo"]),
        ("out/*.*", ["loose", "model"], ["out/loose.safetensors", "out/model.safetensors.index.json"]),
        ("*/base", ["models"], ["models/base"]),
        ("m*/o*", ["models-other"], ["models/other"]),
    ],
)
def test_a_glob_becomes_sorted_pairs(pattern: str, names: list[str], paths: list[str], place: Path) -> None:
    found = read(place, plan(f'[[pairs]]\ngroup = "g"\nunlearned = "{pattern}"')).pairs
    assert [pair.name for pair in found] == names
    assert [pair.unlearned for pair in found] == [str(place / path) for path in paths]
    assert {pair.group for pair in found} == {"g"}
    absolute = read(place, plan(f'[[pairs]]\ngroup = "g"\nunlearned = "{place}/{pattern}"')).pairs
    assert [pair.unlearned for pair in absolute] == [pair.unlearned for pair in found]


def test_what_matches_and_is_no_checkpoint_is_skipped(place: Path) -> None:
    found = read(place, plan('[[pairs]]\nunlearned = "out/*"')).pairs
    assert [pair.name for pair in found] == ["a-dpo", "a-npo", "b-npo", "loose", "model"]


def test_a_name_with_a_hole_is_filled(place: Path) -> None:
    found = read(place, plan('[[pairs]]\nname = "{} ({})"\nunlearned = "out/*-npo"')).pairs
    assert [pair.name for pair in found] == ["a-npo (a-npo)", "b-npo (b-npo)"]


def test_what_is_there_as_it_is_written_is_no_glob(place: Path) -> None:
    (place / "out" / "c[1]").mkdir()
    (place / "out" / "c1").mkdir()
    (pair,) = read(place, plan('[[pairs]]\nunlearned = "out/c[1]"')).pairs
    assert (pair.name, pair.unlearned) == ("c[1]", str(place / "out/c[1]"))


def test_a_folder_with_wildcards_in_its_own_name(tmp_path: Path) -> None:
    folder = tmp_path / "runs [new] *"
    for name in ("base", "out/a", "out/b"):
        (folder / name).mkdir(parents=True)
    found = read(folder, plan('[[pairs]]\nunlearned = "out/*"', 'base = "base"')).pairs
    assert [pair.unlearned for pair in found] == [str(folder / "out/a"), str(folder / "out/b")]


def test_links_that_go_round_end(place: Path) -> None:
    (place / "out" / "round").symlink_to("round")
    (place / "out" / "up").symlink_to("..")
    found = read(place, plan('[[pairs]]\nunlearned = "out/*/out/*-npo"')).pairs
    assert [pair.name for pair in found] == ["up-a-npo", "up-b-npo"]
    assert "no such path" in refused(place, plan('[[pairs]]\nunlearned = "out/round"'))


@pytest.mark.parametrize("pattern", ["nowhere/*", "bare/*", "out/*.txt", "out/[z-a]", "out/[*", "[", "*a" * 90 + "zz"])
def test_an_empty_glob(pattern: str, place: Path) -> None:
    message = refused(place, plan(f'[[pairs]]\nunlearned = "{pattern}"'))
    assert "pairs[1].unlearned" in message
    assert "an empty glob" in message
    assert pattern[:80] in message


def test_a_name_that_is_no_text_is_refused(place: Path) -> None:
    try:
        os.mkdir(os.fsencode(place / "bare") + b"/\xff")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert "\\udcff" in refused(place, plan('[[pairs]]\nunlearned = "bare/*"'))


# ------------------------------------------------------------------------------------------------- questions, concepts


def topics(place: Path, measure: str, pair: str = "", runs: str = '["behave"]') -> list[tuple[str, str, str | None]]:
    text = plan(f'[[pairs]]\nunlearned = "out/a-npo"\nruns = {runs}\n{pair}', tables=f"[measure]\n{measure}")
    return [
        (topic.name, topic.questions.name if topic.questions else "", topic.concept)
        for topic in read(place, text).pairs[0].topics
    ]


MARIO = ("Super Mario", "concepts.json", "Super Mario")
SHUI = ("Feng shui", "concepts.json", "Feng shui")
GAMES = ("Olympic Games", "concepts.json", "Olympic Games")
TOPICS: dict[str, tuple[str, str, list[tuple[str, str, str | None]]]] = {
    "nothing": ("", "", [("", "", None)]),
    "a file": ('questions = "forget.txt"', "", [("forget", "forget.txt", None)]),
    "files": (
        'questions = ["retain.txt", "forget.txt"]',
        "",
        [("retain", "retain.txt", None), ("forget", "forget.txt", None)],
    ),
    "all": ('questions = "concepts.json"\nconcepts = "all"', "", [MARIO, SHUI, GAMES]),
    "one": ('questions = "concepts.json"\nconcept = "OLYMPIC games "', "", [GAMES]),
    "two files": (
        'questions = ["more.json", "concepts.json"]\nconcepts = ["Feng shui", "Amazon"]',
        "",
        [SHUI, ("Amazon", "more.json", "Amazon")],
    ),
    "beside a text": ('questions = ["forget.txt", "concepts.json"]\nconcept = "feng shui"', "", [SHUI]),
    "a file twice": ('questions = ["concepts.json", "./concepts.json"]\nconcept = "Feng shui"', "", [SHUI]),
    "subjects": ('questions = "subjects.jsonl"\nconcepts = ["bob"]', "", [("Bob", "subjects.jsonl", "Bob")]),
    "whole with subjects": ('questions = "subjects.jsonl"', "", [("subjects", "subjects.jsonl", None)]),
    "own concepts, the plan's file": ('questions = "concepts.json"\nconcepts = "all"', 'concept = "feng shui"', [SHUI]),
    "own file, no concepts": (
        'questions = "concepts.json"\nconcept = "Feng shui"',
        'questions = "forget.txt"',
        [("forget", "forget.txt", None)],
    ),
    "own of both": (
        'questions = "forget.txt"',
        'questions = "concepts.json"\nconcepts = ["Super Mario"]',
        [MARIO],
    ),
}


@pytest.mark.parametrize("case", TOPICS)
def test_what_is_asked(case: str, place: Path) -> None:
    measure, pair, wanted = TOPICS[case]
    assert topics(place, measure, pair) == wanted


def test_a_comparison_asks_nothing_but_its_files_must_be_there(place: Path) -> None:
    assert topics(place, 'questions = "forget.txt"', runs='["compare"]') == [("", "", None)]
    assert topics(place, 'questions = "forget.txt"', runs='["compare", "probe"]') == [("forget", "forget.txt", None)]
    with pytest.raises(PlanError, match=r"measure\.questions.*no such file"):
        topics(place, 'questions = "gone.txt"', runs='["compare"]')


def test_one_concept_alone_is_asked_as_a_whole(place: Path) -> None:
    (place / "potter.json").write_text(json.dumps(concept("Harry Potter")))
    assert topics(place, 'questions = "potter.json"') == [("potter", "potter.json", None)]
    assert topics(place, 'questions = "potter.json"\nconcepts = "all"') == [
        ("Harry Potter", "potter.json", "Harry Potter")
    ]


CONCEPTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "several concepts": (
        'questions = "concepts.json"',
        ("measure.questions", "3 concepts", 'choose with concepts = ["A", "B"], or concepts = "all"', "Feng shui"),
    ),
    "near": (
        'questions = "concepts.json"\nconcepts = ["Super Marjo"]',
        ("measure.concepts", 'no concept "Super Marjo" in concepts.json', 'near: "Super Mario"'),
    ),
    "not near": ('questions = "concepts.json"\nconcept = "Zebra"', ("measure.concept:", 'there are "Super Mario"')),
    "in no file": (
        'questions = ["concepts.json", "more.json"]\nconcept = "Zebra"',
        ("concepts.json, more.json", '"Amazon"'),
    ),
    "in two files": (
        'questions = ["concepts.json", "more.json"]\nconcept = "Super Mario"',
        ("is in concepts.json and in more.json",),
    ),
    "all of two files": (
        'questions = ["concepts.json", "forget.txt"]\nconcepts = "all"',
        ("forget.txt has no concepts",),
    ),
    "of a text": ('questions = "forget.txt"\nconcept = "Feng shui"', ("no concept", "it has no concepts")),
    "twice": ('questions = "concepts.json"\nconcepts = ["Feng shui", "FENG SHUI"]', ("two topics of one name",)),
    "a file twice": ('questions = ["forget.txt", "./forget.txt"]', ("two topics of one name", "name it once")),
    "two files of one name": ('questions = ["forget.txt", "models/forget.txt"]', ("two topics of one name", "models")),
    "both": (
        'questions = "concepts.json"\nconcept = "Feng shui"\nconcepts = "all"',
        ("measure.concept: ", "one of the two"),
    ),
    "no file": ('concept = "Feng shui"', ("measure.concept", "chooses from a file")),
    "no such file": ('questions = "gone.json"', ("measure.questions", '"gone.json": no such file')),
    "a folder": ('questions = "out"', ("no regular file",)),
    "an empty file": ('questions = "empty.txt"', ("nothing in it",)),
    "broken": ('questions = "broken.json"\nconcepts = "all"', ("broken.json", "not JSON")),
    "broken, whole": ('questions = "broken.json"', ("broken.json", "not JSON")),
    "a strange name": ('questions = "strange.json"\nconcepts = "all"', ("not a name for tables", "\\n")),
    "half a character": ('questions = "half.json"\nconcepts = "all"', ("surrogate",)),
    "a long name": ('questions = "long.json"\nconcepts = "all"', ("not a name for tables",)),
}


@pytest.mark.parametrize("case", CONCEPTS)
def test_questions_and_concepts_that_are_not_there(case: str, place: Path) -> None:
    (place / "models" / "forget.txt").write_text("Who?")
    (place / "empty.txt").write_text("\n")
    (place / "broken.json").write_text('[{"Concept": ')
    (place / "strange.json").write_text(json.dumps([concept("a\nb")]))
    (place / "half.json").write_text(json.dumps([concept("a\ud800b")]))
    (place / "long.json").write_text(json.dumps([concept("x" * 201)]))
    measure, wanted = CONCEPTS[case]
    message = refused(place, plan(tables=f"[measure]\n{measure}"))
    for part in wanted:
        assert part in message, message


def test_concepts_of_files(place: Path) -> None:
    assert concepts_in(place / "concepts.json") == ("Super Mario", "Feng shui", "Olympic Games")
    assert concepts_in(place / "subjects.jsonl") == ("Ann", "Bob")
    assert concepts_in(place / "forget.txt") == ()
    lines = [concept("B"), concept("A"), concept("b "), concept(None), concept("")]
    (place / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert concepts_in(place / "lines.jsonl") == ("B", "A")
    (place / "other.json").write_text('{"concept": "C", "target_questions": ["q"]}')
    assert concepts_in(place / "other.json") == ("C",)
    with pytest.raises(RecordsError, match="cannot be read"):
        concepts_in(place / "gone.json")


def test_every_concept_that_is_found_can_be_asked(place: Path) -> None:
    for name in ("concepts.json", "more.json", "subjects.jsonl"):
        for found in concepts_in(place / name):
            assert read_questions(place / name, concept=found).questions


# ----------------------------------------------------------------------------------------------------------- bad plans

PAIR = '[[pairs]]\nunlearned = "out/a-npo"\n'
BAD: dict[str, tuple[str, tuple[str, ...]]] = {
    "empty": ("", ("name", "is missing")),
    "no TOML": ("name = ", ("no TOML",)),
    "a key twice": ('name = "a"\nname = "b"', ("no TOML",)),
    "a control character": ('name = "\x07"', ("no TOML",)),
    "a huge number": (f"name = {'9' * 5000}", ("no TOML",)),
    "deep": ("name = " + "[" * 5000, ("no TOML",)),
    "no name": (f'base = "models/base"\n{PAIR}', ("campaign.toml: name: is missing",)),
    "a name with a slash": ('name = "a/b"', ("name: must be letters",)),
    "a name with an accent": ('name = "é"', ("name: must be letters",)),
    "a long name": (f'name = "{"a" * 101}"', ("at most 100",)),
    "an empty name": ('name = ""', ("name: must be",)),
    "a number for a name": ("name = 7", ("name: must be",)),
    "an unknown key": (plan(top="basis = 1"), ('no key "basis" in a plan', "name, results, base, runs, policy")),
    "an unknown key with a line end": (plan(top='"a\\nb" = 1'), ('"a\\nb"',)),
    "an unknown table": (plan(tables="[measures]\nwindow = 5"), ('no key "measures"',)),
    "no pairs": ('name = "p"\nbase = "models/base"', ("pairs: is missing", "[[pairs]]")),
    "an empty list of pairs": ('name = "p"\npairs = []', ("pairs: must be one table",)),
    "one table of pairs": (plan('[pairs]\nunlearned = "out/a-npo"'), ("pairs: must be one table [[pairs]]",)),
    "pairs of texts": ('name = "p"\npairs = ["out/a-npo"]', ("pairs: must be one table",)),
    "an empty pair": (plan("[[pairs]]"), ("pairs[1].unlearned: is missing",)),
    "no base": (plan(top=""), ("pairs[1].base: is missing", "once for the plan")),
    "an unknown key of a pair": (
        plan('[[pairs]]\nunlearnt = "x"'),
        ('pairs[1]: no key "unlearnt" in a pair', "name, group, base, unlearned"),
    ),
    "a table in a pair": (plan(f"{PAIR}[pairs.measure]\nwindow = 3"), ('pairs[1]: no key "measure"',)),
    "a base that is not there": (plan(top='base = "models/bas"'), ("campaign.toml: base:", '"models/bas"')),
    "a base of a pair": (plan(f'{PAIR}base = "./nope"'), ("pairs[1].base:", "no such path")),
    "an absolute base": (plan(top='base = "/nowhere/at/all"'), ("base:", "no such path")),
    "a glob for a base": (plan(top='base = "models/*"'), ("base:", "no such path")),
    "a dangling link": (plan('[[pairs]]\nunlearned = "dangling"'), ("pairs[1].unlearned", "no such path")),
    "the second pair": (plan(f'{PAIR}[[pairs]]\nunlearned = "out/nope"'), ("pairs[2].unlearned",)),
    "an empty path": (plan('[[pairs]]\nunlearned = " "'), ("pairs[1].unlearned: must be a text",)),
    "NUL": (plan('[[pairs]]\nunlearned = "a\\u0000b"'), ("pairs[1].unlearned: must be a path",)),
    "a long path": (plan(f'[[pairs]]\nunlearned = "{"x/" * 5000}"'), ("no such path",)),
    "two stars": (plan('[[pairs]]\nunlearned = "out/**/a"'), ("** is not allowed",)),
    "two stars inside": (plan('[[pairs]]\nunlearned = "out/a**"'), ("** is not allowed",)),
    "a glob with a plain name": (plan('[[pairs]]\nname = "x"\nunlearned = "out/*"'), ("pairs[1].name", "{}")),
    "a hole without a glob": (plan(f'{PAIR}name = "x-{{}}"'), ("pairs[1].name", "{}")),
    "a hub id without a name": (plan('[[pairs]]\nunlearned = "org/name@main"'), ("pairs[1].name: is missing",)),
    "two pairs of one name": (plan(PAIR + PAIR), ('pairs[2].name: "a-npo" is the name of pairs[1] already',)),
    "two of one glob": (plan('[[pairs]]\nname = "x"\nunlearned = "out/b-npo"\n' + PAIR + 'name = "x"'), ('"x" is',)),
    "a glob and a name": (
        plan(f'{PAIR}[[pairs]]\nunlearned = "out/*"'),
        ('pairs[2].name: "a-npo" is the name of pairs[1]',),
    ),
    "a name with a slash in it": (plan(f'{PAIR}name = "a/b"'), ("pairs[1].name: must be",)),
    "a name with a line end": (plan(f'{PAIR}name = "a\\nb"'), ("pairs[1].name: must be",)),
    "a name that hides": (plan(f'{PAIR}name = "a\\u202eb"'), ("pairs[1].name: must be",)),
    "a name with blanks": (plan(f'{PAIR}name = " a"'), ("pairs[1].name: must be",)),
    "a long name of a pair": (plan(f'{PAIR}name = "{"a" * 101}"'), ("pairs[1].name: must be", "100")),
    "a long name of a path": (plan(f'[[pairs]]\nunlearned = "out/{"n" * 120}"'), ("pairs[1].name", "100")),
    "a group with a line end": (plan(f'{PAIR}group = "a\\nb"'), ("pairs[1].group: must be",)),
    "a run": (plan(top='base = "models/base"\nruns = ["look"]'), ("runs: must be", "compare, behave, probe, audit")),
    "no run": (plan(f"{PAIR}runs = []"), ("pairs[1].runs: must be",)),
    "a text for runs": (plan(f'{PAIR}runs = "audit"'), ("pairs[1].runs: must be",)),
    "required": (plan(f'{PAIR}required = "no"'), ("pairs[1].required: must be true or false",)),
    "no policy": (plan(f'{PAIR}policy = "nope.toml"'), ("pairs[1].policy", "no such file")),
    "a bad policy": (
        plan(top='base = "models/base"\npolicy = "bad.toml"'),
        ("campaign.toml: policy: ", "bad.toml: no table [wishes]"),
    ),
    "a folder for a policy": (plan(f'{PAIR}policy = "out"'), ("pairs[1].policy", "no regular file")),
    "no tokenizer": (plan(f'{PAIR}tokenizer = "audit.toml"'), ("pairs[1].tokenizer", "no such directory")),
    "no adapter base": (plan(f'{PAIR}adapter_base = "./x"'), ("pairs[1].adapter_base", "no such path")),
    "results": (plan(top='results = ""'), ("results: must be",)),
    "results that are the plan": (plan(top='results = "campaign.toml"'), ("results:", "own file")),
    "measure": (plan(top="measure = 5"), ("measure: must be a table",)),
    "an unknown measure": (plan(tables="[measure]\nmode = 1"), ('measure: no key "mode" in [measure]', "concepts")),
    "an attack": (plan(tables='[attack]\nattacks = ["pray"]'), ("attack.attacks: must be", "relearn")),
    "a tier": (plan(tables="[attack]\ntiers = [9]"), ("attack.tiers: must be", "0, 1, 2, 3")),
    "an unknown key of attacks": (plan(tables="[attack]\nrate = 1"), ('attack: no key "rate" in [attack]', "folds")),
    "no reference": (plan(tables='[attack]\nreference = "./x"'), ("attack.reference", "no such path")),
    "a kind of nothing": (plan(tables='[attack]\nreference_kind = "before"'), ("attack.reference_kind: says how",)),
    "depth without one": (plan(f'{PAIR}runs = ["depth"]'), ("pairs[1].reference: is missing", "never knew")),
    "margins without one": (plan(f'{PAIR}margins = "policy.toml"'), ("pairs[1].margins: is the report", "name it as")),
    "no margins": (
        plan(f'{PAIR}reference = "out/b-npo"\nmargins = "zero.h5"'),
        ("pairs[1].margins", "zero.h5"),
    ),
    "a kind without one": (plan(f'{PAIR}reference_kind = "before"'), ("pairs[1].reference_kind: says how",)),
    "an audit beside nothing": (
        plan(f'{PAIR}reference = "out/b-npo"', tables="[audit]\ntiers = []"),
        ("pairs[1].reference: stands", "[audit]"),
    ),
    "no such tier": (plan(tables="[audit]\ntiers = [4]"), ("audit.tiers: must be", "0, 1, 2, 3")),
    "layers": (plan(tables="[measure]\nlayers = [1]"), ('measure: no key "layers"',)),
    "modes": (plan(tables='[measure]\nmodes = ["coef"]'), ("measure.modes: must be", "coeff")),
    "a window": (plan(tables="[measure]\nwindow = 0"), ("measure.window: must be",)),
    "unrelated": (plan(tables='[measure]\nunrelated = "nope"'), ("measure.unrelated", "no such file")),
    "choices": (plan(tables='[measure]\nchoices = "nope"'), ("measure.choices", "no such file")),
    "neutral": (plan(tables='[measure]\nneutral = "nope"'), ("measure.neutral", "no such file")),
    "a number for questions": (plan(tables="[measure]\nquestions = 5"), ("measure.questions: must be a path",)),
    "no questions": (plan(tables="[measure]\nquestions = []"), ("measure.questions: must be a path",)),
    "questions in a list": (plan(tables='[measure]\nquestions = [["a"]]'), ("measure.questions: must be a path",)),
    "no concepts": (plan(f"{PAIR}concepts = []"), ("pairs[1].concepts: must be",)),
    "every concept": (plan(f'{PAIR}concepts = "every"'), ('pairs[1].concepts: must be "all"',)),
    "both in a pair": (plan(f'{PAIR}concepts = "all"\nconcept = "a"'), ("pairs[1].concept: there is concepts",)),
    "a concept without a file": (plan(f'{PAIR}concept = "a"'), ("pairs[1].concept: chooses from a file",)),
    "an unknown resource": (plan(tables="[resources]\ncpus = 1"), ('resources: no key "cpus"', "threads, gpus")),
    "no threads": (plan(tables="[resources]\nthreads = 0"), ("resources.threads: must be a whole number from 1",)),
    "true for threads": (plan(tables="[resources]\nthreads = true"), ("resources.threads: must be",)),
    "half a thread": (plan(tables="[resources]\nthreads = 0.5"), ("resources.threads: must be",)),
    "huge": (plan(tables=f"[resources]\nthreads = 0x{'f' * 9000}"), ("resources.threads: must be",)),
    "two GPUs": (plan(tables="[resources]\ngpus = 2"), ("resources.gpus: must be a whole number from 0 to 1",)),
    "memory": (plan(tables='[resources]\nmemory = "8 gigs"'), ("resources.memory: must be", "8 GB")),
    "negative memory": (plan(tables="[resources]\nmemory = -1"), ("resources.memory: must be",)),
    "half a byte": (plan(tables="[resources]\nmemory = 8.5"), ("resources.memory: must be",)),
    "retries": (plan(tables="[resources]\nretries = -1"), ("resources.retries: must be",)),
    "a device": (plan(tables='[resources]\ndevice = "cuda:1"'), ("resources.device: must be one of auto, cpu, cuda",)),
    "stream": (plan(tables="[resources]\nstream = true"), ("resources.stream: must be one of auto, on, off",)),
    "a batch": (plan(tables="[resources]\nbatch_size = 0"), ("resources.batch_size: must be",)),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_in_one_line(case: str, place: Path) -> None:
    (place / "bad.toml").write_text("[wishes]\nall = 1\n")
    (place / "dangling").symlink_to("nowhere")
    (place / "out" / ("n" * 120)).mkdir()
    text, wanted = BAD[case]
    message = refused(place, text)
    for part in wanted:
        assert part in message, message


def test_files_that_are_no_plan(place: Path) -> None:
    with pytest.raises(PlanError, match=r"gone\.toml: cannot be read"):
        read_plan(place / "gone.toml")
    with pytest.raises(PlanError, match="not a regular file"):
        read_plan(place / "out")
    (place / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(PlanError, match="not UTF-8"):
        read_plan(place / "latin.toml")
    (place / "large.toml").write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(PlanError, match="too large"):
        read_plan(place / "large.toml")
    if hasattr(os, "mkfifo"):
        os.mkfifo(place / "pipe.toml")
        with pytest.raises(PlanError, match="not a regular file"):
            read_plan(place / "pipe.toml")


def test_a_name_of_a_file_cannot_write_to_the_terminal(place: Path) -> None:
    with pytest.raises(PlanError) as error:
        read(place, "", "\x1b[31m.toml")
    assert str(error.value).startswith("\\x1b[31m.toml: ")


def test_a_plan_without_an_ending_needs_results(place: Path) -> None:
    with pytest.raises(PlanError, match="own file"):
        read(place, GOOD, "campaign")
    assert read(place, GOOD, "campaign", place / "kept").results == place / "kept"
    assert read(place, 'results = "r"' + GOOD, "campaign").results == place / "r"


def test_there_are_only_so_many_jobs(place: Path) -> None:
    (place / "many.json").write_text(json.dumps([concept(f"c{number}") for number in range(MOST_JOBS // 2)]))
    every = '[measure]\nquestions = "many.json"\nconcepts = "all"'
    pair = PAIR + 'runs = ["behave", "probe"]\n'
    (found,) = read(place, plan(pair, tables=every)).pairs
    assert len(found.topics) == MOST_JOBS // 2
    more = '[[pairs]]\nunlearned = "out/b-npo"\nruns = ["compare"]'
    message = refused(place, plan(pair + more, tables=every))
    assert f"pairs[2]: with it the plan has more than {MOST_JOBS} jobs" in message
    # A comparison is one job, whatever a pair is asked.
    (place / "many.json").write_text(json.dumps([concept(f"c{number}") for number in range(MOST_JOBS // 2 - 1)]))
    pairs = "".join(
        f'[[pairs]]\nunlearned = "out/{name}"\nruns = ["compare", "probe"]\n' for name in ("a-npo", "b-npo")
    )
    assert len(read(place, plan(pairs, tables=every)).pairs) == 2


def test_a_glob_matches_only_so_much(place: Path) -> None:
    for number in range(MOST_JOBS + 1):
        (place / "bare" / str(number)).mkdir()
    assert "matches more than 10000 checkpoints" in refused(place, plan('[[pairs]]\nunlearned = "bare/*"'))
    (place / "bare" / "0").rmdir()
    pair = '[[pairs]]\nunlearned = "bare/*"\nruns = ["compare"]'
    assert len(read(place, plan(pair)).pairs) == MOST_JOBS


# ------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0, 0),
        (12, 12),
        ("12 B", 12),
        ("8 GB", 8 * 10**9),
        ("8GiB", 8 * 2**30),
        ("512 mb", 512 * 10**6),
        ("1.5 TiB", 3 * 2**39),
        ("0.1 KB", 100),
    ],
)
def test_memory(value: int | str, wanted: int) -> None:
    assert memory(value) == wanted


@pytest.mark.parametrize(
    "value", ["", "8", "GB", "-1 GB", "1e3 GB", "8 GBs", "8 PB", "9999999999 TB", "٨ GB", True, None, [1]]
)
def test_no_memory(value: Any) -> None:
    with pytest.raises(ValueError, match="8 GiB"):
        memory(value)


# -------------------------------------------------------------------------------------------------- whatever is written

WORDS = st.sampled_from(
    (
        *("all", "audit", "compare", "out/*", "out/a-npo", "models/base", "concepts.json", "forget.txt", "Feng shui"),
        *("audit.toml", "8 GB", "cuda", "coeff", "", " ", "..", "/", "{}", "[", "**", "~", "org/x@y", "a\0b", "\u202e"),
        "é" * 120,
    )
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), WORDS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


def written(value: Any) -> str:
    """A value in TOML; what TOML does not have becomes a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(key)} = {written(one)}' for key, one in value.items())}}}"
    return json.dumps(str(value), ensure_ascii=True) if str(value).isascii() else f'"{escaped(str(value))}"'


def escaped(text: str) -> str:
    return "".join(f"\\U{ord(letter):08x}" for letter in text if not "\ud800" <= letter <= "\udfff")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plans")
    for folder in ("models/base", "out/a-npo", "out/b-npo"):
        (place / folder).mkdir(parents=True)
    (place / "concepts.json").write_text(json.dumps([concept("Feng shui"), concept("Mario")]))
    (place / "forget.txt").write_text("Who?\n")
    (place / "audit.toml").write_text("[require]\nquestions = 5\n")
    return place


def edits(table: str, known: Any) -> st.SearchStrategy[tuple[str, str, Any]]:
    keys = st.one_of(st.sampled_from(sorted(known)), st.text(max_size=6))
    return st.tuples(st.just(table), keys, st.one_of(VALUES, WORDS, st.lists(WORDS, max_size=3)))


FINE = [
    ("", "runs", ["probe", "compare"]),
    ("", "policy", "audit.toml"),
    ("", "results", "../é"),
    ("measure", "questions", ["concepts.json", "forget.txt"]),
    ("measure", "questions", "concepts.json"),
    ("measure", "concepts", ["MARIO"]),
    ("measure", "concepts", "all"),
    ("measure", "neutral", "forget.txt"),
    ("resources", "memory", "1.5 GiB"),
    ("resources", "threads", 4096),
    ("pair", "unlearned", "out/*"),
    ("pair", "unlearned", "org/x@y"),
    ("pair", "name", "{} é"),
    ("pair", "name", "é"),
    ("pair", "questions", "forget.txt"),
    ("pair", "concept", "feng shui"),
    ("pair", "base", "out/b-npo"),
    ("pair", "runs", ["compare"]),
    ("pair", "required", False),
]
EDITS = st.one_of(
    st.sampled_from(FINE),
    st.sampled_from(FINE),
    st.sampled_from(FINE),
    edits("", plan_kinds.PLAN),
    edits("measure", plan_kinds.MEASURES),
    edits("resources", plan_kinds.RESOURCES),
    edits("pair", plan_kinds.PAIR),
)


@settings(deadline=None, max_examples=500)
@given(st.lists(EDITS, max_size=5))
def test_whatever_is_written_is_a_plan_or_one_line(lasting: Path, changes: list[tuple[str, str, Any]]) -> None:
    pair: dict[str, Any] = {"unlearned": "out/a-npo"}
    tree: dict[str, Any] = {"name": "p", "base": "models/base", "measure": {}, "resources": {}, "pairs": [pair]}
    places = {"": tree, "measure": tree["measure"], "resources": tree["resources"], "pair": pair}
    for table, key, value in changes:
        places[table][key] = value
    text = "\n".join(f"{written(key)} = {written(value)}" for key, value in tree.items())
    tomllib.loads(text)
    found, message = None, ""
    try:
        found = read(lasting, text)
    except PlanError as error:
        message = str(error)
    if found is None:
        assert message.isprintable()
        assert message.startswith("campaign.toml: ")
    else:
        assert len({pair.name for pair in found.pairs}) == len(found.pairs) > 0
        assert all(pair.topics and pair.runs for pair in found.pairs)
        assert all(os.path.exists(pair.base) or parse_hub_id(pair.base) for pair in found.pairs)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_plan(lasting: Path, raw: bytes) -> None:
    (lasting / "raw.toml").write_bytes(raw)
    with pytest.raises(PlanError) as error:
        read_plan(lasting / "raw.toml")
    assert str(error.value).isprintable()


# ------------------------------------------------------------------------------------------------------- light, written


def test_reading_a_plan_imports_nothing_heavy(place: Path) -> None:
    (place / "campaign.toml").write_text(GOOD)
    code = (
        "import sys; from pathlib import Path; from ckdiff.campaign.plan.plan import read_plan;"
        "assert read_plan(Path(sys.argv[1])).pairs;"
        "print([name for name in ('torch', 'transformers', 'h5py', 'huggingface_hub', 'ray') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(place / "campaign.toml")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def documented(title: str) -> list[str]:
    """The keys in the first column of the table under a heading of the docs."""
    section = DOCS.read_text(encoding="utf-8").split(f"### {title}\n", 1)[1].split("\n#", 1)[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| `")]
    return [key.strip("` ") for row in rows for key in row.split(", ")]


def test_the_docs_name_every_key() -> None:
    assert documented("The plan itself") == list(plan_kinds.PLAN)
    assert documented("`[measure]`") == [
        "questions",
        "concepts",
        "concept",
        *[key for key in MEASURES if key not in plan_kinds.ASKED],
    ]
    assert documented("`[audit]`") == list(plan_kinds.AUDIT)
    assert documented("`[attack]`") == list(plan_kinds.ATTACK)
    assert documented("`[resources]`") == list(plan_kinds.RESOURCES)
    assert documented("`[[pairs]]`") == list(plan_kinds.PAIR)


def test_the_example_of_the_docs_is_a_plan(place: Path) -> None:
    text = DOCS.read_text(encoding="utf-8").split("```toml\n", 1)[1].split("```", 1)[0]
    for folder in ("out/lotr-npo/unlearned", "out/mario-npo/unlearned", "adapters/lotr-dpo", "models/never-knew"):
        (place / folder).mkdir(parents=True)
    entries = [concept(name) for name in ("The Lord of the Rings", "Super Mario", "Amazon Alexa")]
    (place / "concepts.json").write_text(json.dumps(entries))
    (place / "rings.txt").write_text("Who has the ring?\n")
    (place / "never-2.h5").write_bytes(b"")
    found = read(place, text)
    assert [pair.name for pair in found.pairs] == ["lotr-npo", "mario-npo", "lotr-dpo", "hub-dpo"]
    assert [len(pair.topics) for pair in found.pairs] == [2, 2, 1, 1]
    assert set(tomllib.loads(text)) == set(plan_kinds.PLAN)
