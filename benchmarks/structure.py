"""The shape of the house, as a list: `python benchmarks/structure.py [CHECKOUT]`.

Rooms are the modules and folders right below a package; an arrow leads from a room to one whose modules it imports (in
functions too, for types too); a floor is one more than the highest floor that a room's arrows lead to. A circle is a
set of modules that import each other, directly or by others.
"""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx  # type: ignore[import-untyped]  # comes with torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    Graph = Any
    """A `networkx.DiGraph` of dotted names."""

LONG_MODULE = 400
LONG_FUNCTION = 40


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All of a file's syntax."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports_of(path: Path, known: set[str]) -> Iterator[str]:
    """Modules of the package that a file imports."""
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield from ([full] if full in known else [node.module] if node.module in known else [])
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def graph_of(root: Path) -> Graph:
    """Modules of the package `ckdiff` in a checkout, and their imports."""
    paths = {name_of(path, root): path for path in sorted((root / "ckdiff").rglob("*.py"))}
    graph: Graph = nx.DiGraph()
    graph.add_nodes_from(paths)
    for name, path in paths.items():
        graph.add_edges_from((name, other) for other in imports_of(path, set(paths)) if other != name)
    return graph


def name_of(path: Path, root: Path) -> str:
    """A file's dotted name."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def rooms_of(graph: Graph, package: str) -> Graph:
    """The rooms right below a package, and the arrows between them."""
    depth = package.count(".") + 2
    inside = {name: ".".join(name.split(".")[:depth]) for name in graph if name.startswith(f"{package}.")}
    rooms: Graph = nx.DiGraph()
    rooms.add_nodes_from(inside.values())
    pairs = ((inside.get(one), inside.get(other)) for one, other in graph.edges)
    rooms.add_edges_from((one, other) for one, other in pairs if one and other and one != other)
    return rooms


def floors(rooms: Graph) -> int:
    """Floors of a set of rooms; rooms in a circle share one."""
    return int(nx.dag_longest_path_length(nx.condensation(rooms))) + 1 if rooms else 0


def long_parts(root: Path) -> tuple[list[str], list[str]]:
    """Modules of more than 400 lines, and functions of more than 40."""
    modules, functions = [], []
    for path in sorted((root / "ckdiff").rglob("*.py")):
        text = path.read_text()
        if text.count("\n") > LONG_MODULE:
            modules.append(f"{path.relative_to(root)} ({text.count(chr(10))})")
        for node in nodes_of(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
                size = node.end_lineno - node.lineno + 1
                functions += [f"{name_of(path, root)}.{node.name} ({size})"] if size > LONG_FUNCTION else []
    return modules, functions


def main(root: Path) -> None:
    """Print the list."""
    graph = graph_of(root)
    for package in ("ckdiff", *sorted(f"ckdiff.{path.name}" for path in (root / "ckdiff").iterdir() if path.is_dir())):
        rooms = rooms_of(graph, package)
        circles = sum(len(part) > 1 for part in nx.strongly_connected_components(rooms))
        if rooms:
            words = f"{len(rooms)} rooms, {floors(rooms)} floors, {rooms.number_of_edges()} arrows, {circles} circles"
            lines = sum(path.read_text().count("\n") for path in root.joinpath(*package.split(".")).rglob("*.py"))
            sys.stdout.write(f"{package:<20}{words}, {lines:,} lines\n")
    rings = [sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1]
    sys.stdout.write(f"circles of modules: {rings or 'none'}\n")
    modules, functions = long_parts(root)
    sys.stdout.write(f"modules over {LONG_MODULE} lines: {', '.join(modules) or 'none'}\n")
    sys.stdout.write(f"functions over {LONG_FUNCTION} lines: {len(functions)}: {', '.join(functions)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
