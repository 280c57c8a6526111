"""Commands that take groups: `flatten(command)` gives Typer one parameter an option.

    def probe(pair: StoredPair, restoring: Restoring, plan: Annotated[bool, PLAN] = False) -> None: ...

A parameter is a frozen group, whose fields carry their options (`ckdiff.options`), an option of its own, or `Given`:
the options of some groups, of which only those that were typed arrive. `Retold` is no option: it is given all of them,
and the arguments, as they can be typed again.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from ckdiff.options import ALL, HEADINGS, OUT, Argument, Option, names, options_of

Typed = Mapping[str, Any]
"""What Typer read, by the name of the parameter."""


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Marks a mapping of the values that were typed, by field; it holds no others.

    Attributes:
        kinds: the groups whose options there are.
        plain: gives what holds where nothing is typed, for the words of `--help`.
        without: fields that are left out.
    """

    kinds: tuple[type, ...]
    plain: Callable[[], Any]
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retold:
    """Marks a mapping of what was typed, ready to type again: `{"BASE": "my/base", "--window": "--window 1"}`.

    Options stand there by their long names, arguments by their names in capitals, as commands in texts have them.
    """


@dataclass(frozen=True, slots=True)
class Slot:
    """One option or argument of a command, and the value that it becomes."""

    name: str
    kind: Any
    option: Option | Argument
    default: Any

    def slots(self) -> Iterator[Slot]:
        """Itself: a slot is its only one."""
        yield self

    def build(self, typed: Typed) -> Any:
        """The value.

        Raises:
            OptionError: it names nothing, or lies out of bounds.
        """
        value = typed[self.name]
        if isinstance(self.option, Argument):
            return value
        if self.option.repeated:
            value = tuple(map(self.option.read or str, value or ()))
        elif value is None or value == []:
            return self.default
        elif self.takes_names:
            value = (self.option.read or self._names)(",".join(value))
        elif self.option.read is not None:
            value = self.option.read(value)
        self.option.check(value)
        return value

    @property
    def takes_names(self) -> bool:
        """Whether it takes several of the known names, with commas between them."""
        return isinstance(self.option, Option) and bool(self.option.known) and get_origin(self.kind) is tuple

    def _names(self, text: str) -> tuple[str, ...]:
        assert isinstance(self.option, Option)
        return names(text, self.option.known)

    @property
    def takes_text(self) -> bool:
        """Whether it is we who read its text, not Typer."""
        reads = isinstance(self.option, Option) and self.option.read is not None
        return reads or self.takes_names or get_origin(self.kind) is Literal

    @property
    def parameter(self) -> inspect.Parameter:
        """The parameter that Typer sees."""
        if isinstance(self.option, Argument):
            kind, default = self.kind, self.default
            info = typer.Argument(help=self.option.help, metavar=self.option.metavar or None)
        else:
            kind, default = self._typed
            info = typer.Option(
                *self.option.names.split(),
                help=self.option.help or None,
                metavar="<names>" if self.takes_names else _metavar(self.option, kind),
                rich_help_panel=self.option.panel or None,
                autocompletion=_completion(self.option),
                hidden=self.option.rare,
            )
        empty = inspect.Parameter.empty if default is MISSING else default
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=empty, annotation=Annotated[kind, info]
        )

    @property
    def _typed(self) -> tuple[Any, Any]:
        """The type that Typer reads, and the default as it would be typed."""
        assert isinstance(self.option, Option)
        if self.option.repeated:
            return list[str] | None, None
        if self.takes_names:
            return list[str] | None, None if self.default in (None, ()) else [show(self.default, self.option)]
        if not self.takes_text:
            return self.kind, self.default
        return (str | None, None) if self.default in (None, ()) else (str, show(self.default, self.option))


def retell(slots: Iterable[Slot], typed: Typed) -> dict[str, str]:
    """What was typed, each as it can be typed again (see `Retold`); options at their default are left out."""
    said = dict(_retell(slot, typed[slot.name]) for slot in slots)
    return {name: text for name, text in said.items() if text}


def _retell(slot: Slot, value: Any) -> tuple[str, str]:
    if isinstance(slot.option, Argument):
        return slot.name.upper(), shlex.quote(str(value))
    return slot.option.name, _retell_option(slot, slot.option, value)


def _retell_option(slot: Slot, option: Option, value: Any) -> str:
    if value is None or value == slot.parameter.default:
        return ""
    if isinstance(value, bool):
        return option.name if value else option.names.partition("/")[2]
    values = value if option.repeated else [",".join(value) if isinstance(value, list) else value]
    return " ".join(f"{option.name} {shlex.quote(str(one))}" for one in values)


def show(value: Any, option: Option) -> str:
    """A value as it would be typed."""
    if isinstance(value, tuple):
        return ALL if len(value) > 1 and value == option.every else ",".join(map(str, value))
    return str(value).replace("\n", r"\n").replace("\t", r"\t")


def quote(text: str) -> str:
    """A text within a sentence: in quotes where it has blanks."""
    return f"'{text}'" if " " in text else text


def _metavar(option: Option, kind: Any) -> str | None:
    """The known names, where the help does not name them; one text where several may be given one by one."""
    if option.repeated:
        return "<str>"
    if kind is bool or all(name in option.help for name in option.every):
        return None
    return f"[{'|'.join(option.every)}]"


def _completion(option: Option) -> Callable[[str], list[str]] | None:
    """The known names that begin as what is typed, for a shell."""
    if not option.known:
        return None

    def complete(incomplete: str) -> list[str]:
        return [name for name in option.known if name.startswith(incomplete)]

    return complete


@dataclass(frozen=True, slots=True)
class Group:
    """A parameter that is a frozen group: its slots, and the groups within it."""

    name: str
    kind: type
    parts: tuple[Slot | Group, ...]

    def slots(self) -> Iterator[Slot]:
        """Every option of it."""
        for part in self.parts:
            yield from part.slots()

    def build(self, typed: Typed) -> Any:
        """The group."""
        return self.kind(**{part.name: part.build(typed) for part in self.parts})


@dataclass(frozen=True, slots=True)
class Mentioned:
    """A parameter that is a mapping of what was typed."""

    name: str
    parts: tuple[Slot, ...]

    def slots(self) -> Iterator[Slot]:
        """Every option of it."""
        yield from self.parts

    def build(self, typed: Typed) -> dict[str, Any]:
        """The values that were typed."""
        asked = [part for part in self.parts if typed[part.name] not in (None, part.default)]
        return {part.name: part.build(typed) for part in asked}


def flatten(command: Callable[..., None]) -> Callable[..., None]:
    """A command of groups as a command of options: what Typer reads of it, and what it calls."""
    parts, slots, again = _parts_of(command), slots_of(command), _retold(command)

    def run(**typed: Any) -> None:
        command(**{part.name: part.build(typed) for part in parts}, **{name: retell(slots, typed) for name in again})

    parameters = [slot.parameter for slot in slots]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def slots_of(command: Callable[..., None]) -> list[Slot]:
    """The options and arguments of a command of groups, in the order of `--help`."""
    return _under_headings([slot for part in _parts_of(command) for slot in part.slots()])


def _parts_of(command: Callable[..., None]) -> list[Slot | Group | Mentioned]:
    hints, left_out = get_type_hints(command, include_extras=True), _retold(command)
    signature = inspect.signature(command).parameters.items()
    return [_part(one, hints[name]) for name, one in signature if name not in left_out]


def _retold(command: Callable[..., None]) -> list[str]:
    """The parameters that are given what was typed."""
    hints = get_type_hints(command, include_extras=True)
    return [name for name, hint in hints.items() if any(isinstance(mark, Retold) for mark in get_args(hint))]


def _under_headings(slots: list[Slot]) -> list[Slot]:
    """The slots as `--help` has them: by `HEADINGS`; an option without one is about output."""
    arguments = [slot for slot in slots if isinstance(slot.option, Argument)]
    headed = [slot for slot in slots if isinstance(slot.option, Option) and slot.option.panel]
    headed.sort(key=_place_of)
    if not headed:
        return slots
    plain = [
        replace(slot, option=slot.option.but(panel=OUT))
        for slot in slots
        if isinstance(slot.option, Option) and not slot.option.panel
    ]
    return [*arguments, *headed, *plain]


def _place_of(slot: Slot) -> int:
    """The place of its heading among all."""
    assert isinstance(slot.option, Option)
    return HEADINGS.index(slot.option.panel if slot.option.panel in HEADINGS else "")


def _part(parameter: inspect.Parameter, hint: Any) -> Slot | Group | Mentioned:
    if isinstance(hint, type):
        return _group(parameter.name, hint)
    kind, mark = get_args(hint)
    if isinstance(mark, Given):
        return Mentioned(parameter.name, tuple(_slots_given(mark)))
    return Slot(parameter.name, kind, mark, MISSING if parameter.default is parameter.empty else parameter.default)


def _group(name: str, kind: type) -> Group:
    """A group's slots; a field whose default is made by another group is that group."""
    options, parts = options_of(kind), list[Slot | Group]()
    for field in fields(kind):
        if field.name in options:
            parts.append(Slot(field.name, *options[field.name], field.default))
        elif isinstance(field.default_factory, type) and is_dataclass(field.default_factory):
            parts.append(_group(field.name, field.default_factory))
    return Group(name, kind, tuple(parts))


def _slots_given(mark: Given) -> Iterator[Slot]:
    """The slots of what may be left to others: without defaults, their words say what holds then."""
    plain = mark.plain()
    for kind in mark.kinds:
        for slot in _group("", kind).slots():
            if slot.name in mark.without or isinstance(slot.option, Argument):
                continue
            default = getattr(plain, slot.name, slot.default)
            if isinstance(default, bool):
                yield slot
                continue
            told = "" if default in (None, ()) else f"; else {quote(show(default, slot.option))}."
            option = slot.option.but(slot.option.help.removesuffix(".") + told) if told else slot.option
            yield Slot(slot.name, slot.kind if slot.takes_text else slot.kind | None, option, None)
