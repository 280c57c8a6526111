from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ckdiff.errors import CheckpointError
from ckdiff.report.schema.comparison import ConfigChange
from ckdiff.weights.configs import MAX_ROWS, Settings, compare_settings
from ckdiff.weights.reader import open_local

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("base", "unlearned"):
        (tmp_path / name).mkdir()
        save_file({"w": np.zeros(1, np.float32)}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}')
    return tmp_path / "base", tmp_path / "unlearned"


def settings(roots: tuple[Path, Path]) -> Settings:
    return compare_settings(open_local(roots[0]), open_local(roots[1]))


def changes(roots: tuple[Path, Path]) -> tuple[ConfigChange, ...]:
    return settings(roots).changes


def write(roots: tuple[Path, Path], name: str, base: Any, unlearned: Any) -> None:
    for root, value in zip(roots, (base, unlearned), strict=True):
        if value is not None:
            (root / name).write_text(value if isinstance(value, str) else json.dumps(value))


def test_nothing_to_report_against_itself(roots: tuple[Path, Path]) -> None:
    write(roots, "tokenizer.json", {"model": {"vocab": {"a": 0}}}, '{"model":{"vocab":{"a":0}}}')
    write(roots, "merges.txt", "a b", "a b")
    assert changes(roots) == ()


def test_keys_that_differ_and_keys_that_are_missing(roots: tuple[Path, Path]) -> None:
    old = {"a": {"b": 1, "c": None}, "_name_or_path": "x", "transformers_version": "1", "same": [1], "list": [1, 2]}
    new = {"a": {"b": 2.5}, "_name_or_path": "y", "same": [1], "list": [1, 3], "text": "\u2028\n"}
    write(roots, "config.json", old, new)
    assert changes(roots) == (
        ConfigChange("config.json", "a.b", "1", "2.5"),
        ConfigChange("config.json", "a.c", "null", None),
        ConfigChange("config.json", "list", "[1, 2]", "[1, 3]"),
        ConfigChange("config.json", "text", None, '"\\u2028\\n"'),
    )


def test_a_file_that_only_one_has(roots: tuple[Path, Path]) -> None:
    write(roots, "generation_config.json", {"top_p": 0.5}, None)
    assert changes(roots) == (ConfigChange("generation_config.json", "top_p", "0.5", None),)


def test_a_vocabulary_is_one_row(roots: tuple[Path, Path]) -> None:
    vocab = {f"t{index}": index for index in range(5000)}
    other = {key: value for key, value in vocab.items() if key != "t7"} | {"new": 7, "t8": 9, "t9": 8}
    merges: list[Any] = ["a b", "c d"]
    write(
        roots,
        "tokenizer.json",
        {"version": "1", "model": {"vocab": vocab, "merges": merges}},
        {"version": "2", "model": {"vocab": other, "merges": [["c", "d"], ["a", "b"], ["e", "f"]]}},
    )
    assert changes(roots) == (
        ConfigChange(
            "tokenizer.json",
            "model.vocab",
            '"5000 entries"',
            '"5000 entries, 1 added, 1 removed, 2 renumbered"',
        ),
        ConfigChange("tokenizer.json", "model.merges", '"2 entries"', '"3 entries, 1 added, 0 removed, 2 renumbered"'),
        ConfigChange("tokenizer.json", "version", '"1"', '"2"'),
    )


def test_unigram_scores_count_as_renumbered(roots: tuple[Path, Path]) -> None:
    write(
        roots,
        "tokenizer.json",
        {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}},
        {"model": {"vocab": [["a", -1.0], ["b", -2.5]]}},
    )
    (change,) = changes(roots)
    assert change.unlearned == '"2 entries, 0 added, 0 removed, 1 renumbered"'


def test_rows_are_capped_and_the_rest_is_counted(roots: tuple[Path, Path]) -> None:
    write(roots, "added_tokens.json", {}, {f"k{index}": index for index in range(MAX_ROWS + 50)})
    found = changes(roots)
    assert len(found) == MAX_ROWS + 1
    assert found[-1].unlearned == "50 more differences"


def test_long_values_are_cut_and_still_told_apart(roots: tuple[Path, Path]) -> None:
    write(roots, "config.json", {"x": "a" * 5000 + "b"}, {"x": "a" * 5000 + "c"})
    (change,) = changes(roots)
    assert change.base is not None
    assert len(change.base) < 500
    assert change.base != change.unlearned


def test_opaque_files_are_compared_by_digest(roots: tuple[Path, Path]) -> None:
    write(roots, "tokenizer.model", "one", "two")
    write(roots, "vocab.txt", None, "x")
    found = changes(roots)
    assert [(change.file, change.key) for change in found] == [("tokenizer.model", "sha256"), ("vocab.txt", "sha256")]
    assert found[1].base is None


def test_the_template_is_the_same_wherever_it_lies(roots: tuple[Path, Path]) -> None:
    write(roots, "chat_template.jinja", "{{ x }}", None)
    write(roots, "tokenizer_config.json", {"chat_template": "old"}, {"chat_template": "{{ x }}"})
    assert changes(roots) == ()
    write(roots, "tokenizer_config.json", None, {"chat_template": "{{ y }}"})
    assert changes(roots) == (ConfigChange("chat_template", "chat_template", '"{{ x }}"', '"{{ y }}"'),)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1, "a": 2}', "\udc00", '{"a":' * 3000 + "1" + "}" * 3000])
def test_a_broken_file_is_named(roots: tuple[Path, Path], text: str) -> None:
    (roots[1] / "tokenizer.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json") as caught:
        changes(roots)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "chat_template.jinja"])
def test_links_out_and_fifos_are_refused(roots: tuple[Path, Path], name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (roots[1] / name).symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="leaves the directory"):
        changes(roots)
    (roots[1] / name).unlink()
    os.mkfifo(roots[1] / name)
    with pytest.raises(CheckpointError, match="not a regular file"):
        changes(roots)


def test_a_bare_file_has_settings_that_were_not_compared(roots: tuple[Path, Path], tmp_path: Path) -> None:
    save_file({"w": np.zeros(1, np.float32)}, tmp_path / "lone.safetensors")
    found = compare_settings(open_local(tmp_path / "lone.safetensors"), open_local(roots[0]))
    assert found.changes == ()
    (row,) = found.uncompared
    assert (row.file, "lone.safetensors" in row.reason) == ("all settings", True)


def test_templates_are_the_same_in_every_way_of_keeping_them(roots: tuple[Path, Path]) -> None:
    named = [{"name": "default", "template": "{{ x }}"}, {"name": "tool_use", "template": "{{ y }}"}]
    write(roots, "tokenizer_config.json", {"chat_template": named}, None)
    write(roots, "chat_template.jinja", None, "{{ x }}")
    (roots[1] / "additional_chat_templates").mkdir()
    (roots[1] / "additional_chat_templates" / "tool_use.jinja").write_text("{{ y }}")
    assert changes(roots) == ()
    (roots[1] / "additional_chat_templates" / "tool_use.jinja").write_text("{{ z }}")
    assert changes(roots) == (ConfigChange("chat_template", "chat_template.tool_use", '"{{ y }}"', '"{{ z }}"'),)


@pytest.mark.parametrize("name", ["modeling_x.py", "custom_generate/generate.py", "tekken.json", "other.jinja"])
def test_code_and_settings_of_other_programs_are_compared(roots: tuple[Path, Path], name: str) -> None:
    for root in roots:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("one")
    assert settings(roots) == Settings(())
    (roots[1] / name).write_text("two")
    assert [(row.file, row.key) for row in changes(roots)] == [(name, "sha256")]
    (roots[1] / name).unlink()
    assert changes(roots)[0].unlearned is None


def test_a_file_that_nobody_knows_is_never_the_same_when_it_differs(roots: tuple[Path, Path]) -> None:
    write(roots, "mystery.json", {"a": 1}, {"a": 1})
    assert settings(roots) == Settings(())
    write(roots, "mystery.json", {"a": 1}, {"a": 2})
    assert [row.file for row in settings(roots).uncompared] == ["mystery.json"]
    assert changes(roots) == ()


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "trainer_state.json", "optimizer.pt", ".gitattributes"])
def test_what_says_nothing_about_the_model_is_no_setting(roots: tuple[Path, Path], name: str) -> None:
    (roots[0] / name).write_text("one")
    assert settings(roots) == Settings(())
