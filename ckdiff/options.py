"""An option of the command line, said once: its name, its words, and what its value may be.

    window: Annotated[int, Option("--window", "Layers restored together.", RESTORED, least=1)] = 5

Such a field of a frozen spec is all that an option takes: the door shows it, with the field's default, and reads it;
`check_options(spec)` refuses what cannot be, whoever made the spec. Options that mean one thing in several specs stand
here by name; where their words differ, `Option.but` says the other ones.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable


T = TypeVar("T")


ASKED, ATTACKING, POLICIES = "Questions and answers", "Attacks", "What is asked of the pair"
RUNS, OUT = "How it runs", "Report and output"
"""Headings of `--help` that several commands have."""
HEADINGS = (ASKED, ATTACKING, POLICIES, "", RUNS, OUT)
"""Their order; "" stands for every other one."""


ALL = "all"
"""What stands for every known name where several may be given."""


SHOWN = 40
"""Characters of a refused value that an error repeats."""


class OptionError(CkdiffError):
    """An option whose value means nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """An option of the command line.

    Attributes:
        names: as they are typed, with a blank between them: "--questions -Q".
        help: one line.
        panel: the heading of `--help` that it stands under.
        known: the names that it takes, or nothing where it takes others.
        least: the smallest number.
        above: a number that it is greater than.
        most: the greatest number.
        read: gives the value that a text stands for, where its type alone does not say that.
        repeated: whether it may be given more than once.
        rare: whether few need it: `--help` leaves it out, `--help-all` and the docs have it.
    """

    names: str
    help: str = ""
    panel: str = ""
    known: Collection[str] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    read: Callable[[str], Any] | None = None
    repeated: bool = False
    rare: bool = False

    @property
    def name(self) -> str:
        """The long name, such as `--kl` of "--kl/--no-kl"."""
        return self.names.partition(" ")[0].partition("/")[0]

    @property
    def every(self) -> tuple[str, ...]:
        """The known names that `all` stands for."""
        everything = self.read(ALL) if self.known and self.read is not None else None
        return everything if isinstance(everything, tuple) else tuple(self.known)

    def but(self, help: str | None = None, panel: str | None = None, **other: Any) -> Option:
        """The same option, in other words, under another heading, or with other bounds."""
        help, panel = self.help if help is None else help, self.panel if panel is None else panel
        return replace(self, help=help, panel=panel, **other)

    def check(self, value: Any, error: type[CkdiffError] = OptionError) -> None:
        """Refuse a value that names nothing, or that lies out of bounds.

        Raises:
            CkdiffError: of the type given; it says what there is instead.
        """
        values = value if isinstance(value, tuple) else (value,)
        if self.known and not values:
            raise error(f"{self.name}: names nothing; there are {', '.join(self.every)}")
        for one in values:
            if self.known and one not in self.known:
                raise error(f"{self.name}: no {str(one)[:SHOWN]!r}; there are {', '.join(self.every)}")
            if isinstance(one, float) and not self._holds(one):
                raise error(f"{self.name}: {one:g} cannot be; give {self._bounds()}")
            if isinstance(one, int) and not self._holds(one):
                size = "large" if self.most is not None and one > self.most else "small"
                raise error(f"{self.name}: {one} is too {size}; give {self._bounds()}")

    def _holds(self, number: float) -> bool:
        """Whether a number lies within the bounds; NaN and infinity never do."""
        low = number >= self.least if self.least is not None else self.above is None or number > self.above
        return low and (number <= self.most if self.most is not None else number < float("inf"))

    def _bounds(self) -> str:
        low = f"more than {self.above:g}" if self.above is not None else ""
        low = f"{self.least:g} or more" if self.least is not None else low
        high = f"at most {self.most:.10g}" if self.most is not None else ""
        return ", ".join(filter(None, (low, high))) or "a finite number"


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    """An argument of the command line, known by its place.

    Attributes:
        help: one line.
        metavar: what `--help` calls it; empty: its field's name.
    """

    help: str
    metavar: str = ""


@functools.cache
def options_of(spec: type) -> dict[str, tuple[Any, Option | Argument]]:
    """The fields of a frozen spec that the command line can set, each with its type and its option."""
    found = {}
    for part in reversed(spec.__mro__):
        for name, hint in vars(part).get("__annotations__", {}).items():
            # No other annotation is read, so that these may name what is never imported.
            if hint.startswith("Annotated["):
                kind, option = get_args(eval(hint, vars(sys.modules[part.__module__])))
                found[name] = kind, option
    return found


def check_options(spec: Any, error: type[CkdiffError] = OptionError) -> None:
    """Refuse a spec that names nothing somewhere, or that has a number out of bounds.

    Raises:
        CkdiffError: of the type given, about the first such field.
    """
    for name, (_, option) in options_of(spec.__class__).items():
        value = getattr(spec, name)
        if isinstance(option, Option) and value is not None:
            option.check(value, error)


def names(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Comma-separated names, each once; `all` means every one that is known.

    >>> names("coeff, attn,coeff", ["coeff", "keys"])
    ('coeff', 'attn')
    """
    if text.strip() == ALL:
        return tuple(known)
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def numbers(option: str, text: str, noun: str = "layer", example: str = "0,5-9") -> tuple[int, ...]:
    """Numbers and ranges of them, in order and each once; the option, its noun and an example are what an error names.

    >>> numbers("--layers", "7,0-2")
    (0, 1, 2, 7)
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.strip().isascii() and end.strip().isdigit() and len(end) < 6 for end in ends):
            raise OptionError(f"{option}: {part.strip()!r} is neither a {noun} nor a range; write {example}")
        low, high = int(ends[0]), int(ends[1])
        if low > high:
            raise OptionError(f"{option}: {part.strip()!r} runs backwards; write {high}-{low}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def unescape(text: str) -> str:
    r"""A template from the command line, in which \n and \t stand for what they mean.

    >>> unescape(r"Q: {q}\nA:")
    'Q: {q}\nA:'
    """
    return text.replace(r"\n", "\n").replace(r"\t", "\t")


def assemble(kind: type[T], *parts: Any, **other: Any) -> T:
    """A spec of its parts, and of whatever else it has.

    >>> from ckdiff.scoring.settings import Answering, Machine, Settings
    >>> assemble(Settings, Answering(tokens=3), Machine(device="cpu"), window=1).tokens
    3
    """
    said = {one.name: getattr(part, one.name) for part in parts for one in fields(part)}
    return kind(**said | other)


QUESTIONS = Option("--questions -Q", "About what was to be unlearned: text, JSON, CSV, parquet.", ASKED)
QUESTION = Option("--question", "Such a question; may be repeated.", ASKED, repeated=True)
CONCEPT = Option("--concept", "Which concept or subject of the file.", ASKED)
UNRELATED = Option("--unrelated", "Other questions; else the concept's own, else general ones.", ASKED)
ASK_UNRELATED = Option(
    "--ask-unrelated --unrelated", "Ask the concept's unrelated questions; --unrelated is its older name.", ASKED
)
MOST_UNRELATED = Option("--most-unrelated", "How many of them are asked.", ASKED, least=1, rare=True)
DEFAULT_TEMPLATE = "Question: {q}\n Answer:"
CHAT_PROMPT = "chat template of the base"
"""What a report records as its prompt where that is no template of our own."""
UNCHATTED = "the base has a chat template and was asked without it (--chat-template)"
"""A note on a base that was not asked as it was trained to be."""
TOKENS = Option("--tokens", "The most tokens of an answer.", ASKED, least=1, rare=True)
TEMPLATE = Option("--prompt-template", "Text around {q}.", ASKED, read=unescape)
TOKENIZER = Option("--tokenizer", "A directory with a tokenizer, where the base has none.", ASKED, rare=True)
NEURONS = Option("--neurons", "Of mode coeff: which neurons carry the best windows.")
DEVICE = Option("--device", "auto, cpu, cuda or cuda:N.", RUNS)
BATCH_SIZE = Option("--batch-size", "Questions that go through a layer together.", RUNS, least=1, rare=True)
TITLE = Option("--title", "The heading; else the names of both models.")
NOTE = Option("--note", "A line below the heading: who made this, and when; a report records no date.")
OUTPUT = Option("--output -o", "The HDF5 report to write.")
USUAL_REPORT = "ckdiff.h5"
"""The default of `--output`."""
USUAL_TIERS = (0, 1)
"""The tiers of attacks that are made where nobody names any."""
SEED = Option("--seed", "Of whatever is drawn at random.", least=0, most=2**32 - 1)
LENGTH = Option("--length", "Tokens of a text, at most.", least=2)
MOST_TEXTS = Option("--most", "Texts taken of a file.", least=1)
