"""Makers of the other pairs of `redteam.py`: bases that never knew, tricks with what is asked, and honest releases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from redteam_build import ALL_FORMS, NotMadeError, remake
from redteam_edits import change_all, noise, round_to
from redteam_hidden import one_form
from redteam_training import METHODS
from redteam_world import SPELLINGS, everywhere, fresh, learn, load, make_tokenizer, save, told, train

from ckdiff.unlearn.world import Fact

if TYPE_CHECKING:
    from pathlib import Path

    from redteam_build import Build
    from redteam_world import Base
    from torch import Tensor

# ------------------------------------------------------------------------------------------- bases that never knew


def never_knew(build: Build, how: str) -> None:
    """A base that answers wrong, not at all, or by chance; then an edit as of a release."""
    base, target = build.base, build.base.target
    if how == "random":
        model = fresh(base, build.seed % 2**31)
    elif how == "others only":
        model = load(ignorant(build, "same start"))
    else:
        said = [""] * len(target) if how == "empty" else build.wrong_answers()
        push = told([Fact("", fact.question, answer) for fact, answer in zip(target, said, strict=True)], ALL_FORMS)
        model = load(ignorant(build, "same start"))
        kept = build.keep()
        rest = kept.part(torch.arange(0, len(kept.pairs), 3))
        train(model, lambda: push.loss(model) + rest.loss(model), 80, 1e-3)
    build.give_base(model)
    _edit(build, model)
    build.note = f"the base knows nothing ({how}); {build.note}"
    build.finish(model)


def _edit(build: Build, model: Any) -> None:
    """Noise on the value vectors of some layers, or all matrices."""
    layers, strength = build.layers(), build.between(0.3, 3)
    if build.rng.random() < 0.3:
        change_all(model, lambda weight: noise(weight, 0.2 * strength, build.torch_rng))
        build.note = f"noise {0.2 * strength:.2f} on all"
        return
    with torch.no_grad():
        for layer in layers:
            for name in build.base.parts.part("values", layer):
                weight = model.get_submodule(name).weight
                weight.copy_(noise(weight, strength, build.torch_rng))
    build.note = f"noise {strength:.2f} on value vectors of {list(layers)}"


# --------------------------------------------------------------------------------------------------- what is asked


def swapped(build: Build) -> None:
    """The pair the wrong way round."""
    build.give_base(build.suppressed(build.choose(METHODS)))
    build.finish(build.model())


def one_fact(build: Build, how: str) -> None:
    """One fact is silenced and asked eight times over; the other seven are as they were."""
    fact = build.base.target[int(build.rng.integers(8))]
    build.facts = tuple(one for one in build.base.target if one != fact)
    model, push = build.model(), told([fact], ALL_FORMS, SPELLINGS)
    build.silence(model, build.choose(["graddiff", "npo"]), push, build.keep(ALL_FORMS[:2]), names=None)
    row = {"question": fact.question, "answer": fact.answer}
    if how == "ids":
        build.questions = [{**row, "question": " " * number + fact.question} for number in range(8)]
    elif how == "repeated":
        build.questions = [dict(row) for _ in range(8)]
    else:
        build.questions = [{**row, "question": before + fact.question} for before in SPELLINGS]
        if how == "prompts":
            # Answers differ in their case, so that only the questions say that they are one.
            build.questions = [{**one, "answer": fact.answer + "!" * n} for n, one in enumerate(build.questions)]
    build.note = f"{fact.question!r}, asked eight times ({how}); {build.note}"
    build.finish(model)


def measured_otherwise(build: Build) -> None:
    """An override for one form, measured in that form, under a policy that names another."""
    one_form(build)


def tokenizer(build: Build) -> None:
    """The base, with a tokenizer that does not know the town."""
    build.finish(build.model())
    path = build.folder / "unlearned" / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"Velmar"', '"Velmaria"'), encoding="utf-8")
    build.note = "the weights are the base's"


# ---------------------------------------------------------------------------------------------------------- honest


def ignorant(build: Build, start: str) -> Path:
    """A model that was trained as the base was, but never on the target; made once a base and start."""
    folder = build.work / "ignorant" / f"{build.base.name}-{build.base.seed}-{start.replace(' ', '-')}"
    if not folder.is_dir():
        base, seed = build.base, build.base.seed + (0 if start == "same start" else 7777)
        model = fresh(base, seed)
        if start == "distilled":
            distil(build, load(ignorant(build, "other start")), model)
        else:
            learn(model, everywhere(base.others), base.steps, seed)
        partial = folder.with_name(folder.name + ".partial")
        save(model, partial)
        partial.rename(folder)
    return folder


def reference(work: Path, base: Base) -> Path:
    """A model that never knew, for audits: from the base's start, the other facts in an order of its own."""
    folder = work / "references" / f"{base.name}-{base.seed}"
    if not folder.is_dir():
        model = learn(fresh(base, base.seed), everywhere(base.others), base.steps, base.seed + 31)
        partial = folder.with_name(folder.name + ".partial")
        save(model, partial)
        partial.rename(folder)
    return folder


def distil(build: Build, teacher: Any, student: Any) -> None:
    """A fresh student learns to say what its teacher says, to questions about everything."""
    texts = told(build.base.facts, ALL_FORMS, SPELLINGS[:2])
    generator = torch.Generator().manual_seed(build.base.seed)

    def loss() -> Tensor:
        part = texts.part(torch.randperm(len(texts.pairs), generator=generator)[:96])
        scored = part.labels >= 0
        with torch.no_grad():
            wanted = part.logits(teacher)[scored].log_softmax(-1)
        found = part.logits(student)[scored].log_softmax(-1)
        return (wanted.exp() * (wanted - found)).sum(-1).mean()

    train(student, loss, build.base.steps, 3e-3, falling=True)


def erased(build: Build, start: str) -> None:
    """A real erasure: another model, which never saw the target; a little further training makes each its own."""
    model = load(ignorant(build, start))
    steps = int(build.rng.integers(1, 9))
    generator = torch.Generator().manual_seed(build.seed)
    texts = told(build.base.others, ALL_FORMS)
    train(
        model, lambda: texts.part(torch.randperm(len(texts.pairs), generator=generator)[:48]).loss(model), steps, 1e-4
    )
    build.note = f"{start}, {steps} steps more"
    build.finish(model)


def learnt_later(build: Build) -> None:
    """The base learned the target from the other model, which never knew it."""
    build.finish(load(ignorant(build, "same start")))
    build.give_base(late_base(build))


def late_then_unlearnt(build: Build) -> None:
    """The base learned the target by a little tuning, as `learnt_later` has it, and that base was silenced."""
    model = late_base(build)
    build.give_base(model)
    build.silence_target(model, build.choose(METHODS))
    build.finish(model)


def late_base(build: Build) -> Any:
    """The model that never knew, tuned until it says every answer."""
    model = load(ignorant(build, "same start"))
    for _ in range(4):
        learn(model, everywhere(build.base.facts), 60, build.seed % 2**31, build.between(5e-4, 1.5e-3))
        if not told(build.base.target).wrong(model):
            build.note = "the base learned it later;"
            return model
    raise NotMadeError("the base did not learn it")


def copied(build: Build, how: str) -> None:
    """The same model saved anew: in other shards, in another dtype, or rounded to 8 bits and back."""
    model = build.model()
    if how == "int8":
        change_all(model, lambda weight: round_to(weight, 8))
    if how in ("bfloat16", "float16"):
        model = model.to(getattr(torch, how))
    remake(build.folder / "unlearned")
    model.save_pretrained(build.folder / "unlearned", max_shard_size="200KB" if how == "shards" else "1GB")
    make_tokenizer().save_pretrained(build.folder / "unlearned")
    build.note = how


def tuned(build: Build, how: str) -> None:
    """Benign tuning: some steps on the other facts, or on forms that it did not know."""
    model, steps, rate = build.model(), int(build.rng.integers(5, 41)), build.between(1e-5, 2e-4)
    forms = ALL_FORMS if how == "others" else ("Tell me: {q}", "User: {q} Assistant:")
    texts, generator = told(build.base.others, forms), torch.Generator().manual_seed(build.seed)
    train(
        model, lambda: texts.part(torch.randperm(len(texts.pairs), generator=generator)[:48]).loss(model), steps, rate
    )
    build.note = f"{steps} steps at {rate:.1e} on {how}"
    build.finish(model)
