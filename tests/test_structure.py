"""The shape of the house: no circle of modules, no long module, no long function."""

from __future__ import annotations

from pathlib import Path

import networkx as nx  # type: ignore[import-untyped]
import structure

ROOT = Path(__file__).parent.parent


def circles(root: Path) -> list[list[str]]:
    return [sorted(part) for part in nx.strongly_connected_components(structure.graph_of(root)) if len(part) > 1]


def test_no_circle_and_nothing_long() -> None:
    assert (circles(ROOT), structure.long_parts(ROOT)) == ([], ([], []))
    rooms = structure.rooms_of(structure.graph_of(ROOT), "ckdiff")
    assert [part for part in nx.strongly_connected_components(rooms) if len(part) > 1] == []


def test_circles_and_long_parts_are_found(tmp_path: Path) -> None:
    package = tmp_path / "ckdiff"
    package.mkdir()
    (package / "one.py").write_text("def far() -> None:\n    from ckdiff import two\n")
    (package / "two.py").write_text("import ckdiff.one\n")
    (package / "long.py").write_text("def long() -> None:\n" + "    pass\n" * 40 + "\n" * 360)
    assert circles(tmp_path) == [["ckdiff.one", "ckdiff.two"]]
    assert structure.long_parts(tmp_path) == (["ckdiff/long.py (401)"], ["ckdiff.long.long (41)"])
