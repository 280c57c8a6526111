"""A campaign's plan, read from its file: `read_plan(Path("campaign.toml"))`.

TOML; docs/campaign.md lists every key. Unknown keys are refused: nobody would measure a misspelt wish. Globs and
concepts are written out, so that whatever a plan asks for is there before the first job begins; weights are not read.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckdiff.audit.gate.measures import FILES
from ckdiff.audit.gate.policy import BUNDLED, read_policy
from ckdiff.campaign.plan.kinds import ASKED, ATTACK, AUDIT, MEASURES, PAIR, PLAN, RESOURCES, Where, check_table, label
from ckdiff.campaign.plan.paths import absolute, checkpoint, checkpoints, data, directory, file, is_glob
from ckdiff.campaign.plan.topics import NOTHING, Asked, Shelf, topics
from ckdiff.campaign.records import PairPlan, Plan, Resources
from ckdiff.errors import CkdiffError
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ckdiff.audit.gate.records import Policy
    from ckdiff.campaign.plan.paths import Matched


MOST_BYTES = 1 << 20


MOST_JOBS = 10_000


RUNS = ("audit",)
"""What is done with a pair where nothing is said."""


WILD = "{}"
"""What a name has for what wildcards matched."""


@dataclass(slots=True)
class _Reading:
    """A plan while it is read: its own keys, which are the pairs' defaults, and files that were read already."""

    where: Where
    folder: Path
    table: Mapping[str, Any]
    measure: Mapping[str, Any]
    shelf: Shelf
    policies: dict[Path, Policy] = field(default_factory=dict)


def read_plan(path: Path, results: Path | None = None) -> Plan:
    """Read a plan's file.

    Args:
        path: the file; paths in it begin in its folder.
        results: the results directory, in the place of the one that the plan names.

    Raises:
        PlanError: there is none, it is no TOML, or it asks for what does not exist.
    """
    place = Path(os.path.abspath(path))
    where = Where(place.name)
    text = _text(where, path)
    table = check_table(where, "a plan", _parse(where, text), PLAN)
    for key in ("name", "pairs"):
        if key not in table:
            wanted = "a name for these results, of letters, digits, . _ -" if key == "name" else "a table [[pairs]]"
            raise where.at(key).refusal(f"is missing; give {wanted}")
    measure = check_table(where.at("measure"), "[measure]", table.get("measure", {}), MEASURES)
    resources = check_table(where.at("resources"), "[resources]", table.get("resources", {}), RESOURCES)
    reading = _Reading(where, place.parent, table, measure, Shelf(place.parent))
    return Plan(
        name=table["name"],
        text=text,
        source=place.name,
        results=_results(where, place, table, results),
        pairs=_pairs(reading),
        resources=Resources(**resources),
    )


def _text(where: Where, path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise where.refusal("not a regular file; name a plan, a TOML file")
        with path.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise where.refusal("too large for a plan; give a TOML file of at most 1 MB")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise where.refusal(f"cannot be read ({error.strerror}); name a plan, a TOML file") from error
    except UnicodeDecodeError as error:
        raise where.refusal(f"not UTF-8 (byte {error.start}); save the plan as UTF-8") from error


def _parse(where: Where, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # An integer of thousands of digits is a ValueError of Python's own.
        raise where.refusal(f"no TOML: {str(error)[:200]}") from error


def _results(where: Where, place: Path, table: Mapping[str, Any], given: Path | None) -> Path:
    if given is not None:
        return Path(os.path.abspath(given))
    found = Path(absolute(place.parent, table.get("results", place.stem)))
    if found == place:
        raise where.at("results").refusal("would be the plan's own file; name a folder for the results")
    return found


def _pairs(reading: _Reading) -> tuple[PairPlan, ...]:
    """Every pair, if there are not too many and each has a name of its own."""
    found: dict[str, tuple[PairPlan, Where]] = {}
    jobs = 0
    for number, raw in enumerate(reading.table["pairs"], 1):
        where = reading.where.at(f"pairs[{number}]")
        for pair in _write_out(reading, where, check_table(where, "a pair", raw, PAIR)):
            jobs += _jobs_of(pair)
            if jobs > MOST_JOBS:
                raise where.refusal(f"with it the plan has more than {MOST_JOBS} jobs; split it into several plans")
            if pair.name in found:
                problem = f"{quoted(pair.name)} is the name of {found[pair.name][1].key} already"
                raise where.at("name").refusal(f"{problem}; give every pair a name of its own")
            found[pair.name] = pair, where
    return tuple(pair for pair, _ in found.values())


def _jobs_of(pair: PairPlan) -> int:
    return sum(1 if run == "compare" else len(pair.topics) for run in pair.runs)


def _write_out(reading: _Reading, where: Where, table: Mapping[str, Any]) -> Iterator[PairPlan]:
    """The pairs of one table: one, or one for each checkpoint that a glob matches."""
    folder = reading.folder
    for key, remedy in (("base", "give it here, or once for the plan"), ("unlearned", "name a checkpoint")):
        if key not in table and (key == "unlearned" or key not in reading.table):
            raise where.at(key).refusal(f"is missing; {remedy}")
    base = _checkpoint(reading, where, table, "base")
    assert base is not None
    runs = table.get("runs", reading.table.get("runs", RUNS))
    asked = topics(
        Asked(where, _questions_in(table)),
        Asked(reading.where.at("measure"), _questions_in(reading.measure)),
        reading.shelf,
    )
    tokenizer = table.get("tokenizer")
    beside = _reference(reading, where, table)
    pair = PairPlan(
        name="",
        group=table.get("group", ""),
        base=base,
        unlearned="",
        # A comparison asks nothing.
        topics=NOTHING if runs == ("compare",) else asked,
        runs=runs,
        required=table.get("required", True),
        measure=_measure(reading),
        policy=_policy(reading, where, table),
        **_beside(reading, where, runs, beside),
        adapter_base=_checkpoint(reading, where, table, "adapter_base"),
        tokenizer=None if tokenizer is None else directory(where.at("tokenizer"), folder, tokenizer),
    )
    wild = is_glob(folder, table["unlearned"])
    for match in checkpoints(where.at("unlearned"), folder, table["unlearned"]):
        yield replace(pair, name=_name(where, table, match, wild), unlearned=match.checkpoint)


def _questions_in(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: table[key] for key in ASKED if key in table}


def _name(where: Where, table: Mapping[str, Any], match: Matched, wild: bool) -> str:
    where = where.at("name")
    given = table.get("name")
    if given is None:
        if not match.name:
            raise where.refusal(f"is missing; {quoted(match.checkpoint)} is no path that could give it one")
        return _check_name(where, match.name, f"{quoted(match.name)} cannot be one; give the pair a name that is")
    if wild != (WILD in given):
        problem = "a glob stands for many pairs; write {} in their name, for what its wildcards matched"
        raise where.refusal(problem if wild else "{} stands for what a glob matched, and unlearned is none")
    named: str = given.replace(WILD, match.name)
    return _check_name(where, named, f"{quoted(named)} cannot be one; write another glob or name, to make it")


def _check_name(where: Where, name: str, problem: str) -> str:
    try:
        return label(name)
    except ValueError as error:
        raise where.refusal(f"{problem} {error}") from error


def _where_of(reading: _Reading, where: Where, table: Mapping[str, Any], key: str) -> tuple[Where, str | None]:
    """A pair's own text, else the plan's, and where it stands."""
    if key in table:
        return where.at(key), table[key]
    return reading.where.at(key), reading.table.get(key)


def _checkpoint(reading: _Reading, where: Where, table: Mapping[str, Any], key: str) -> str | None:
    place, text = _where_of(reading, where, table, key)
    return None if text is None else checkpoint(place, reading.folder, text)


def _policy(reading: _Reading, where: Where, table: Mapping[str, Any]) -> Policy | None:
    place, text = _where_of(reading, where, table, "policy")
    if text is None:
        return None
    path = Path(text) if text in BUNDLED and not (reading.folder / text).exists() else file(place, reading.folder, text)
    if path not in reading.policies:
        try:
            reading.policies[path] = read_policy(path)
        except CkdiffError as error:
            raise place.refusal(str(error)) from error
    return reading.policies[path]


ABOUT_REFERENCES = {
    "reference_kind": "says how a reference came about",
    "margins": "is the report of a second model that never knew, beside a reference",
}
"""Keys that say something about a reference, and what."""


def _reference(reading: _Reading, where: Where, table: Mapping[str, Any]) -> dict[str, Any]:
    """The model that never knew, of a pair or else of the plan, its path written out; nothing where none is named."""
    found = {"reference": _checkpoint(reading, where, table, "reference")}
    for key, about in ABOUT_REFERENCES.items():
        place, text = _where_of(reading, where, table, key)
        if found["reference"] is None and text is not None:
            raise place.refusal(f"{about}; name it as reference")
        if text is not None and (key in table or "reference" not in table):
            # What the plan says is about the plan's model.
            found[key] = str(file(place, reading.folder, text)) if key == "margins" else text
    return {} if found["reference"] is None else found


def _beside(reading: _Reading, where: Where, runs: tuple[str, ...], beside: dict[str, Any]) -> dict[str, Any]:
    """Which attacks are made of a pair by `attack` and by `audit`, and what each run has beside it.

    Raises:
        PlanError: depth without a reference, or a reference that no run has beside it.
    """
    attack, audit = _attack(reading, where, runs, beside), _audit(reading, runs, beside)
    if "depth" in runs and not beside:
        raise where.at("reference").refusal("is missing: depth is measured beside a model that never knew; name one")
    if beside and audit.get("tiers") == () and not {"attack", "depth", "behave"} & {*runs}:
        place = where.at("reference")
        raise place.refusal("stands beside attacks, and the audits make none; leave out tiers = [] in [audit]")
    alone = {"depth", "behave"} & {*runs}
    own = {key: value for key, value in beside.items() if key != "margins"} if alone else {}
    return {"attack": attack, "audit": audit, **own}


def _audit(reading: _Reading, runs: tuple[str, ...], beside: dict[str, Any]) -> dict[str, Any]:
    """Which attacks an audit makes, and beside what."""
    found = check_table(reading.where.at("audit"), "[audit]", reading.table.get("audit", {}), AUDIT)
    if "audit" not in runs:
        return {}
    return found if found.get("tiers") == () else found | beside


def _attack(reading: _Reading, where: Where, runs: tuple[str, ...], beside: dict[str, Any]) -> dict[str, Any]:
    """Which attacks are made of everything, the reference's path written out; a pair's own reference goes first."""
    place = reading.where.at("attack")
    found = check_table(place, "[attack]", reading.table.get("attack", {}), ATTACK)
    if "reference" in found:
        found["reference"] = checkpoint(place.at("reference"), reading.folder, found["reference"])
    elif "reference_kind" in found:
        raise place.at("reference_kind").refusal("says how a reference came about; name it as reference")
    if "reference" not in found:
        found |= beside
    return found if "attack" in runs else {}


def _measure(reading: _Reading) -> dict[str, Any]:
    """How everything is measured, without what is asked: paths written out."""
    where = reading.where.at("measure")
    return {
        key: data(where.at(key), reading.folder, value) if key in FILES and isinstance(value, str) else value
        for key, value in reading.measure.items()
        if key not in ASKED
    }
