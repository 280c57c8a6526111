"""What is stored, held against what follows: `compare(where, stored, wanted, differences)`, whatever the record.

`wanted` is a mapping of field to what follows from the rest of the report, no more than that; records inside are such
mappings too, or whole records that were computed again. Each float has the tolerance of its field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.report.hdf5.columns import encoded
from ckdiff.report.schema.comparison import ComponentDrift, Grid, TensorDrift
from ckdiff.report.schema.layout import Named, Rows, Tree, fields_of
from ckdiff.report.schema.probe import Control, NeuronSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.layout import Field


NEAR = {"relative": 1e-9, "absolute": 1e-9}
"""Of every float that has no other. Scores are shares of 1, so that they are held to an absolute difference too."""


EXACT = {"relative": 1e-12}


SUMS = {"relative": 1e-6, "absolute": 1e-12}
"""1 - cos of several tensors loses digits when it is put together from theirs, those of a cosine of 1 - 1e-9 first."""


OWN = {"relative": 2e-3, "absolute": 1e-9}
"""Within one tensor: lengths and the angle come from float32 products where the weights are 16-bit."""


TOLERANCES: dict[type, dict[str, dict[str, float]]] = {
    TensorDrift: {"changed_fraction": EXACT, "cosine": EXACT, "relative_l2": OWN},
    ComponentDrift: {
        **dict.fromkeys(("changed_fraction", "cosine", "cosine_min"), EXACT),
        **dict.fromkeys(("norm_base", "norm_unlearned", "max_abs_diff", "relative_l2", "one_minus_cosine"), SUMS),
    },
    Grid: dict.fromkeys(("cosine", "one_minus_cosine", "relative_l2", "changed_fraction"), SUMS),
}
"""By record and field."""


def control_name(control: Control) -> str:
    """Which control of a probe it is."""
    layer = "the whole model" if control.layer is None else f"layer {control.layer}"
    run = f" {control.mode} {control.variant} {layer}" if control.mode else ""
    score = f" {control.score}" if control.score else ""
    return f"{control.name} {control.direction}{run}{score}"


def set_name(found: NeuronSet) -> str:
    """Which set of neurons it is."""
    return f"{found.direction} layers {found.first}-{found.last}"


NAMES: dict[type, Callable[[Any], str]] = {
    Control: lambda control: f"/{control_name(control)}:",
    NeuronSet: lambda found: f" {set_name(found)}",
}
"""Rows that their figures name; others have the name that they have in the file, or a number."""


def compare(where: str, stored: Any, wanted: Any, differences: Differences) -> None:
    """Hold a record against what follows: field by field, all the way down.

    Args:
        where: its place, for people.
        stored: the record.
        wanted: by field what it must be, or a whole record of its class.
        differences: gets what is not so.
    """
    if stored is wanted:
        return
    tolerances = TOLERANCES.get(type(stored), {})
    for field, value in _expected(stored, wanted):
        # A part's figures have names of their own, as in files.
        name = field.name if len(field.path) > 1 else field.path[0]
        place = where if getattr(field.place, "inside", isinstance(field.place, Named)) else f"{where}/{name}"
        if where.endswith(":"):
            place = f"{where} {name}"
        _compare_field(place, field, field.of(stored), value, differences, tolerances.get(name, NEAR))


def _expected(stored: Any, wanted: Any) -> Iterator[tuple[Field, Any]]:
    """The fields about which something follows, each with what; a part may be given whole."""
    for field in fields_of(type(stored)):
        if is_dataclass(wanted):
            yield field, field.of(wanted)
        elif is_dataclass(part := wanted.get(field.path[0])) and len(field.path) > 1:
            yield field, getattr(part, field.path[1])
        elif field.name in wanted:
            yield field, wanted[field.name]


def _compare_field(
    where: str, field: Field, stored: Any, wanted: Any, differences: Differences, tolerance: Mapping[str, float]
) -> None:
    if isinstance(stored, tuple) and isinstance(wanted, Sequence) and isinstance(field.place, Rows | Tree | Named):
        _compare_rows(where, field, stored, wanted, differences)
    elif is_dataclass(stored) and wanted is not None:
        compare(where, stored, wanted, differences)
    elif isinstance(stored, np.ndarray):
        differences.arrays(where, stored, np.asarray(wanted), **tolerance)
    elif isinstance(stored, float) and isinstance(wanted, float | int):
        differences.close(where, stored, float(wanted), **tolerance)
    elif isinstance(stored, Mapping):
        for name, value in wanted.items():
            differences.exact(f"{where}/{name}", stored.get(name), value)
    elif isinstance(stored, str) and isinstance(wanted, str):
        # A report keeps what UTF-8 cannot hold as an escape.
        differences.exact(where, stored, encoded(wanted).decode())
    else:
        differences.exact(where, stored, wanted)


def _compare_rows(
    where: str, field: Field, stored: Sequence[Any], wanted: Sequence[Any], differences: Differences
) -> None:
    if len(stored) != len(wanted):
        differences.add(f"{where}: how many", len(stored), len(wanted))
    for number, (row, value) in enumerate(zip(stored, wanted, strict=False)):
        if is_dataclass(row):
            compare(f"{where}{_row_name(field, number, row)}", row, value, differences)
        else:
            _compare_field(f"{where}/{number}", field._replace(place=None), row, value, differences, NEAR)


def _row_name(field: Field, number: int, row: Any) -> str:
    if type(row) in NAMES:
        return NAMES[type(row)](row)
    match field.place:
        case Tree(path=path):
            return "/" + "/".join(getattr(row, name) for name in path)
        case Rows(key=key) if key:
            return f"/{getattr(row, key)}"
        case Named():
            return f"/{row.name}"
    name = getattr(row, "name", "")
    return f"/{number} ({name})" if name else f"/{number}"
