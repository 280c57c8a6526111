"""The report: frozen records that every command fills and every presenter reads.

The schema is the narrow waist of ckdiff. It knows NumPy and nothing else of the project but the ground below, so
that a report can be opened, shown and judged without torch. A new section is a record and one field of `Report`.
Field names are a contract with other people's scripts: add, never rename, and raise `SCHEMA_VERSION` when the meaning
of something changes.

`NaN` in a float field means "not defined here" and is written as `null` in JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from ckdiff.report.schema.attack import AttackReport
from ckdiff.report.schema.behaviour import Behaviour
from ckdiff.report.schema.brief import Brief
from ckdiff.report.schema.comparison import Comparison
from ckdiff.report.schema.depth import DepthReport
from ckdiff.report.schema.discovery import DiscoveryReport
from ckdiff.report.schema.layout import Rows
from ckdiff.report.schema.probe import Probe
from ckdiff.report.schema.verdict import Verdict

FORMAT = "ckdiff"


SCHEMA_VERSION = 1


Side = Literal["base", "unlearned"]


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One weight file: its name, its size in bytes, and its sha256 (None when hashing was switched off)."""

    name: str
    bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class SettingRecord:
    """One file around the weights (config, tokenizer, chat template, an adapter's config), by its sha256."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, repr=False)
class CheckpointRecord(Brief):
    """Which checkpoint was read.

    Attributes:
        location: absolute path, or hub id.
        revision: the hub commit, or None for a local path.
        digest: sha256 over the sorted lines "name sha256" of its shards, or None without hashes.
        shards: weight files, sorted by name.
        settings: files around the weights, sorted by name; empty without hashes, and in older files.
    """

    GIST = ("location",)

    location: str
    revision: str | None
    digest: str | None
    shards: Annotated[tuple[ShardRecord, ...], Rows("shard", key="name", inside=True)]
    settings: Annotated[tuple[SettingRecord, ...], Rows("file", key="name")] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Provenance(Brief):
    """The two checkpoints that every number of the report is about."""

    GIST = ("base", "unlearned")

    base: CheckpointRecord
    unlearned: CheckpointRecord


@dataclass(frozen=True, slots=True, repr=False)
class Report(Brief):
    """Everything that is known about one pair of checkpoints.

    Attributes:
        versions: of ckdiff and of the libraries whose arithmetic the numbers rest on.
        complete: False while a run that was interrupted has left some of its parts.
    """

    GIST = ("provenance",)

    provenance: Provenance
    compare: Comparison | None = None
    probe: Probe | None = None
    behaviour: Behaviour | None = None
    verdict: Verdict | None = None
    attack: AttackReport | None = None
    depth: DepthReport | None = None
    discovery: DiscoveryReport | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    schema_version: int = SCHEMA_VERSION
