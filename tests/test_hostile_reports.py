"""Reports that somebody made to harm their reader, with a good seal: refused by name, and nothing else happens."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from ckdiff.audit.verify.report import check
from ckdiff.errors import ReportError
from ckdiff.report.hdf5 import apart, loading
from ckdiff.report.hdf5 import file as hdf5_file
from ckdiff.report.hdf5.file import read_report, seal_image, write_report
from ckdiff.report.hdf5.report import from_tree, to_tree
from ckdiff.report.schema.checks import check_record
from tests.reports import behaviour, comparison, depth, gate, probe, report, verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FULL = report(comparison(layers=2), probe(questions=2), behaviour(), verdict(gate=gate()))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A report without its seal."""
    path = tmp_path_factory.mktemp("whole") / "r.h5"
    write_report(FULL, path)
    return path.read_bytes()[: -len(seal_image(b""))]


@pytest.fixture(autouse=True)
def _read_anew() -> None:
    """What was read before is not remembered: these tests are about reading."""
    hdf5_file._read.cache_clear()


@pytest.fixture
def refusal(image: bytes, tmp_path: Path) -> Callable[[Callable[[Any], None]], str]:
    """What is said about the report after a change, sealed anew."""

    def refuse(change: Callable[[Any], None]) -> str:
        path = tmp_path / "r.h5"
        path.write_bytes(image)
        with h5py.File(path, "r+") as file:
            change(file)
        path.write_bytes(seal_image(path.read_bytes()))
        with pytest.raises(ReportError) as raised:
            read_report(path)
        words = str(raised.value)
        assert words.startswith(f"{path}: ")
        assert words.isprintable()
        return words

    return refuse


def test_a_report_is_read_whole_through_the_other_process(image: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    path.write_bytes(seal_image(image))
    first, again = apart.load_apart(path, "r"), apart.load_apart(path, "r")
    assert read_report(path) is not None
    assert list(first.groups) == list(again.groups)
    assert first.groups["compare"].groups


def test_a_new_python_reads_what_a_copy_of_this_one_reads(image: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    path.write_bytes(seal_image(image))
    assert apart._spawn(path, "r") == apart._fork(path, "r")


LINKS: dict[str, Callable[[Any, str], None]] = {
    "external": lambda file, other: file.__setitem__("compare/more", h5py.ExternalLink(other, "/")),
    "soft": lambda file, other: file.__setitem__("compare/more", h5py.SoftLink("/provenance")),
    "dangling": lambda file, other: file.__setitem__("compare/more", h5py.SoftLink("/nowhere")),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_are_not_followed(kind: str, refusal: Callable[..., str], tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.arange(3)
    assert '"more" is a link to another place' in refusal(lambda file: LINKS[kind](file, str(other)))


def test_a_link_to_a_pipe_does_not_hang(refusal: Callable[..., str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "link to another" in refusal(lambda file: file.__setitem__("more", h5py.ExternalLink(str(pipe), "/")))


def test_values_outside_the_file_are_not_read(refusal: Callable[..., str], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))

    def outside(file: Any) -> None:
        file.create_dataset("compare/more", shape=(8,), dtype="f8", external=[(str(secret), 0, 64)])

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout(shape=(8,), dtype="f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", shape=(8,))
        file.create_virtual_dataset("compare/more", layout)

    for change in (outside, virtual):
        assert 'the values of "more" lie in another file' in refusal(change)


def test_one_object_has_one_name(refusal: Callable[..., str]) -> None:
    def names(file: Any) -> None:
        file.create_dataset("compare/first", shape=(1 << 20,), dtype="f8", chunks=(1 << 20,), compression="gzip")
        file["compare/second"] = file["compare/first"]

    def circle(file: Any) -> None:
        file["compare/itself"] = file["compare"]

    assert '"second" is another name of what has one already' in refusal(names)
    assert '"itself" is another name of what has one already' in refusal(circle)


def test_all_arrays_together_have_a_bound(refusal: Callable[..., str]) -> None:
    """Of arrays that were never written each may be small enough by itself."""

    def many(file: Any) -> None:
        for number in range(40):
            file.create_dataset(f"compare/a{number}", shape=(1 << 23,), dtype="f8", chunks=(1 << 20,))

    assert "more than all arrays of such a file can have" in refusal(many)


def test_objects_and_texts_of_attributes_have_bounds(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds too large to be reached in a test are made smaller; what reads is a copy of this process."""
    with monkeypatch.context() as patch:
        patch.setattr(loading, "MOST_OBJECTS", 10)
        assert "more than 10 groups and arrays" in refusal(lambda file: None)
    monkeypatch.setattr(loading, "MAX_ATTRIBUTE", 200)
    assert "attribute more claims 201 bytes" in refusal(_set("compare", "more", np.bytes_(b"a" * 201)))


def _filtered(file: Any) -> None:
    file.create_dataset("compare/more", data=np.zeros(100), compression="lzf", chunks=(100,))


def _objects(file: Any) -> None:
    file.create_dataset("compare/more", data=["a"], dtype=h5py.string_dtype())


def _records(file: Any) -> None:
    file.create_dataset("compare/more", data=np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]))


def _named_type(file: Any) -> None:
    file["compare/more"] = np.dtype("f8")


def _list(file: Any) -> None:
    file["compare"].attrs["more"] = np.arange(5)


def _long_text(file: Any) -> None:
    file["compare"].attrs.create("more", "a", dtype=h5py.string_dtype())


def _many(file: Any) -> None:
    for number in range(300):
        file["compare"].attrs[f"more{number}"] = 1


def _nested(file: Any) -> None:
    file.create_group("compare/" + "/".join("abcdefghij"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_filtered, '"more" is packed by a filter that no report uses'),
        (_objects, '"more" holds neither numbers nor texts'),
        (_records, '"more" holds neither numbers nor texts'),
        (_named_type, '"more" is neither a group nor an array'),
        (_list, 'attribute "more" is neither a text nor a whole number'),
        (_long_text, 'attribute "more" is neither a text nor a whole number'),
        (_many, "a group with 30"),
        (_nested, "groups inside groups without end"),
    ],
)
def test_what_no_report_holds_is_refused(
    change: Callable[[Any], None], words: str, refusal: Callable[..., str]
) -> None:
    assert words in refusal(change)


# ------------------------------------------------------------------------------------------------- what the codec reads


def _renew(name: str, values: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[name]
        file[name] = np.array(values)

    return change


def _set(group: str, name: str, value: Any) -> Callable[[Any], None]:
    return lambda file: file[group].attrs.__setitem__(name, value)


def _raw(text: str) -> Any:
    return np.array(text.encode(), dtype=h5py.string_dtype("utf-8", len(text)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("probe", "layer_count", 10**9), "layer_count is 1e+09, and lies between 0 and 10000"),
        (_set("probe", "layer_count", _raw("6")), "layer_count is of another kind"),
        (_set("probe", "model_type", 6), "model_type is of another kind"),
        (_set("probe", "settings", _raw('{"a": [1]}')), "settings holds other things than texts"),
        (_set("probe", "settings", _raw("[]")), "settings is"),
        (_set("/", "complete", 2), "not in tuple"),
        (_renew("compare/tensors/cosine", np.full(20, 3.0)), ""),
        (_renew("compare/tensors/changed", np.full(20, 1.5)), ""),
        (_renew("compare/grid/cosine", np.zeros((3, 3, 3))), "cosine has the shape 3x3x3, not"),
        (
            _renew("compare/neurons/keys/relative_l2", np.full((2, 40), 1e308)),
            "relative_l2 holds a number that is too large",
        ),
        (_renew("probe/questions/prompt_tokens", [-2, -2]), "prompt_tokens is -2, and lies between -1"),
        (_renew("probe/questions/answer_ids", [b"-1", b"1"]), "answer_ids is -1, and lies between 0"),
        (_renew("probe/questions/mse", [b"a", b"b"]), "mse holds no floats"),
        (_renew("probe/questions/prompt_tokens", [1.5, 2.5]), "prompt_tokens holds no whole numbers"),
        (_renew("verdict/rules/fired", np.full(9, 2, "u1")), ""),
        (_set("verdict", "evidence", _raw("[1]")), "the verdict's evidence is no table"),
    ],
)
def test_what_a_field_holds_is_of_its_kind_and_range(
    change: Callable[[Any], None], words: str, refusal: Callable[..., str]
) -> None:
    said = refusal(change)
    assert "damaged or truncated" in said
    assert words in said


def test_arrays_are_about_the_questions_that_there_are() -> None:
    """A run of four questions beside a list of two, each of one length with itself."""
    found = replace(FULL, probe=replace(probe(questions=2), runs=probe(questions=4).runs))
    with pytest.raises(ValueError, match="an array is about 4 questions, and there are 2"):
        from_tree(to_tree(found))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": 3}, "text is"),
        ({"mse": 1}, "mse is no number"),
        ({"prompt_tokens": True}, "prompt_tokens is no whole number"),
        ({"prompt_tokens": None}, "prompt_tokens is missing"),
        ({"prompt_tokens": 2**53 + 1}, "prompt_tokens is"),
    ],
)
def test_a_record_of_another_kind_is_none(change: dict[str, Any], words: str) -> None:
    row = probe(questions=2).questions[0]
    check_record(row)
    with pytest.raises(ValueError, match=words):
        check_record(replace(row, **change))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1.5])
def test_an_array_has_bounds_even_where_nothing_in_it_is_finite(value: float) -> None:
    check_record(depth())
    with pytest.raises(ValueError, match=r"share is .*, and lies between"):
        check_record(replace(depth(), share=np.full_like(depth().share, value)))


@pytest.mark.filterwarnings("error")
def test_numbers_that_overflow_are_differences() -> None:
    found = behaviour()
    rows = tuple(replace(one, logprob_unlearned=-1e308) for one in found.answers[0].questions)
    answers = (replace(found.answers[0], questions=rows), *found.answers[1:])
    differences = check(replace(FULL, behaviour=replace(found, answers=answers)))
    assert any("logprob_unlearned" in one.where for one in differences.found)


def test_a_share_may_be_rounded_and_no_more() -> None:
    one = comparison(layers=2).tensors[0].drift
    for value, good in ((1.0, True), (1 + 1e-9, True), (1.001, False), (-0.001, False), (float("nan"), True)):
        if good:
            check_record(replace(one, changed_fraction=value))
        else:
            with pytest.raises(ValueError, match="changed_fraction is"):
                check_record(replace(one, changed_fraction=value))


# ------------------------------------------------------------------------------------------- the library under attack


def _crash(path: Path, name: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang(path: Path, name: str) -> None:
    time.sleep(600)


def _grow(path: Path, name: str) -> None:
    np.ones(1 << 30)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (_crash, "its contents crash the HDF5 library, or ask it for too much"),
        (_hang, "reading it takes too long"),
        (_grow, "Unable to allocate 8.00 GiB"),
    ],
)
def test_whatever_reading_does_is_one_line(
    act: Callable[..., None], words: str, image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.h5"
    path.write_bytes(seal_image(image))
    monkeypatch.setattr(apart, "load_tree", act)
    monkeypatch.setattr(apart, "MOST_SECONDS", 1)
    with pytest.raises(ReportError) as raised:
        read_report(path)
    assert f"{path}: damaged or truncated ({words}" in str(raised.value)


def test_flipped_bytes_under_a_good_seal(image: bytes, tmp_path: Path) -> None:
    """Each gives a report or one line."""
    chance, path, refused = random.Random(11), tmp_path / "r.h5", 0
    for _ in range(12):
        content = bytearray(image)
        for _ in range(3):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(seal_image(bytes(content)))
        try:
            read_report(path)
        except ReportError:
            refused += 1
    assert refused > 2
