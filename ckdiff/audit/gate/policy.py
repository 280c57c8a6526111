"""A policy: what an audit measures, how much evidence it wants, and what fails. `read_policy(path)`.

TOML with three tables: `[measure]` (how `ckdiff audit` measures; a gate does not look at it), `[require]` and `[fail]`,
whose keys are those of `gates.CHECKS`. Unknown keys are refused: nobody would check a misspelt requirement.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckdiff.audit.gate import kinds
from ckdiff.audit.gate.checks import CHECKS
from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


MOST_BYTES = 1 << 20


TABLES = ("measure", "require", "fail")


DEFAULT = Path(__file__).with_name("default.toml")
"""The policy of an audit that names none."""


MEASURES: dict[str, Callable[[Any], Any]] = {
    "questions": kinds.text,
    "concept": kinds.text,
    "unrelated": kinds.text,
    "most_unrelated": kinds.count,
    "choices": kinds.text,
    "neutral": kinds.path_or_flag,
    "modes": kinds.modes,
    "variants": kinds.variants,
    "directions": kinds.directions,
    "window": kinds.count,
    "tokens": kinds.count,
    "prompt_template": kinds.text,
    "chat_template": kinds.flag,
    "given_answers": kinds.flag,
    "neurons": kinds.flag,
    "dtype": kinds.text,
}
"""Keys of `[measure]`, each with what its value may be; the names of the options of `ckdiff audit`."""


PATHS = ("questions", "unrelated", "choices", "neutral")
"""Those that name files, from the policy's own directory on."""


class PolicyError(CkdiffError):
    """A policy that cannot be read, or that asks for what does not exist."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as read: how to measure, what is required, and what fails.

    Attributes:
        text: the file's text, as it was read.
        source: the file's name, for people.
        folder: where the paths in it begin.
        measure: keys of `MEASURES` with their values.
        checks: keys of `gates.CHECKS` with their values, in the order of that table.
    """

    text: str
    source: str
    folder: Path
    title: str = ""
    measure: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_policy(path: Path | None = None) -> Policy:
    """Read a policy's file; without a path the one that ckdiff brings.

    Raises:
        PolicyError: there is none, it is no TOML, or it asks for what does not exist.
    """
    place = path or DEFAULT
    try:
        with place.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise PolicyError(f"{place}: too large for a policy; give a TOML file of at most 1 MB")
        text = raw.decode()
    except OSError as error:
        raise PolicyError(f"{place}: cannot be read ({error.strerror}); name a policy with --policy") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{place}: not UTF-8 (byte {error.start}); save the policy as UTF-8") from error
    return parse_policy(text, place.name if path is not None else "ckdiff's own", place.parent)


def parse_policy(text: str, source: str, folder: Path = Path()) -> Policy:
    """The policy that a text holds.

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
    measure = {
        key: _value(source, f"measure.{key}", MEASURES.get(key), value, [f"measure.{name}" for name in MEASURES])
        for key, value in tree.get("measure", {}).items()
    }
    given = {f"{table}.{key}": value for table in TABLES[1:] for key, value in tree.get(table, {}).items()}
    found = {name: _value(source, name, _kind(name), value, list(CHECKS)) for name, value in given.items()}
    if not found:
        raise PolicyError(f"{source}: asks for nothing; give it a table [require] or [fail]")
    return Policy(text, source, folder, title, measure, {name: found[name] for name in CHECKS if name in found})


def _kind(name: str) -> Callable[[Any], Any] | None:
    return CHECKS[name].kind if name in CHECKS else None


def _value(source: str, name: str, kind: Callable[[Any], Any] | None, value: Any, known: list[str]) -> Any:
    if kind is None:
        table = name.partition(".")[0]
        near = ", ".join(key.partition(".")[2] for key in known if key.startswith(f"{table}."))
        raise PolicyError(f"{source}: no key {name!r} in a policy; [{table}] has {near}")
    try:
        return kind(value)
    except ValueError as error:
        raise PolicyError(f"{source}: {name}: must be {error}") from error
