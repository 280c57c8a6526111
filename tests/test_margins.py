"""`--margins REPORT`: two models that never knew say within what a third one counts as one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from tests.test_probe_cli import ASKED, ckdiff, made, place

if TYPE_CHECKING:
    from tests.test_probe_cli import Run

__all__ = ["ckdiff", "made", "place"]

ASK = ("--questions", "questions.txt", "--attack", "prune", "--tokens", 4, "--device", "cpu")


def second_of(ckdiff: Run, place: Path) -> Path:
    """A report of a second model that never knew beside the first one."""
    for seed, name in enumerate(("never", "second")):
        shutil.copytree(place / "base", place / name)
        file, generator = place / name / "model.safetensors", torch.Generator().manual_seed(seed)
        own = load_file(file).items()
        noisy = {key: value + 0.2 * torch.randn(value.shape, generator=generator) for key, value in own}
        save_file(noisy, file, {"format": "pt"})
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
