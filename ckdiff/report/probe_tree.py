"""A probe as groups of a report file: `write_probe(found)`, `read_probe(node)`."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.columns import (
    COUNT,
    FLAG,
    IDS,
    LAYER,
    NOTES,
    NUMBER,
    TEXT,
    Array,
    Line,
    Node,
    Table,
    read_table,
    scale,
    write_table,
)
from ckdiff.report.probe_text import CURVE_PARTS, flat_run
from ckdiff.report.schema import SCORES, Control, Curve, LossSummary, Probe, ProbeRun, QuestionRecord
from ckdiff.report.text import printable

LOSSES = Table(LossSummary, "summary", "", dict.fromkeys(("mse", "mse_centred", "kl", "top1", "shift_share"), NUMBER))
QUESTIONS = Table(
    QuestionRecord,
    "question",
    "",
    {
        "text": TEXT,
        "answer": TEXT,
        "answer_ids": IDS,
        "prompt_tokens": COUNT,
        **dict.fromkeys(("mse", "mse_centred", "kl", "top1"), NUMBER),
    },
)
CONTROLS = Table(
    Control,
    "control",
    "",
    {
        **dict.fromkeys(("name", "direction", "mode", "variant"), TEXT),
        "layer": LAYER._replace(comment="window centre; -1: not about a single window"),
        "score": TEXT,
        "value": NUMBER,
        "against": NUMBER,
        "bound": NUMBER,
        "kind": TEXT,
        "passed": FLAG,
    },
)

PROBE_TABLES = {"questions": QUESTIONS, "controls": CONTROLS}
PROBE_PARTS = ("loss_unlearned", *PROBE_TABLES, "notes")
"""Groups of a probe that are not a direction."""
RUN_ARRAYS = (
    *("first", "last", "krs_mean_of_ratios", "top1"),
    *("loss_mse", "loss_mse_centred", "loss_kl", "top1_questions"),
)
RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*")
"""What a direction, mode or variant must look like, because it names a group."""


def write_probe(found: Probe) -> Node:
    """A probe as a group: one group a direction, mode and variant, and tables beside them.

    Raises:
        ReportError: two runs of one name, or a name that cannot name a group.
    """
    settings = json.dumps(dict(found.settings))
    node = Node({"model_type": found.model_type, "layer_count": found.layer_count, "settings": settings})
    node.groups["loss_unlearned"] = write_table(LOSSES, [found.loss_unlearned])
    for name, table in PROBE_TABLES.items():
        node.groups[name] = write_table(table, getattr(found, name))
    node.groups["notes"] = write_table(NOTES, map(Line, found.notes))
    for order, run in enumerate(found.runs):
        variants = node
        for name in _path(run)[:-1]:
            variants = variants.groups.setdefault(name, Node())
        if run.variant in variants.groups:
            raise ReportError(f"two runs are called {'/'.join(_path(run))}; a report holds one of each")
        variants.groups[run.variant] = _write_run(run, order)
    return node


def _path(run: ProbeRun) -> tuple[str, str, str]:
    """The groups that lead to a run.

    Raises:
        ReportError: a name that no group can have.
    """
    path = run.direction, run.mode, run.variant
    for name in path:
        if not RUN_NAME.fullmatch(name) or path[0] in PROBE_PARTS:
            raise ReportError(
                f"a run cannot be stored under the name '{printable(name)}'; use letters, digits and +-_."
            )
    return path


def _write_run(run: ProbeRun, order: int) -> Node:
    """One run; `order` is its place among all, which the tree of names does not keep."""
    node = Node({"window": run.window, "order": order})
    values = flat_run(run)
    node.arrays["layer"] = scale("layer", values.pop("layers"))._replace(comment="window centre; -1: the whole model")
    node.arrays["question"] = scale("question", np.arange(run.loss_mse.shape[1]))
    for name, array in values.items():
        if isinstance(array, np.ndarray):
            kind = "i8" if name in ("first", "last") else "f8"
            node.arrays[name] = Array(array.astype(kind), ("layer", "question")[: array.ndim])
    return node


def read_probe(node: Node) -> Probe:
    """The probe that a group holds, its runs in the order in which they were written."""
    runs = [
        (variant.attributes["order"], _read_run((direction, mode, name), variant))
        for direction, modes in node.groups.items()
        if direction not in PROBE_PARTS
        for mode, variants in modes.groups.items()
        for name, variant in variants.groups.items()
    ]
    tables = {name: read_table(table, node.groups.get(name)) for name, table in PROBE_TABLES.items()}
    (losses,) = read_table(LOSSES, node.groups["loss_unlearned"])
    return Probe(
        model_type=str(node.attributes["model_type"]),
        layer_count=int(node.attributes["layer_count"]),
        runs=tuple(run for _, run in sorted(runs, key=lambda pair: pair[0])),
        loss_unlearned=losses,
        settings=json.loads(str(node.attributes["settings"])),
        notes=tuple(line.text for line in read_table(NOTES, node.groups.get("notes"))),
        **tables,
    )


def _read_run(path: tuple[str, str, str], node: Node) -> ProbeRun:
    arrays = {name: array.values for name, array in node.arrays.items()}
    values: dict[str, Any] = {name: arrays[name] for name in RUN_ARRAYS}
    for score in SCORES:
        values[score] = Curve(**{part: arrays[score + end] for end, part in CURVE_PARTS.items()})
    direction, mode, variant = path
    window = int(node.attributes["window"])
    return ProbeRun(direction, mode, variant, window, arrays["layer"], **values)
