"""A policy: what an audit measures, how much evidence it wants, and what fails. `read_policy(path)`.

TOML with three tables: `[measure]` (how `ckdiff audit` measures, and how a report must have been measured), `[require]`
and `[fail]`; their keys are those of `measures.MEASURES` and `checks.CHECKS`. Unknown keys are refused: nobody would
check a misspelt requirement.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckdiff.audit.gate.checks import CHECKS
from ckdiff.audit.gate.measures import MEASURES
from ckdiff.audit.gate.records import Policy
from ckdiff.errors import CkdiffError
from ckdiff.files import read_small
from ckdiff.report.words.gates import OWN

if TYPE_CHECKING:
    from collections.abc import Mapping


MOST_BYTES = 1 << 20


TABLES = ("measure", "require", "fail")


DEFAULT = Path(__file__).with_name("default.toml")
"""The policy of an audit that names none."""


BUNDLED = {path.stem: path for path in (DEFAULT, DEFAULT.with_name("not-recovered.toml"))}
"""Policies that ckdiff brings, by the names that `--policy` takes where there is no such file."""


class PolicyError(CkdiffError):
    """A policy that cannot be read, or that asks for what does not exist."""


def read_policy(path: str | Path | None = None) -> Policy:
    """Read a policy: of a file, by the name of one that ckdiff brings, or without either ckdiff's own.

    Raises:
        PolicyError: there is none, it is no TOML, or it asks for what does not exist.
    """
    name = DEFAULT.stem if path is None else str(path)
    path = None if path is None else Path(path)
    if name in BUNDLED and (path is None or not path.exists()):
        return parse_policy(_read(BUNDLED[name]), f"{OWN}{name}", BUNDLED[name].parent)
    assert path is not None
    # What is wrong is said of the file as it was typed; what the policy is called afterwards has no folder.
    return replace(parse_policy(_read(path), str(path), path.parent), source=path.name)


def _read(place: Path) -> str:
    try:
        raw = read_small(place, MOST_BYTES)
        if len(raw) > MOST_BYTES:
            raise PolicyError(f"{place}: too large for a policy; give a TOML file of at most 1 MB")
        return raw.decode()
    except OSError as error:
        known = f"; ckdiff brings {', '.join(BUNDLED)}"
        raise PolicyError(f"{place}: cannot be read ({error.strerror}); name a policy with --policy{known}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{place}: not UTF-8 (byte {error.start}); save the policy as UTF-8") from error


def parse_policy(text: str, source: str, folder: Path | None = None, files: Mapping[str, str] | None = None) -> Policy:
    """The policy that a text holds.

    Args:
        text: TOML.
        source: a name, for people.
        folder: where the paths in it begin, or None where nobody knows.
        files: digests of what its files held, where somebody read them before.

    Raises:
        PolicyError: it is no TOML, or it asks for what does not exist.
    """
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # An integer of thousands of digits is a ValueError of Python's own.
        raise PolicyError(f"{source}: no TOML: {str(error)[:200]}") from error
    title = tree.pop("title", "")
    if not isinstance(title, str):
        raise PolicyError(f"{source}: title: must be a text")
    for name, value in tree.items():
        if name not in TABLES:
            raise PolicyError(f"{source}: no table [{name}] in a policy; there are {', '.join(TABLES)}")
        if not isinstance(value, dict):
            raise PolicyError(f"{source}: {name}: must be a table, [{name}]")
    given = {f"{table}.{key}": value for table in TABLES for key, value in tree.get(table, {}).items()}
    found = {name: _value(source, name, value) for name, value in given.items()}
    measure = {key: found[f"measure.{key}"] for key in MEASURES if f"measure.{key}" in found}
    checks = {name: found[name] for name in CHECKS if name in found}
    if not checks:
        raise PolicyError(f"{source}: asks for nothing; give it a table [require] or [fail]")
    _check_measure(source, measure)
    return Policy(text, source, folder, title, measure, checks, files)


KINDS = {f"measure.{key}": row.kind for key, row in MEASURES.items()} | {name: row.kind for name, row in CHECKS.items()}
"""By table and key what a value may be."""

NEAR = 0.7
"""Of how alike two keys are, from 0 to 1: from here on the one may be meant by the other."""


def _value(source: str, name: str, value: Any) -> Any:
    if name not in KINDS:
        table = name.partition(".")[0]
        near = ", ".join(key.partition(".")[2] for key in KINDS if key.startswith(f"{table}."))
        raise PolicyError(f"{source}: no key {name!r} in a policy; {_meant(name)}[{table}] has {near}")
    try:
        return KINDS[name](value)
    except ValueError as error:
        raise PolicyError(f"{source}: {name}: must be {error}") from error


def _meant(name: str) -> str:
    """A question for what was meant, where a key is nearly one that there is, in its own table before another.

    >>> _meant("require.knowlege"), _meant("fail.knowledge"), _meant("require.xyzzy")
    ('did you mean require.knowledge? ', 'did you mean require.knowledge? ', '')
    """
    table, _, key = name.partition(".")
    near = difflib.get_close_matches(key, {known.partition(".")[2] for known in KINDS}, 1, NEAR)
    found = sorted(
        (full for full in KINDS if near == [full.partition(".")[2]]), key=lambda full: not full.startswith(f"{table}.")
    )
    return f"did you mean {found[0]}? " if found else ""


def _check_measure(source: str, measure: Mapping[str, Any]) -> None:
    """Refuse what no report can meet."""
    if "concept" in measure and "questions" not in measure:
        raise PolicyError(f"{source}: measure.concept: chooses from a file; name it with measure.questions")
    if measure.get("chat_template") and "prompt_template" in measure:
        raise PolicyError(f"{source}: measure.chat_template and measure.prompt_template: give one of them")
