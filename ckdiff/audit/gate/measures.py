"""A policy's `[measure]` held against what a report records: `hold_measures(report, policy, files)`.

Whoever measures otherwise than the policy says (another prompt, fewer tokens, other questions) may find something
else, so that the outcome of such a check is "inconclusive". So it is where a report, or a file that is no longer there,
does not say how it was measured. A new key is one row of `MEASURES`.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from ckdiff.audit.gate import kinds
from ckdiff.audit.gate.results import NAN, PASSED, UNKNOWN, join, sets, verdict_of
from ckdiff.audit.verdict.needed import lacking_modes, sought_modes, windows_of
from ckdiff.errors import CkdiffError
from ckdiff.modes import MODES, is_planned, without_window
from ckdiff.report.schema.verdict import GateCheck
from ckdiff.scoring.settings import CHAT_PROMPT, EVERY, GIVEN, GREEDY, NEEDED
from ckdiff.untrusted import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ckdiff.audit.gate.records import Policy
    from ckdiff.report.schema.report import Report

    Sought = Callable[[], tuple[str, ...]]
    """Gives `sought_modes` of a report: judged once, and only where somebody asks."""


MOST_UNRELATED = 50
"""Unrelated questions that an audit asks where a policy does not say how many; that of `calls.specs.Beside`."""


LONGEST = 80
"""Characters of a setting that a message repeats."""


@dataclass(frozen=True, slots=True)
class Fact:
    """How one part of a report was measured.

    Attributes:
        part: of the report, "probe" or "behaviour".
        found: the setting as it is recorded, or None where it is not.
        wanted: as the policy says it.
        same: whether the two are one.
    """

    part: str
    found: str | None
    wanted: str
    same: bool


@dataclass(frozen=True, slots=True)
class Said:
    """The value of one key of a policy, and the table around it.

    Attributes:
        value: of the key.
        measure: the whole table.
        files: digests of what its files hold, by key.
        sought: gives the modes whose windows the verdict asks for.
    """

    value: Any
    measure: Mapping[str, Any]
    files: Mapping[str, str]
    sought: Sought


@dataclass(frozen=True, slots=True)
class Measure:
    """One key of `[measure]`.

    Attributes:
        kind: what its value may be, one of `kinds`.
        look: what a report records of it, a fact a part that was measured.
        probed: it is about the probe alone, which is not made where no answer changed.
    """

    kind: Callable[[Any], Any]
    look: Callable[[Report, Said], Iterator[Fact]]
    probed: bool = False


def hold_measures(report: Report, policy: Policy, files: Mapping[str, str]) -> Iterator[GateCheck]:
    """A check of each key that a policy says.

    Args:
        report: what was measured, with its verdict.
        policy: how it was to be.
        files: as `read_files` gives them.
    """
    sought = functools.cache(functools.partial(sought_modes, report))
    for key in policy.measure:
        found = _hold(report, key, policy, files, sought)
        if found is not None:
            yield found
        elif _is_settled(report, MEASURES[key]):
            yield _check(key, True, "no answer changed, so that there was nothing to measure it on")
        else:
            yield _check(key, False, "nothing was measured that it is about")


def _hold(report: Report, key: str, policy: Policy, files: Mapping[str, str], sought: Sought) -> GateCheck | None:
    """The check of a key; None where nothing was measured that it is about."""
    facts = list(MEASURES[key].look(report, Said(policy.measure[key], policy.measure, files, sought)))
    if not facts:
        return None
    wrong = next((fact for fact in facts if not fact.same), None)
    if wrong is None:
        return _check(key, True, f"measured as the policy says: {_brief(facts[0].wanted)}")
    return _check(key, False, _difference(wrong))


def _is_settled(report: Report, measure: Measure) -> bool:
    """Whether there was nothing to measure: two that are the same are not asked, and equal answers not put back."""
    label = verdict_of(report).label
    return label == "identical" or (measure.probed and label == "no effect on these questions")


def find_deviations(report: Report, policy: Policy, files: Mapping[str, str]) -> tuple[GateCheck, ...]:
    """The checks that do not hold of parts that were measured; what was not measured at all was not so otherwise."""
    sought = functools.cache(functools.partial(sought_modes, report))
    found = (_hold(report, key, policy, files, sought) for key in policy.measure)
    return tuple(check for check in found if check is not None and check.outcome != PASSED)


def read_files(policy: Policy) -> dict[str, str]:
    """Digests of what the files of `[measure]` hold, by key, as a report that asked them records them.

    A file that cannot be read has none; nor has any, where nobody knows in which folder a policy lay.
    """
    found = {}
    for key, digest in FILES.items():
        value = policy.measure.get(key, False)
        if value is True or (value and policy.folder is not None):
            with contextlib.suppress(CkdiffError):
                found[key] = digest(policy)
    return found


def _check(key: str, same: bool, text: str) -> GateCheck:
    return GateCheck(f"measure.{key}", PASSED if same else UNKNOWN, text, NAN, NAN)


def _difference(fact: Fact) -> str:
    if fact.found is None:
        return f"{fact.part}: how it was measured is not recorded; the policy says {_brief(fact.wanted)}: measure again"
    if not fact.wanted:
        return f"{fact.part}: the file that the policy names cannot be read here: nobody can tell whether it was asked"
    found = _brief(fact.found) or "nothing of the kind"
    return f"{fact.part}: measured with {found}, the policy says {_brief(fact.wanted)}: measure again"


def _brief(text: str) -> str:
    return shorten(text, LONGEST)


# ------------------------------------------------------------------------------------------------ what reports record


def _settings(report: Report) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The settings of each part that asked something."""
    if report.probe is not None:
        yield "probe", report.probe.settings
    if report.behaviour is not None:
        yield "behaviour", report.behaviour.settings


def _setting(name: str, *parts: str, text: Callable[[Any], str] = str) -> Callable[[Report, Said], Iterator[Fact]]:
    """A setting of that name, of these parts or of both, that must be what the policy says."""

    def look(report: Report, said: Said) -> Iterator[Fact]:
        for part, settings in _settings(report):
            if not parts or part in parts:
                found, wanted = settings.get(name), text(said.value)
                yield Fact(part, found, wanted, found == wanted)

    return look


def _chat(report: Report, said: Said) -> Iterator[Fact]:
    wanted = CHAT_PROMPT if said.value else "a template of text"
    for part, settings in _settings(report):
        found = settings.get("prompt")
        yield Fact(part, found, wanted, found is not None and (found == CHAT_PROMPT) == said.value)


def _neurons(report: Report, said: Said) -> Iterator[Fact]:
    """More than was asked for is never too much."""
    if report.probe is not None:
        looked = "neurons" in report.probe.settings
        words = {True: "a look for neurons", False: "no look for neurons"}
        yield Fact("probe", words[looked], words[said.value], looked or not said.value)


def _window(report: Report, said: Said) -> Iterator[Fact]:
    yield from _setting("window", "probe")(report, said)
    yield from _every_layer(report)


def _every_layer(report: Report) -> Iterator[Fact]:
    """Windows at every layer; `probe --layers` leaves some out."""
    if report.probe is not None:
        found = report.probe.settings.get("layers")
        words = None if found is None else f"window centres {found}"
        yield Fact("probe", words, "window centres all", found == "all")


def _runs(name: str) -> Callable[[Report, Said], Iterator[Fact]]:
    """Every run that these names ask for, with the others that the policy says, or that there are."""

    def look(report: Report, said: Said) -> Iterator[Fact]:
        if report.probe is None:
            return
        held = {(run.direction, run.mode, run.variant) for run in report.probe.runs}
        sides = {"directions": 0, "modes": 1, "variants": 2}
        asked = [
            said.value if key == name else said.measure.get(key) or {run[side] for run in held}
            for key, side in sides.items()
        ]
        due = (run for run in product(*asked) if is_planned(run[1], run[2]) and not _is_left_out(report, run[1], said))
        spared = _find_spared(report, said)
        wanted = [run for run in due if without_window(run[1], run[2]) or run[:2] not in spared]
        missing = {run[sides[name]] for run in wanted if run not in held}
        lacking = [one for one in said.value if not held or one in missing]
        words = f"no {name} {join(lacking)}" if lacking else f"{name} {join(said.value)}"
        yield Fact("probe", words, f"{name} {join(said.value)}", not lacking)
        yield from _every_layer(report)

    return look


def _windows(report: Report, said: Said) -> Iterator[Fact]:
    """Every curve, or those of the modes that the verdict places; more than was asked for is never too much."""
    if report.probe is None:
        return
    found = windows_of(report.probe)
    lacking = lacking_modes(report, said.sought()) if (found, said.value) == (NEEDED, NEEDED) else ()
    words = f"no windows of {join(lacking)}" if lacking else f"windows {found}"
    yield Fact("probe", words, f"windows {said.value}", not lacking and found in (EVERY, said.value))


def windows_asked(policy: Policy | None) -> tuple[str, ...]:
    """Modes whose windows a policy holds to a score, whatever the verdict is."""
    rows = () if policy is None else policy.checks.get("fail.scores", ())
    return tuple(row["mode"] for row in rows if not without_window(row["mode"], row["variant"]))


def _find_spared(report: Report, said: Said) -> set[tuple[str, str]]:
    """Directions and modes whose curves need not be there: not all were asked for, and the verdict does not place them.

    Their scores of the whole model must be.
    """
    probe = report.probe
    if probe is None or windows_of(probe) != NEEDED or said.measure.get("windows", NEEDED) != NEEDED:
        return set()
    sought = said.sought()
    whole = {(run.direction, run.mode) for run in probe.runs if without_window(run.mode, run.variant)}
    return {(direction, mode) for direction, mode in whole if mode not in sought}


def _is_left_out(report: Report, mode: str, said: Said) -> bool:
    """Whether all modes were asked for, and the architecture has none of this one."""
    notes = () if report.probe is None else report.probe.notes
    return set(said.measure.get("modes", ())) >= set(MODES) and any(
        note.startswith(f"mode {mode} was left out: ") for note in notes
    )


# --------------------------------------------------------------------------------------------------- what was asked


def _file_fact(part: str, found: str | None, said: Said, key: str) -> Fact:
    """The digest of the questions that were asked, beside that of a key's file."""
    wanted = said.files.get(key, "")
    return Fact(part, found and _sha256(found), _sha256(wanted), bool(wanted) and found == wanted)


def _sha256(digest: str) -> str:
    return f"what has sha256 {digest[:12]}" if digest else ""


def _target(report: Report, said: Said) -> Iterator[Fact]:
    if report.probe is not None:
        settings = report.probe.settings
        yield _file_fact(
            "probe", settings.get("questions_given_digest", settings.get("questions_digest")), said, "questions"
        )
    for one in sets(report, "target"):
        yield _file_fact("behaviour", one.given_digest or one.digest, said, "questions")


def _unrelated(report: Report, said: Said) -> Iterator[Fact]:
    for one in sets(report, "unrelated"):
        yield _file_fact("behaviour", one.given_digest or one.digest, said, "unrelated")


def _most_unrelated(report: Report, said: Said) -> Iterator[Fact]:
    """As many as the policy says; fewer only where there were no more."""
    notes = () if report.behaviour is None else report.behaviour.notes
    cut = any("--most-unrelated asks more" in note for note in notes)
    for one in sets(report, "unrelated"):
        count = len(one.questions)
        same = count == said.value or (count < said.value and not cut)
        yield Fact("behaviour", f"{count} unrelated questions", f"{said.value}", same)


def _asked_of(key: str) -> Callable[[Report, Said], Iterator[Fact]]:
    """What was asked for the part of the behaviour that is called like the key."""

    def look(report: Report, said: Said) -> Iterator[Fact]:
        if report.behaviour is not None:
            yield _file_fact("behaviour", getattr(getattr(report.behaviour, key), "digest", ""), said, key)

    return look


def _neutral(report: Report, said: Said) -> Iterator[Fact]:
    """More than was asked for is never too much."""
    if said.value is not False:
        yield from _asked_of("neutral")(report, said)
    elif report.behaviour is not None:
        yield Fact("behaviour", "", "no neutral texts", True)


def _place(policy: Policy, key: str) -> Any:
    from ckdiff.hub import data_path

    assert policy.folder is not None
    return data_path(policy.folder, policy.measure[key])


def _questions_digest(policy: Policy, key: str = "questions") -> str:
    from ckdiff.questions.questions import read_questions

    concept = policy.measure.get("concept") if key == "questions" else None
    return read_questions(_place(policy, key), concept=concept).digest


def _unrelated_digest(policy: Policy) -> str:
    from ckdiff.questions.asked import first_questions
    from ckdiff.questions.questions import read_questions

    most = policy.measure.get("most_unrelated", MOST_UNRELATED)
    return first_questions(read_questions(_place(policy, "unrelated")), most).digest


def _choices_digest(policy: Policy) -> str:
    from ckdiff.questions.choices import read_choices

    return read_choices(_place(policy, "choices")).digest


def _neutral_digest(policy: Policy) -> str:
    from ckdiff.questions.neutral_texts import neutral_texts, read_texts

    return (neutral_texts() if policy.measure["neutral"] is True else read_texts(_place(policy, "neutral"))).digest


FILES: dict[str, Callable[[Policy], str]] = {
    "questions": _questions_digest,
    "unrelated": _unrelated_digest,
    "choices": _choices_digest,
    "neutral": _neutral_digest,
    "holdout": functools.partial(_questions_digest, key="holdout"),
}
"""Keys that name files, from the policy's own directory on, each with the digest of what one holds."""


MEASURES: dict[str, Measure] = {
    "questions": Measure(kinds.text, _target),
    "concept": Measure(kinds.text, _target),
    "unrelated": Measure(kinds.text, _unrelated),
    "most_unrelated": Measure(kinds.count, _most_unrelated),
    "choices": Measure(kinds.text, _asked_of("choices")),
    "neutral": Measure(kinds.path_or_flag, _neutral),
    "holdout": Measure(kinds.text, _asked_of("holdout")),
    "modes": Measure(kinds.modes, _runs("modes"), probed=True),
    "variants": Measure(kinds.variants, _runs("variants"), probed=True),
    "directions": Measure(kinds.directions, _runs("directions"), probed=True),
    "window": Measure(kinds.count, _window, probed=True),
    "windows": Measure(kinds.windows, _windows, probed=True),
    "tokens": Measure(kinds.count, _setting("tokens")),
    "prompt_template": Measure(kinds.template, _setting("prompt")),
    "chat_template": Measure(kinds.flag, _chat),
    "given_answers": Measure(
        kinds.flag, _setting("answers", "probe", text=lambda given: GIVEN if given else GREEDY), probed=True
    ),
    "neurons": Measure(kinds.flag, _neurons, probed=True),
    "dtype": Measure(kinds.dtype, _setting("dtype")),
}
"""By the key of `[measure]`: the names of the options of `ckdiff audit`."""
