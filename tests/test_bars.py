"""Progress on a terminal: the stage that is under way, in its part of the whole, with what is left of it."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr

import pytest

from ckdiff.cli.console import bars, rest_text
from ckdiff.cli.session import listen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Everything that was shown, without colours and bars."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        return [" ".join(re.sub(r"[━╸╺]", "", line).split()) for line in re.split(r"[\r\n]+", plain)]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name, value in {"TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def test_a_stage_stands_in_its_part_and_gives_way_to_the_next(terminal: Terminal) -> None:
    with redirect_stderr(terminal), listen(quiet=False) as listener:
        listener.part("compare", 1, 3)
        listener.progress("comparing", 0, 8, "")
        listener.progress("comparing", 2, 8, "elements")
        # What is refreshed ten times a second is looked at between two stages.
        listener.progress("hashing", 0, 1, "")
        listener.progress("hashing", 1, 1, "")
        listener.progress("comparing", 8, 8, "")
        listener.part("probe", 3, 3)
        listener.progress("scores", 0, 1, "logits and losses")
    shown = terminal.lines()
    assert any(line.startswith("1/3 compare: comparing 25% elements 0:00 left of this stage") for line in shown)
    # A stage of one step is never shown as done before it is.
    *_, before, last = filter(None, shown)
    assert last == "3/3 probe: scores logits and losses 0:00 so far"
    assert before.startswith("3/3 probe: scores")


def test_what_was_done_before_says_nothing_of_the_speed(terminal: Terminal) -> None:
    with redirect_stderr(terminal), bars(quiet=False) as show:
        show("layers", 90, 100, "layer 10/11")
        show("other", 0, 1, "")
    assert any("layers 90% layer 10/11 0:00 so far" in line for line in terminal.lines())


def test_nothing_is_shown_where_nobody_looks(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with redirect_stderr(terminal), bars(quiet=True) as show:
        show("layers", 1, 2, "")
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    with redirect_stderr(terminal), bars(quiet=False) as show:
        show("layers", 1, 2, "")
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    ("elapsed", "told", "done", "left", "said"),
    [
        (0, 0, 0, 5, "0:00 so far"),
        (61, 60, 1, 3, "2:59 left of this stage"),
        (500, 60, 1, 3, "0:00 left of this stage"),
        (60, 60, 1, 120, "2:00:00 left of this stage"),
        (59.6, 0, 4, 0, "1:00"),
    ],
)
def test_the_rest_is_that_of_the_whole_stage_so_far(
    elapsed: float, told: float, done: float, left: float, said: str
) -> None:
    assert rest_text(elapsed, told, done, left) == said
