"""Calls that take two paths as well as a spec: `probe("a", "b", questions="q.txt", window=1)`.

Options have the names of the spec's fields, and of its settings'. What a command line takes as text (a path, names with
commas between them) may be a text here, and is read as it is there.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from dataclasses import Field, fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, get_origin, overload

from ckdiff.calls.specs import NAMES, BehaveSpec, measures_of
from ckdiff.options import Option, OptionError, names, options_of
from ckdiff.scoring.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ckdiff.audit.gate.records import Policy

S = TypeVar("S")
Spec = TypeVar("Spec", contravariant=True)
R = TypeVar("R")
Result = TypeVar("Result", covariant=True)
P = ParamSpec("P")
Place = str | PathLike[str]


class Call(Protocol[Spec, P, Result]):
    """A call that takes a spec, or two checkpoints and options by name."""

    @overload
    def __call__(self, spec: Spec, /, *args: P.args, **kwargs: P.kwargs) -> Result: ...

    @overload
    def __call__(self, base: Place, unlearned: Place, /, **options: Any) -> Result: ...


def take_paths(kind: type[S]) -> Callable[[Callable[Concatenate[S, P], R]], Call[S, P, R]]:
    """Let a call take two paths, and the fields of a spec of this kind by name, in the place of the spec."""

    def wrap(call: Callable[Concatenate[S, P], R]) -> Call[S, P, R]:
        own = {*inspect.signature(call).parameters} - {"spec"}

        @functools.wraps(call)
        def run(*places: Any, **options: Any) -> R:
            if "spec" not in options and not (places and isinstance(places[0], kind)):
                direct = {name: options.pop(name) for name in own & options.keys()}
                places, options = (make_spec(kind, places, options),), direct
            spec, *rest = places or (options.pop("spec"),)
            return call(_read_spec(spec), *rest, **options)

        return run

    return wrap


def make_spec(kind: type[S], places: tuple[Any, ...], options: Mapping[str, Any]) -> S:
    """A spec of two checkpoints, whose fields and settings are given by name.

    Raises:
        OptionError: there are not two checkpoints, or an option is none.
    """
    if len(places) != 2 or not all(isinstance(place, (str, PathLike)) for place in places):
        raise OptionError(f"give two checkpoints, base and unlearned, or a {kind.__name__}")
    given = {NAMES.get(name, name): value for name, value in options.items()}
    own = {one.name: one for one in fields(kind) if one.name not in ("base", "unlearned")}  # type: ignore[arg-type]
    settings = {one.name: one for one in fields(Settings)} if "settings" in own else {}
    for name in given:
        check_name(name, (*own, *settings))
    if given.get("policy") is not None:
        given = _with_measures(given, settings)
    said = {name: _read(kind, own[name], value) for name, value in given.items() if name in own}
    made: Any = kind(*map(fspath, places), **said)
    how = {name: _read(Settings, settings[name], value) for name, value in given.items() if name in settings}
    spec: S = replace(made, settings=replace(made.settings, **how)) if how else made
    return spec


def _read_spec(spec: S) -> S:
    """A spec as its fields have it, where a caller wrote a text for a path or a list for a tuple."""
    given = {one.name: (one, getattr(spec, one.name)) for one in fields(spec)}  # type: ignore[arg-type]
    read = {
        name: fspath(value)
        if isinstance(value, PathLike) and "Path" not in str(one.type)
        else _read(type(spec), one, value)
        for name, (one, value) in given.items()
    }
    changed = {name: value for name, value in read.items() if value is not given[name][1]}
    found: S = replace(spec, **changed) if changed else spec  # type: ignore[type-var]
    return found


def check_name(name: str, known: tuple[str, ...]) -> None:
    """Refuse the name of an option that there is not.

    Raises:
        OptionError: it says which one is like it, or which there are.
    """
    if name not in known:
        alike = difflib.get_close_matches(name, known, 1)
        raise OptionError(f"no option {name!r}; " + (f"write {alike[0]}" if alike else f"there are {', '.join(known)}"))


def _with_measures(given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, its policy read, and for the rest how the policy says to measure."""
    from ckdiff.audit.gate.policy import read_policy

    policy: Policy | Place = given["policy"]
    wanted = read_policy(Path(policy)) if isinstance(policy, (str, PathLike)) else policy
    measured = {*(one.name for one in fields(BehaveSpec)), *settings}
    measures = measures_of(wanted, {name: value for name, value in given.items() if name in measured})
    return {**given, **{NAMES.get(name, name): value for name, value in measures.items()}, "policy": wanted}


def _read(kind: type, field: Field[Any], value: Any) -> Any:
    """A value as the field has it."""
    hint, option = options_of(kind).get(field.name, (None, None))
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, str):
        return value
    if "Path" in str(field.type):
        return Path(value)
    if not isinstance(option, Option):
        return value
    if option.repeated:
        return (value,)
    if option.read is not None and (option.known or "tuple" in str(field.type)):
        return option.read(value)
    return names(value, option.known) if get_origin(hint) is tuple else value
