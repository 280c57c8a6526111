"""`--margins REPORT`: two models that never knew say within what a third one counts as one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.words.depth import facts_of
from ckdiff.scoring.margins import MarginError, margin_of_depth
from tests.reports import depth
from tests.test_probe_cli import ASKED, ckdiff, made, place

if TYPE_CHECKING:
    from tests.test_probe_cli import Run

__all__ = ["ckdiff", "made", "place"]

ASK = ("--questions", "questions.txt", "--attack", "prune", "--tokens", 4, "--device", "cpu")


def never_known(place: Path) -> None:
    """Two models that never knew, never and second."""
    for seed, name in enumerate(("never", "second")):
        shutil.copytree(place / "base", place / name)
        file, generator = place / name / "model.safetensors", torch.Generator().manual_seed(seed)
        own = load_file(file).items()
        noisy = {key: value + 0.2 * torch.randn(value.shape, generator=generator) for key, value in own}
        save_file(noisy, file, {"format": "pt"})


def second_of(ckdiff: Run, place: Path) -> Path:
    """A report of a second model that never knew beside the first one."""
    never_known(place)
    assert ckdiff("attack", "base", "second", *ASK, "--reference", "never", "-o", "zero.h5")[0] in (0, 3)
    return place / "zero.h5"


def test_a_second_model_that_never_knew_gives_the_margins(ckdiff: Run, place: Path) -> None:
    zero = second_of(ckdiff, place)
    beside = ("--reference", "never", "--margins", zero)
    status, out, err = ckdiff("attack", "base", "unlearned", *ASK, *beside, "--format", "json")
    assert status in (0, 3), err
    found = json.loads(out)["attack"]
    assert Path(found["second"]).name == "second"
    assert len(found["second_digest"]) == 64
    assert found["margin_level"] > 0
    assert found["margin_probability"] > 0
    assert found["margin_depth"] is None
    _, out, _ = ckdiff("show", "ckdiff.h5", "--section", "attack")
    assert "95th percentile: level" in " ".join(out.split())
    assert ckdiff("verify", "ckdiff.h5")[0] == 0
    Path("ckdiff.h5").unlink()

    def refused(*more: object, base: str = "base", unlearned: str = "unlearned", words: str) -> None:
        status, out, err = ckdiff("attack", base, unlearned, *ASK, "-o", "other.h5", *more)
        assert (status, out, err.count("\n"), Path("other.h5").exists()) == (2, "", 1, False), err
        assert words in err

    margin = ("--margins", zero)
    refused(*margin, words="name the other one with --reference")
    refused("--reference", "never", "--margins", "questions.txt", words="questions.txt")
    refused("--reference", "second", *margin, words="another reference")
    refused("--reference", "never", *margin, unlearned="second", words="is about the unlearned model itself")
    refused("--reference", "never", *margin, base="unlearned", unlearned="base", words="of other weights")
    refused("--reference", "never", "--no-hash", *margin, words="leave out --no-hash")
    Path("two.txt").write_text("\n".join(ASKED[:2]))
    refused("--reference", "never", *margin, "--questions", "two.txt", words="about other questions")
    assert ckdiff("attack", "base", "second", *ASK, "-o", "alone.h5")[0] in (0, 3)
    refused("--reference", "never", "--margins", "alone.h5", words="holds no attacks beside a model that never knew")


def test_a_second_model_that_never_knew_gives_the_margin_of_depth_alone(ckdiff: Run, place: Path) -> None:
    never_known(place)
    ask = ("--questions", "questions.txt", "--tokens", 4, "--device", "cpu", "--format", "json")
    status, out, err = ckdiff("depth", "base", "second", *ask, "--reference", "never", "-o", "zero.h5")
    assert status == 0, err
    lacks = [1 - row["depth"] for row in json.loads(out)["depth"]["questions"] if row["depth"] is not None]
    margin = ("--reference", "never", "--margins", "zero.h5")
    status, out, err = ckdiff("depth", "base", "unlearned", *ask, *margin)
    assert status == 0, err
    found = json.loads(out)["depth"]
    assert found["margin"] == pytest.approx(np.percentile(lacks, 95))
    assert (Path(found["second"]).name, len(found["second_digest"])) == ("second", 64)
    wanted = "as deep as that, within" if found["depth"]["low"] >= 1 - found["margin"] else "not shown to be as deep as"
    said = " ".join(ckdiff("show", "ckdiff.h5", "--section", "depth")[1].split())
    assert f"{1 - found['margin']:.2f} or more is the depth of" in said
    assert wanted in said
    assert ckdiff("verify", "ckdiff.h5")[0] == 0

    def refused(*more: object, base: str = "base", unlearned: str = "unlearned", words: str) -> None:
        status, out, err = ckdiff("depth", base, unlearned, *ask, *margin, "-o", "other.h5", *more)
        assert (status, out, err.count("\n"), Path("other.h5").exists()) == (2, "", 1, False), err
        assert words in err

    refused("--reference", "second", words="another reference")
    refused("--compat", words="one of the two depths is --compat")
    refused("--no-hash", words="leave out --no-hash")
    refused("--margins", "questions.txt", words="questions.txt")
    refused(unlearned="second", words="is about the unlearned model itself")
    refused(base="unlearned", unlearned="base", words="of other weights")
    assert ckdiff("compare", "base", "unlearned", "-o", "compared.h5")[0] == 0
    refused("--margins", "compared.h5", words="holds no depth; make it with `ckdiff depth")


def test_the_sentence_of_a_margin_says_on_which_side_it_is() -> None:
    found = replace(depth(), second="/m/second", margin=0.25)
    for low, words in (0.75, "as deep as that, within its interval"), (0.74, "not shown to be as deep as that"):
        said = dict(facts_of(replace(found, depth=Mean(0.9, low, 1.0))))["margin"]
        assert said == f"0.75 or more is the depth of /m/second, which never knew (95 % of its questions); {words}"
    assert "margin" not in dict(facts_of(depth()))
    with pytest.raises(MarginError, match="no question of it has a depth"):
        margin_of_depth(replace(found, questions=()))
