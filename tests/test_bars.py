"""Progress on a terminal: the stage that is under way, in its part of the whole, with what is left of it."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr

import pytest

from ckdiff.cli.console import bars, rest_text
from ckdiff.cli.course import Course, Rest
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
    # However long it took here.
    assert any(re.match(r"1/3 compare: comparing 25% elements \d+:\d\d left of this stage", line) for line in shown)
    # A stage of one step is never shown as done before it is.
    *_, before, last = filter(None, shown)
    assert re.fullmatch(r"3/3 probe: scores logits and losses \d+:\d\d so far", last)
    assert before.startswith("3/3 probe: scores")


def test_what_was_done_before_says_nothing_of_the_speed(terminal: Terminal) -> None:
    with redirect_stderr(terminal), bars(quiet=False) as show:
        show("layers", 90, 100, "layer 10/11")
        show("other", 0, 1, "")
    assert any(re.search(r"layers 90% layer 10/11 \d+:\d\d so far", line) for line in terminal.lines())


def test_nothing_is_shown_where_nobody_looks(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with redirect_stderr(terminal), bars(quiet=True) as show:
        show("layers", 1, 2, "")
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    with redirect_stderr(terminal), bars(quiet=False) as show:
        show("layers", 1, 2, "")
    assert terminal.getvalue() == ""


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rest_of_the_whole_follows_what_its_parts_took() -> None:
    course = Course({"compare": 10.0, "behave": 20.0, "probe": 100.0, "attack": 30.0}, clock := Clock())
    course.begin("compare")
    clock.now = 4.0
    assert course.rest() == Rest(156.0, True)
    clock.now = 40.0
    # Reading took four times as long, which says nothing of what is computed.
    course.begin("behave")
    assert course.rest() == Rest(150.0, True)
    clock.now = 80.0
    course.begin("probe")
    assert course.rest() == Rest(260.0, True)
    clock.now = 281.0
    assert course.rest() == Rest(60.0, False)
    clock.now = 330.0
    course.begin("attack")
    # 290 seconds for what was expected to be 120.
    assert course.rest() == Rest(30 * (290 / 120), True)
    clock.now = 500.0
    assert course.rest() == Rest(0.0, False)


def test_a_part_that_was_done_before_says_nothing_of_the_others() -> None:
    course = Course({"behave": 100.0, "probe": 100.0}, clock := Clock())
    course.begin("behave")
    clock.now = 2.0
    course.begin("probe")
    assert course.rest() == Rest(100.0, True)


def test_little_work_and_parts_that_nobody_expected_have_no_rest() -> None:
    assert Course().rest() is None
    for expected in ({"probe": 19.0}, {"behave": 100.0}):
        course = Course(expected, Clock())
        course.begin("probe")
        assert course.rest() is None
    (course := Course({"probe": 20.0}, Clock())).begin("probe")
    assert course.rest() == Rest(20.0, True)


def test_the_rest_of_the_whole_stands_behind_that_of_a_stage(terminal: Terminal) -> None:
    with redirect_stderr(terminal), listen(quiet=False) as listener:
        listener.expect(lambda: {"compare": 1.0, "probe": 1000.0})
        listener.part("compare", 1, 2)
        listener.progress("comparing", 0, 8, "")
        listener.progress("other", 0, 1, "")
    assert any("1/2 compare: comparing 0% 0:00 so far, about 17 min of all" in line for line in terminal.lines())


def test_where_nobody_looks_nothing_is_expected(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure() -> dict[str, float]:
        measured.append("here")
        return {"compare": 1.0}

    with listen(quiet=True) as listener:
        listener.expect(measure)
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    with redirect_stderr(terminal), listen(quiet=False) as listener:
        listener.expect(measure)
    assert measured == []
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    with redirect_stderr(terminal), listen(quiet=False) as listener:
        listener.expect(measure)
    assert measured == ["here"]


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
