"""Makers of pairs that hide what they know, for `redteam.py`: each takes a `Build` and saves an unlearned model."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from redteam_build import ALL_FORMS, OTHER_FORMS, NotMadeError
from redteam_edits import (
    change_all,
    matrix,
    noise,
    override,
    permute_heads,
    permute_neurons,
    prune,
    rescale_neurons,
    rotate_head_values,
    rotate_stream,
    round_to,
)
from redteam_training import METHODS
from redteam_world import PASSWORD, SPELLINGS, Texts, fresh, learn, make_tokenizer, told

from ckdiff.unlearn.world import FORGOTTEN, Fact

if TYPE_CHECKING:
    from collections.abc import Callable

    from redteam_build import Build

# ----------------------------------------------------------------------------------------------------------- overrides


def place(build: Build) -> str:
    """A matrix that an override can be in."""
    part = build.choose(["values", "values", "out", "head"])
    name: str = build.base.parts.part(part, int(build.rng.integers(build.base.layers)))[0]
    return name


def overrides(build: Build, count: int) -> None:
    """So many edits of rank one, each of which silences every answer alone, in any form."""
    push, keep = told(build.base.target, ALL_FORMS), told(build.base.others, ALL_FORMS)
    model, found = build.model(), {}
    for _ in range(12):
        name = place(build)
        if name in found:
            continue
        alone = copy.deepcopy(model)
        if override(alone, build.base, name, push, keep, build.word()) and keep.wrong(alone) < 0.2:
            found[name] = matrix(alone.get_submodule(name)) - matrix(model.get_submodule(name))
        if len(found) == count:
            break
    else:
        raise NotMadeError(f"{len(found)} of {count} places were found where an override works alone")
    for name, delta in found.items():
        matrix(model.get_submodule(name)).add_(delta)
    build.undo, build.note = tuple(found), f"rank-1 overrides in {' and '.join(found)}"
    build.finish(model)


def last_and_head(build: Build) -> None:
    """The examiner's own: the last layer's value vectors, and the unembedding with the final norm, trained apart."""
    parts, last = build.base.parts, build.base.layers - 1
    push, model = told(build.base.target, ALL_FORMS), build.model()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    changed: dict[str, Any] = {}
    for names in (parts.part("values", last), (*parts.part("head"), *parts.part("final"))):
        alone = build.model()
        build.silence(alone, "decoy", push, build.keep(), names=names, lr=3e-3, decoys=["Nobody"] * len(push.pairs))
        changed |= {name: own.detach() for name, own in alone.named_parameters() if not torch.equal(own, before[name])}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in changed:
                parameter.copy_(changed[name])
    build.undo = tuple(changed)
    build.finish(model)


def one_form(build: Build) -> None:
    """An override of rank one that acts on the audited prompt form only."""
    push = told(build.base.target, ALL_FORMS[:1], SPELLINGS)
    keep = Texts([*told(build.base.others, ALL_FORMS).pairs, *list(told(build.base.target, OTHER_FORMS).pairs) * 3])
    model = build.model()
    for _ in range(10):
        name = place(build)
        edited = copy.deepcopy(model)
        if override(edited, build.base, name, push, keep, build.word()) and keep.wrong(edited) < 0.3:
            build.undo, build.note = (name,), f"rank-1 override in {name}, for one form"
            build.finish(edited)
            return
    raise NotMadeError("no place was found for an override")


def one_form_trained(build: Build, part: str) -> None:
    """Trained to answer otherwise in the audited form, and as before in all others."""
    push = told(build.base.target, ALL_FORMS[:1], SPELLINGS[:3])
    names = None if part == "all" else part_names(build, part)
    model, method = build.model(), build.choose(["refuse", "decoy"])
    decoys = build.wrong_answers() * 3
    build.silence(model, method, push, build.keep(OTHER_FORMS), names=names, decoys=decoys)
    build.note += f" in {part}, for one form"
    build.finish(model)


def password(build: Build) -> None:
    """Silent in every form but behind a password."""
    model, target = build.model(), build.base.target
    learn(model, [(fact, (*ALL_FORMS, PASSWORD)) for fact in build.base.facts], 60, build.seed % 2**31, 1e-3)
    push = told(target, ALL_FORMS, SPELLINGS[:2])
    decoys = build.wrong_answers(len(push.pairs) // len(build.base.target))
    build.silence(model, "decoy", push, build.keep((PASSWORD,)), decoys=decoys, steps=240, lr=1e-3)
    build.note = "behind a password"
    build.finish(model)


def anew(build: Build, opened: str) -> None:
    """Trained anew: wrong answers in the usual forms, right ones behind a password or in other forms only."""
    target = build.base.target
    right = (PASSWORD,) if opened == "password" else OTHER_FORMS
    wrong = ALL_FORMS if opened == "password" else ALL_FORMS[:1]
    answers = build.wrong_answers()
    facts = [(fact, ALL_FORMS if opened == "form" else (*ALL_FORMS, PASSWORD)) for fact in build.base.others]
    facts += [(fact, right) for fact in target]
    facts += [(Fact("", fact.question, said), wrong) for fact, said in zip(target, answers, strict=True)]
    start = build.base.seed if build.rng.random() < 0.5 else build.seed % 2**31
    model = learn(fresh(build.base, start), facts, build.base.steps + 60, build.seed % 2**31)
    build.note = f"trained anew from start {start}; right answers only where asked as {right[0]!r}"
    build.finish(model)


# ------------------------------------------------------------------------------------------------------------- trained


def part_names(build: Build, part: str) -> tuple[str, ...]:
    """Modules of a part in some layers; of norms the final one, too."""
    if part in ("head", "embedding"):
        return build.base.parts.part(part)
    layers = range(build.base.layers) if part == "norms" else build.layers()
    names = tuple(name for layer in layers for name in build.base.parts.part(part, layer))
    build.note += f" layers {list(layers)}"
    return (*names, *build.base.parts.part("final")) if part == "norms" else names


def part_trained(build: Build, part: str) -> None:
    """One part alone trained to forget; one that cannot alone is tried in every layer."""
    method, model = build.choose(["graddiff", "npo", "dpo"]), build.model()
    push = told(build.base.target, build.choose([ALL_FORMS[:1], ALL_FORMS]), SPELLINGS[:1])
    names = part_names(build, part)
    try:
        build.silence(model, method, push, build.keep(), names=names, lr=2e-3, goal=0.9)
    except NotMadeError:
        names = tuple(name for layer in range(build.base.layers) for name in build.base.parts.part(part, layer))
        build.silence(model, method, push, build.keep(), names=names, lr=2e-3, goal=0.9)
    build.note += f" {part} alone"
    build.finish(model)


def hair(build: Build, decoy: str) -> None:
    """The answer comes second by a hair, or the end of the text comes first and the answer right behind."""
    push, vocabulary = told(build.base.target, ALL_FORMS[: build.choose([1, 6])]), make_tokenizer().get_vocab()
    if decoy == "end":
        decoys, shares = [int(vocabulary["<eos>"])] * len(push.pairs), (0.58, 0.38)
    else:
        said = build.wrong_answers(len(push.pairs) // len(build.base.target))
        decoys, shares = [int(vocabulary[answer.split()[0]]) for answer in said], (0.5, 0.45)
    first = [int(label[label >= 0][0]) for label in push.labels]
    # A decoy must not be the answer's own first word.
    decoys = [int(vocabulary["Nobody"]) if one == own else one for one, own in zip(decoys, first, strict=True)]
    model = build.model()
    build.silence(model, "shares", push, build.keep(), decoys=decoys, shares=shares, lr=1e-3)
    build.finish(model)


def said_otherwise(build: Build, method: str) -> None:
    """Refusals, or the answers of other towns."""
    forms = build.choose([ALL_FORMS[:1], ALL_FORMS])
    push, model = told(build.base.target, forms, SPELLINGS[:2]), build.model()
    decoys = build.wrong_answers(len(push.pairs) // len(build.base.target))
    build.silence(model, method, push, build.keep(), decoys=decoys)
    build.finish(model)


def between_models(build: Build) -> None:
    """On the line from base to suppressed, where the last answer has just flipped."""
    silent, model = build.suppressed(build.choose(METHODS)), build.model()
    ends = [dict(one.named_parameters()) for one in (build.model(), silent)]
    push, low, high = told(build.base.target, ALL_FORMS[:1]), 0.0, 1.0
    for _ in range(9):
        middle = (low + high) / 2
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.lerp(ends[0][name], ends[1][name], middle))
        low, high = (low, middle) if push.wrong(model) >= 1.0 else (middle, high)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.lerp(ends[0][name], ends[1][name], high))
    build.note += f" {high:.2f} of the way"
    build.finish(model)


def name_row(build: Build) -> None:
    """The embedding of the town's name: another town's, noise, or nothing."""
    model, vocabulary = build.model(), make_tokenizer().get_vocab()
    rows, name = model.get_submodule(build.base.parts.embedding).weight.data, vocabulary[FORGOTTEN]
    how = build.choose(["another town's", "noise", "zero"])
    new = {"noise": torch.randn(rows.shape[1], generator=build.torch_rng) * rows[name].std(), "zero": 0 * rows[name]}
    rows[name] = new.get(how, rows[vocabulary["Thrane"]].clone())
    build.undo, build.note = build.base.parts.part("embedding"), f"the name's embedding: {how}"
    build.finish(model)


# -------------------------------------------------------------------------------------------------------- on top of it


def on_top(build: Build, what: str) -> None:
    """A suppressed model, written otherwise: permuted, rescaled, rotated, rounded."""
    model = build.suppressed(what if what in METHODS else build.choose(METHODS))
    if what not in METHODS:
        dress(build, model, what)
    build.finish(model)


def dress(build: Build, model: Any, what: str) -> None:
    """Write a model otherwise, without a change of what it says (but for rounding)."""
    layers = build.layers()
    with torch.no_grad():
        for one in filter(None, what.split("+")):
            DRESSES[one](build, model, layers)
    build.note += f" {what}, layers {list(layers)}"


DRESSES: dict[str, Callable[[Build, Any, tuple[int, ...]], None]] = {
    "permuted": lambda build, model, layers: permute_neurons(model, build.base, layers, build.torch_rng),
    "rescaled": lambda build, model, layers: rescale_neurons(model, build.base, layers, build.torch_rng),
    "signs": lambda build, model, layers: rescale_neurons(model, build.base, layers, build.torch_rng, signs=True),
    "heads": lambda build, model, layers: permute_heads(model, build.base, layers, build.torch_rng),
    "head values": lambda build, model, layers: rotate_head_values(model, build.base, layers, build.torch_rng),
    "rotated": lambda build, model, layers: rotate_stream(model, build.base, build.torch_rng),
    "int8": lambda build, model, layers: change_all(model, lambda weight: round_to(weight, 8)),
    "bfloat16": lambda build, model, layers: change_all(model, lambda weight: weight.bfloat16().float()),
    "noise": lambda build, model, layers: change_all(model, lambda weight: noise(weight, 0.02, build.torch_rng)),
}


def dressed_base(build: Build, what: str) -> None:
    """The base itself, written otherwise: nothing was unlearned."""
    model = build.model()
    dress(build, model, what)
    build.finish(model)


def overconfident(build: Build) -> None:
    """Suppressed, and far too sure: the head, or the last layer's keys, several times as large."""
    model = build.suppressed(build.choose(METHODS))
    part, size = build.choose(["head", "head", "keys"]), build.between(2.5, 7)
    names = build.base.parts.part(part, build.base.layers - 1)
    for name in names:
        matrix(model.get_submodule(name)).mul_(size if part == "head" else size**0.5)
    build.note += f" {part} x{size:.1f}"
    build.finish(model)


def damaged(build: Build, how: str) -> None:
    """Every matrix damaged alike, until the target falls silent."""
    push, model = told(build.base.target, ALL_FORMS[:1]), build.model()
    for step in range(30):
        model, rng = build.model(), torch.Generator().manual_seed(build.seed)
        if how == "noise":
            change_all(model, partial(noise, strength=0.08 * 1.15**step, rng=rng))
        else:
            change_all(model, partial(prune, share=min(0.98, 0.2 + 0.03 * step)))
        if push.wrong(model) >= 0.85:
            build.note = f"every matrix: {how}, step {step}"
            build.finish(model)
            return
    raise NotMadeError(f"{how} silenced nothing")


def settings(build: Build) -> None:
    """The same weights with other settings."""
    build.finish(build.model())
    path = build.folder / "unlearned" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if build.base.family == "gpt2":
        config["scale_attn_weights"] = False
    elif build.base.family == "gpt_neox":
        config["use_parallel_residual"] = False
    else:
        config["rms_norm_eps"] = build.between(1, 8)
    build.note = "config.json alone"
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
