"""An HDF5 file as a tree of arrays, nothing in it trusted: `load_tree(path)`, run in a process of its own.

Whoever can write a report can write its seal as well, so that everything in it may be chosen to harm its reader. A
report holds plain arrays and plain attributes, all of them inside the file and each under one name. Whatever else HDF5
offers (links to other files or other names, storage outside, virtual data sets, filters from plug-ins, objects and
references) is refused by name, and nothing of it is opened.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.hdf5.columns import Array, Node
from ckdiff.report.schema import campaign as campaign_schema
from ckdiff.report.schema import report as schema
from ckdiff.untrusted import printable, quoted, shorten

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.shapes import AnyArray


MAX_EXPANSION = 1100
"""All arrays together are no larger than this many times their file (gzip reaches 1032)."""


MOST_BYTES = 1 << 29
"""Nor larger than this, whatever the file."""


MOST_OBJECTS = 200_000
"""Groups and arrays; a campaign of a hundred pairs has some ten thousand."""


MAX_DEPTH = 8


MAX_ATTRIBUTE = 64_000
"""Bytes of a text that is an attribute: HDF5 holds no attribute of 64 KB in files that old readers open."""


MOST_ATTRIBUTES = 200
"""Of one group."""


FILTERS = (1, 2, 3)
"""gzip, shuffle and fletcher32, as the HDF5 library numbers them. Others are looked up in plug-ins."""


KINDS = "iufS"
"""Whole numbers, floats and texts of fixed length, as NumPy names them."""


SCHEMAS = {schema.FORMAT: schema.SCHEMA_VERSION, campaign_schema.FORMAT: campaign_schema.CAMPAIGN_VERSION}
"""What a file can say that it is, and up to which schema this ckdiff reads it."""


def load_tree(path: Path, name: str) -> Node:
    """The groups and arrays of a report's file.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        ReportError: it is none of ckdiff's, a newer ckdiff wrote it, or it holds what no report holds.
        OSError, KeyError, ValueError, RuntimeError, TypeError: it is damaged.
    """
    import h5py

    limit = min(MAX_EXPANSION * path.stat().st_size, MOST_BYTES)
    # No lock: a report is replaced, never changed, and some network file systems have none.
    with h5py.File(path, "r", locking=False) as file:
        loader = _Loader(name, limit)
        attributes = loader.attributes(file.id)
        known = SCHEMAS.get(str(attributes.get("format", "")))
        if known is None:
            raise ReportError(f"{name}: HDF5, but not a ckdiff report; give a file that ckdiff wrote")
        version = int(attributes["schema_version"])
        if version > known:
            raise ReportError(f"{name}: {_newer(version, known, attributes.get('versions', ''))}")
        return loader.group(file, MAX_DEPTH)


def _newer(version: int, most: int, versions: object) -> str:
    """What to do about a report whose schema this ckdiff does not know: which version reads it, where it says so."""
    known = f"this one reads up to {most}"
    try:
        writer = shorten(printable(json.loads(str(versions))["ckdiff"]), 40)
    except (ValueError, KeyError, TypeError):
        return f"written by a newer ckdiff (schema {version}); {known}; upgrade ckdiff"
    return f"written by ckdiff {writer} (schema {version}); {known}; upgrade to ckdiff {writer} or later"


@dataclass(slots=True)
class _Loader:
    """A walk over a file: what is left of its bounds, and which objects were met."""

    name: str
    left: int
    met: set[int] = field(default_factory=set)

    def group(self, group: Any, depth: int) -> Node:
        import h5py

        if depth == 0:
            raise ValueError("groups inside groups without end")
        node = Node(self.attributes(group.id))
        for key in group:
            link = group.id.links.get_info(key.encode())
            if link.type != h5py.h5l.TYPE_HARD:
                self.refuse(f"{quoted(key)} is a link to another place")
            self.meet(link.u, key)
            item = h5py.h5o.open(group.id, key.encode())
            if isinstance(item, h5py.h5g.GroupID):
                node.groups[key] = self.group(h5py.Group(item), depth - 1)
            elif isinstance(item, h5py.h5d.DatasetID):
                node.arrays[key] = Array(self.array(item, key), ())
            else:
                self.refuse(f"{quoted(key)} is neither a group nor an array")
        return node

    def meet(self, address: int, key: str) -> None:
        """Refuse an object that was met under another name already, and too many of them."""
        if address in self.met:
            self.refuse(f"{quoted(key)} is another name of what has one already")
        self.met.add(address)
        if len(self.met) > MOST_OBJECTS:
            raise ValueError(f"more than {MOST_OBJECTS} groups and arrays")

    def array(self, item: Any, key: str) -> AnyArray:
        """The values of an array; `item` is the library's own handle, which is several times faster than h5py's."""
        import h5py

        plan, dtype, shape = item.get_create_plist(), item.dtype, item.shape
        filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
        if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
            self.refuse(f"the values of {quoted(key)} lie in another file")
        if any(one not in FILTERS for one in filters):
            self.refuse(f"{quoted(key)} is packed by a filter that no report uses")
        if dtype.kind not in KINDS or dtype.subdtype is not None or shape is None:
            self.refuse(f"{quoted(key)} holds neither numbers nor texts")
        size = dtype.itemsize * math.prod(shape)
        self.left -= size
        if self.left < 0:
            raise ValueError(f"{key} claims {size} bytes, more than all arrays of such a file can have")
        values: AnyArray = np.empty(shape, dtype)
        if size:
            item.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
        return _plain(values)

    def attributes(self, holder: Any) -> dict[str, str | int]:
        import h5py

        count = h5py.h5a.get_num_attrs(holder)
        if count > MOST_ATTRIBUTES:
            raise ValueError(f"a group with {count} attributes")
        found: dict[str, str | int] = {}
        for number in range(count):
            opened = h5py.h5a.open(holder, index=number, index_type=h5py.h5.INDEX_CRT_ORDER)
            key, dtype = opened.name.decode(), opened.dtype
            if opened.shape != () or dtype.kind not in "iuS":
                self.refuse(f"attribute {quoted(key)} is neither a text nor a whole number")
            if opened.get_storage_size() > MAX_ATTRIBUTE:
                raise ValueError(f"attribute {key} claims {opened.get_storage_size()} bytes")
            value = np.empty((), dtype)
            opened.read(value)
            held = value.item()
            found[key] = held.decode() if isinstance(held, bytes) else int(held)
        return found

    def refuse(self, reason: str) -> None:
        raise ReportError(f"{self.name}: not written by ckdiff: {reason}; do not trust it, ask for the report anew")


def _plain(values: AnyArray) -> AnyArray:
    """Without the marks that h5py leaves on a string dtype."""
    return values.astype(f"S{values.dtype.itemsize}") if values.dtype.kind == "S" else values
