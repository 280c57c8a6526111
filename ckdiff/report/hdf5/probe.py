"""A probe as groups of a report file: `write_probe(found)`, `read_probe(node)`."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.hdf5.columns import (
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
from ckdiff.report.schema.probe import (
    CURVE_PARTS,
    SCORES,
    Control,
    Curve,
    LossSummary,
    NeuronRecord,
    NeuronSet,
    Probe,
    ProbeRun,
    QuestionRecord,
    flat_run,
)
from ckdiff.untrusted import printable

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


SETS = Table(
    dict,
    "set",
    "",
    {
        "direction": TEXT,
        "layer": COUNT._replace(comment="window centre; -1: the whole model"),
        "first": COUNT,
        "last": COUNT,
        "goal": NUMBER,
        "candidates": COUNT,
        **dict.fromkeys(("window_score", "score", "low", "high", "krs", "krs_centred"), NUMBER),
        **dict.fromkeys(("random_score", "random_low", "random_high"), NUMBER),
        "random_sets": COUNT,
        "total": NUMBER,
        "nodes": COUNT,
    },
)
"""Sets of neurons, but for what each has many of."""


MEMBERS = Table(NeuronRecord, "rank", "", {"layer": COUNT, "neuron": COUNT, "contribution": NUMBER})


SET_LOSSES = ("loss_mse", "loss_mse_centred", "loss_kl")


PROBE_TABLES = {"questions": QUESTIONS, "controls": CONTROLS}


PROBE_PARTS = ("loss_unlearned", *PROBE_TABLES, "notes", "neurons")
"""Groups of a probe that are not a direction."""


RUN_ARRAYS = (
    *("first", "last", "krs_mean_of_ratios", "top1"),
    *("loss_mse", "loss_mse_centred", "loss_kl", "top1_questions"),
)


RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*")
"""What a direction, mode or variant must look like, because it names a group."""


def write_probe(found: Probe) -> Node:
    """A probe as a group: one group a direction, mode and variant, and tables beside them.

    Sets of neurons, where there are any, are a table `neurons` with one group a set under its row's number.

    Raises:
        ReportError: two runs of one name, or a name that cannot name a group.
    """
    settings = json.dumps(dict(found.settings))
    node = Node({"model_type": found.model_type, "layer_count": found.layer_count, "settings": settings})
    node.groups["loss_unlearned"] = write_table(LOSSES, [found.loss_unlearned])
    for name, table in PROBE_TABLES.items():
        node.groups[name] = write_table(table, getattr(found, name))
    node.groups["notes"] = write_table(NOTES, map(Line, found.notes))
    if found.neurons:
        node.groups["neurons"] = write_table(SETS, found.neurons)
        node.groups["neurons"].groups |= {str(n): _write_set(one) for n, one in enumerate(found.neurons)}
    for order, run in enumerate(found.runs):
        variants = node
        for name in _path(run)[:-1]:
            variants = variants.groups.setdefault(name, Node())
        if run.variant in variants.groups:
            raise ReportError(f"two runs are called {'/'.join(_path(run))}; a report holds one of each")
        variants.groups[run.variant] = _write_run(run, order)
    return node


def _write_set(found: NeuronSet) -> Node:
    """What a set of neurons has many of: its neurons, the sizes that were tried, losses of questions."""
    node = write_table(MEMBERS, found.neurons)
    node.arrays["size"] = scale("size", found.sizes)
    node.arrays["sizes_score"] = Array(np.asarray(found.sizes_score, dtype="f8"), ("size",))
    node.arrays["question"] = scale("question", np.arange(len(found.loss_kl)))
    for name in SET_LOSSES:
        node.arrays[name] = Array(np.asarray(getattr(found, name), dtype="f8"), ("question",))
    return node


def _read_sets(node: Node | None) -> tuple[NeuronSet, ...]:
    rows = read_table(SETS, node)
    groups = node.groups if node is not None else {}
    return tuple(NeuronSet(**row, **_read_set(groups[str(number)])) for number, row in enumerate(rows))


def _read_set(node: Node) -> dict[str, Any]:
    arrays = {name: array.values for name, array in node.arrays.items()}
    losses = {name: arrays[name] for name in SET_LOSSES}
    return {
        "sizes": arrays["size"],
        "sizes_score": arrays["sizes_score"],
        "neurons": read_table(MEMBERS, node),
        **losses,
    }


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
        neurons=_read_sets(node.groups.get("neurons")),
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
