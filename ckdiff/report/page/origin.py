"""Where the numbers come from: checkpoints by digest, versions, and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.page.markup import Safe, cut, facts, folded, joined, left_out, table, tag
from ckdiff.report.page.restoring import settings
from ckdiff.report.words.numbers import BYTE_UNITS, amount, counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import CheckpointRecord, Report

LISTED_SHARDS = 200


def provenance(report: Report) -> Safe:
    """Both checkpoints, the versions, and every setting."""
    sides = (("Base", report.provenance.base), ("Unlearned", report.provenance.unlearned))
    return joined(*(_checkpoint(name, side) for name, side in sides), *_settings(report), _versions(report))


def _checkpoint(name: str, side: CheckpointRecord) -> Safe:
    rows = [
        (
            tag("code", cut(one.name, 160)),
            amount(one.bytes, BYTE_UNITS),
            tag("code", cut(one.sha256 or "not hashed", 100)),
        )
        for one in side.shards[:LISTED_SHARDS]
    ]
    shards = table(f"{name}: weight files", ("file", "size", "sha256"), rows, words=(0, 2))
    return joined(
        tag("h3", name),
        facts(_facts(side)),
        folded(counted(len(side.shards), "weight file"), shards, left_out(len(side.shards) - LISTED_SHARDS, "file"))
        if rows
        else None,
    )


def _facts(side: CheckpointRecord) -> Iterator[tuple[str, str]]:
    yield "location", tag("code", cut(side.location))
    if side.revision is not None:
        yield "revision", tag("code", cut(side.revision))
    none = "none: the files were not hashed, so that nothing here is bound to any weights"
    yield "digest", none if side.digest is None else tag("code", cut(side.digest))


def _settings(report: Report) -> Iterator[Safe]:
    found = (("Settings of the probe", report.probe), ("Settings of the answers", report.behaviour))
    for name, section in found:
        if section is not None:
            yield settings(name, section.settings)


def _versions(report: Report) -> Safe:
    said = ", ".join(f"{cut(name, 80)} {cut(version, 80)}" for name, version in sorted(report.versions.items()))
    model = next((one.model_type for one in (report.compare, report.probe, report.behaviour) if one is not None), "")
    rows = [("versions", said or "not recorded"), ("report schema", str(report.schema_version))]
    return joined(tag("h3", "Versions"), facts([("model type", cut(model) or "not known"), *rows]))
