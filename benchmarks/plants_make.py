"""One planted pair on disk, and its report: `make_pair(plant, work)`.

WORK/bases/a4/{base,target.jsonl,unrelated.jsonl} are made once; WORK/007/ gets `unlearned`, `truth.json` and, last of
all, `report.h5`: a directory without a report is made anew.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from plants_edits import as_int8, edited, names_of, noise
from plants_models import (
    FACTS,
    OTHERS,
    TARGET,
    Facts,
    divergence,
    fresh,
    learned,
    load,
    made_to_forget,
    make_base,
    save,
    weights,
)
from safetensors.torch import save_file

from ckdiff.calls.behave import behave
from ckdiff.calls.compare import compare
from ckdiff.calls.probe import probe
from ckdiff.calls.specs import BehaveSpec, CompareSpec, ProbeSpec
from ckdiff.calls.unlearn import make_unlearned
from ckdiff.modes import DIRECTIONS, MODES
from ckdiff.probes.assembly import NothingToRecoverError
from ckdiff.report.hdf5.file import write_report
from ckdiff.scoring.settings import Settings
from ckdiff.unlearn.recipe import Recipe, UnlearnSpec, stop_when

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plants_edits import Changed
    from plants_models import Base
    from plants_plan import Plant
    from transformers import LlamaForCausalLM

    from ckdiff.unlearn.world import Fact

SETTINGS = Settings(modes=tuple(MODES), variants=("open", "whole"), directions=DIRECTIONS, window=1, device="cpu")
STRONGER, MOST_STRONGER, ALONE = 1.1, 60, 1.0
"""A part of a two-component plant grows from a tenth of its weights until it alone makes `ALONE` nats a token (KL)."""
DRIFT = 0.003, 0.1
"""Least and greatest relative drift of all other weights, where a plant has some."""
ATTEMPTS = 12
"""Places and strengths that are tried until a plant changes an answer."""


@dataclass(slots=True)
class Truth:
    """What was done to the base.

    Attributes:
        changed: share of the target facts whose greedy answer is another one, weights as saved.
        needed: of the planted layers those whose part alone changes an answer.
        alone: by layer or part, the share of answers that it changes alone.
        probe: "" or why there is no probe.
    """

    number: int
    kind: str
    group: str
    base: str
    action: str
    parts: tuple[str, ...]
    layers: tuple[int, ...]
    strength: float
    changed: float = 0.0
    changed_others: float = 0.0
    needed: tuple[int, ...] = ()
    alone: dict[str, float] = field(default_factory=dict)
    note: str = ""
    probe: str = ""


def base_folder(work: Path, base: Base) -> Path:
    """The folder of a base and its questions, made where it is missing."""
    folder = work / "bases" / base.name
    if not (folder / "base").is_dir():
        torch.set_num_threads(1)
        shutil.rmtree(folder, ignore_errors=True)
        partial = folder.with_name(f"{base.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make_base(partial, base)
        partial.rename(folder)
    return folder


def make_pair(plant: Plant, work: Path) -> Path:
    """Make, measure and write one pair; a report that is there already stays."""
    folder = work / f"{plant.number:03d}"
    if (folder / "report.h5").is_file():
        return folder
    torch.set_num_threads(1)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    home = base_folder(work, plant.base)
    if plant.kind.action == "never":
        home = taught(plant, home, folder / "taught")
    kind = plant.kind
    truth = Truth(
        plant.number, kind.name, kind.group, plant.base.name, kind.action, kind.parts, plant.layers, plant.strength
    )
    Maker(plant, home, folder / "unlearned", truth).make()
    after = load(folder / "unlearned")
    truth.changed, truth.changed_others = Facts(TARGET).wrong(after), Facts(OTHERS).wrong(after)
    measure(home, folder, truth)
    return folder


def taught(plant: Plant, home: Path, folder: Path) -> Path:
    """A folder like a base's whose `base` was tuned on all facts from `before`, which never saw the town's."""
    folder.mkdir()
    model = learned(fresh(plant.base, plant.base.seed), OTHERS)
    save(home / "base", folder / "before", weights(model).items())
    for steps in (50, 100, 200, 400, 800):
        after = learned(load(folder / "before"), FACTS, steps, plant.strength)
        if not Facts(FACTS).wrong(after):
            break
    save(home / "base", folder / "base", weights(after).items())
    for name in ("target.jsonl", "unrelated.jsonl"):
        shutil.copyfile(home / name, folder / name)
    return folder


def measure(home: Path, folder: Path, truth: Truth) -> None:
    """Compare, probe and ask, as `ckdiff audit` does; then write what is true and what was found."""
    base, unlearned = str(home / "base"), str(folder / "unlearned")
    target, unrelated = home / "target.jsonl", home / "unrelated.jsonl"
    report = compare(CompareSpec(base, unlearned), accept=None)
    try:
        report = probe(ProbeSpec(base, unlearned, target, settings=SETTINGS), existing=report)
    except NothingToRecoverError as error:
        truth.probe = str(error)
    spec = BehaveSpec(base, unlearned, target, unrelated=unrelated, neutral=False, settings=SETTINGS)
    report = behave(spec, existing=report)
    (folder / "truth.json").write_text(json.dumps(asdict(truth), indent=1) + "\n", encoding="utf-8")
    write_report(report, folder / "report.h5")


class Maker:
    """Makes the unlearned checkpoint of a plant, and fills in the truth about it."""

    def __init__(self, plant: Plant, home: Path, output: Path, truth: Truth) -> None:
        self.plant, self.home, self.output, self.truth = plant, home, output, truth
        self.origin, self.rng = home / "base", plant.rng()

    def make(self) -> None:
        """By the action of its kind."""
        action = self.plant.kind.action
        special: dict[str, Callable[[], object]] = {
            "copy": lambda: save(self.origin, self.output, ()),
            "train": self.train,
            "needle": self.needle,
            "both": self.both,
            "drift": self.over_drift,
            "reshard": lambda: self.stored(torch.bfloat16),
            "fp16": lambda: self.stored(torch.float16),
            "int8": lambda: self.changed({name: as_int8(weight) for name, weight in self.own().items()}),
            "tune all": lambda: self.tune(FACTS),
            "tune others": lambda: self.tune(OTHERS),
            "retrain": lambda: self.retrain(10_000 + self.plant.number),
            "retrain same": lambda: self.retrain(self.plant.base.seed),
            "never": lambda: shutil.copytree(self.home / "before", self.output),
            "noise all": lambda: self.edit("noise", tuple(self.own())),
        }
        if action in special:
            special[action]()
        elif action in ("graddiff", "dpo", "npo", "npo_kl"):
            self.unlearn()
        else:
            self.edit_layers()

    def model(self) -> LlamaForCausalLM:
        """The base, anew."""
        return load(self.origin)

    def own(self) -> Changed:
        """The base's weights."""
        return weights(self.model())

    def changed(self, tensors: Changed) -> None:
        """Save the base with these tensors in place of its own."""
        save(self.origin, self.output, tensors.items())

    def edit(self, action: str, names: tuple[str, ...]) -> None:
        """Save the base with one edit."""
        self.changed(edited(self.model(), action, names, self.plant.strength, self.rng))

    def edit_layers(self) -> None:
        """One component in one or more layers; of several, what each does alone is measured.

        Most plants are drawn again until they change an answer: in models this small many a layer is not needed.
        """
        for attempt in range(ATTEMPTS):
            self.redraw(attempt)
            model = self.model()
            by_layer = {layer: self.edited_layer(model, layer, self.plant.kind.action) for layer in self.plant.layers}
            tensors = {name: tensor for part in by_layer.values() for name, tensor in part.items()}
            if self.plant.silent_allowed or changes(self.model(), tensors):
                break
        self.truth.alone = {str(layer): changes(self.model(), part) for layer, part in by_layer.items()}
        self.truth.needed = needed(self.plant.layers, self.truth.alone)
        self.changed(tensors)

    def redraw(self, attempt: int) -> None:
        """Another place and strength; the first attempt is the plan's."""
        self.plant = self.plant.again(attempt)
        self.truth.layers, self.truth.strength = self.plant.layers, self.plant.strength

    def edited_layer(self, model: LlamaForCausalLM, layer: int, action: str) -> Changed:
        """The tensors of one layer, edited."""
        return edited(model, action, self.names(layer), self.plant.strength, self.rng)

    def names(self, layer: int) -> tuple[str, ...]:
        """Tensors to edit in a layer; of attention all four, or one of them, or W_O where inputs are aimed at."""
        names = tuple(name for part in self.plant.kind.parts for name in names_of(part, layer))
        if self.plant.kind.parts == ("attention",):
            if self.plant.kind.action in ("target", "zero"):
                names = names[3:]
            elif self.rng.random() < 0.5:
                chosen = int(self.rng.integers(4))
                names = names[chosen : chosen + 1]
                self.truth.note = names[0].split(".")[-2]
        return names

    def train(self) -> None:
        """Gradient Difference on one component alone until a share of the target facts is gone."""
        model, plant = self.model(), self.plant
        names = tuple({name for layer in plant.layers for part in plant.kind.parts for name in names_of(part, layer)})
        lr = float(self.rng.choice([3e-4, 1e-3, 3e-3]))
        steps = made_to_forget(model, names, plant.strength, lr)
        self.truth.note = f"lr {lr:g}, {steps} steps"
        after = weights(model)
        self.changed({name: after[name] for name in sorted(names)})

    def needle(self) -> None:
        """Noise on some value vectors of one layer, by `ckdiff unlearn --method needle`; drawn again where silent."""
        for attempt in range(ATTEMPTS):
            self.redraw(attempt)
            shutil.rmtree(self.output, ignore_errors=True)
            self.one_needle()
            if self.plant.silent_allowed or Facts(TARGET).wrong(load(self.output)):
                break

    def one_needle(self) -> None:
        """Of one strength, at one place."""
        down = self.own()[names_of("value_vectors", self.plant.layers[0])[0]]
        count = int(self.rng.choice([1, 4, 16, 64, down.shape[1]]))
        picked = sorted(int(neuron) for neuron in self.rng.choice(down.shape[1], count, replace=False))
        size = self.plant.strength * float(down.norm(dim=0).mean()) / down.shape[0] ** 0.5
        neurons = tuple((self.plant.layers[0], neuron) for neuron in picked)
        self.truth.note = f"{count} neurons, noise {size:.3g}"
        recipe = Recipe(method="needle", neurons=neurons, noise=size, seed=self.plant.number, device="cpu")
        make_unlearned(UnlearnSpec(str(self.origin), self.output, recipe=recipe))

    def both(self) -> None:
        """Two components, each strong enough to change the answers alone, and neither stronger than the other."""
        parts = self.plant.kind.parts
        if not parts:
            parts = ("value_vectors", str(self.rng.choice(["keys", "attention"])))
        layers: list[int] = []
        tensors: Changed = {}
        for part in parts:
            layer, found = self.strong_enough(part)
            self.truth.alone[f"{part} {layer}"] = changes(self.model(), found)
            layers.append(layer)
            tensors |= found
        self.truth.parts, self.truth.layers = parts, tuple(layers)
        self.truth.needed = tuple(sorted(set(layers)))
        self.changed(tensors)

    def over_drift(self) -> None:
        """Noise on one component of one layer, and on every other weight so little that it changes no answer alone."""
        little = float(np.exp(self.rng.uniform(*np.log(DRIFT))))
        own, seed = self.own(), int(self.rng.integers(2**32))
        while changes(self.model(), moved := drifted(own, little, seed)):
            little /= 2
        for attempt in range(ATTEMPTS):
            self.redraw(attempt)
            part = self.edited_layer(self.model(), self.plant.layers[0], "noise")
            if changes(self.model(), moved | part):
                break
        model, facts = self.model(), Facts(TARGET)
        share = divergence(model, with_weights(self.model(), moved), facts)
        self.truth.note = f"drift {little:.2g}, KL {share:.2g} alone"
        self.truth.needed = self.plant.layers
        self.changed(moved | part)

    def strong_enough(self, part: str) -> tuple[int, Changed]:
        """A layer, and noise on a part of it that makes `ALONE` nats; layers are tried in random order."""
        model, facts = self.model(), Facts(TARGET)
        for layer in self.rng.permutation(self.plant.base.layers):
            seed, names = int(self.rng.integers(2**32)), names_of(part, int(layer))
            for step in range(MOST_STRONGER):
                tensors = edited(model, "noise", names, 0.1 * STRONGER**step, np.random.default_rng(seed))
                if divergence(model, with_weights(self.model(), tensors), facts) >= ALONE:
                    return int(layer), tensors
        raise AssertionError(f"{part}: no layer of {self.plant.base.name} matters")

    def stored(self, dtype: torch.dtype) -> None:
        """All in one file, in a dtype."""
        self.output.mkdir()
        for path in self.origin.glob("*.json"):
            if "index" not in path.name:
                shutil.copyfile(path, self.output / path.name)
        tensors = {name: weight.to(dtype).clone() for name, weight in self.own().items()}
        save_file(tensors, self.output / "model.safetensors", metadata={"format": "pt"})

    def tune(self, facts: tuple[Fact, ...]) -> None:
        """A few steps on facts that it knows."""
        steps = int(self.rng.integers(2, 21))
        self.truth.note = f"{steps} steps"
        self.changed(weights(learned(self.model(), facts, steps, self.plant.strength)))

    def retrain(self, seed: int) -> None:
        """The same model learned again, without the town; from the base's own first weights where `seed` is its."""
        steps = round(400 * self.plant.strength)
        self.truth.note = f"{steps} steps"
        self.changed(weights(learned(fresh(self.plant.base, seed), OTHERS, steps)))

    def unlearn(self) -> None:
        """By `ckdiff unlearn`, until a random share of the target's BLEU is left."""
        method = self.plant.kind.action
        left = float(self.rng.choice([0.05, 0.2, 0.5]))
        own = {
            "graddiff": {"retain_loss": "ce", "retain_weight": 3.0, "limit": 3.0},
            "dpo": {"preferred": "retain"},
            "npo": {},
            "npo_kl": {"retain_weight": 60.0},
        }
        recipe = Recipe(
            method=method,
            lr=self.plant.strength,
            steps=200,
            warmup=1,
            accumulation=1,
            weight_decay=0.0,
            evaluate_every=4,
            stop_when=(stop_when(f"target_bleu<{left}"),),
            seed=self.plant.number,
            tokens=3,
            device="cpu",
            **own[method],  # type: ignore[arg-type]
        )
        target, others = self.home / "target.jsonl", self.home / "unrelated.jsonl"
        self.truth.note = f"target BLEU below {left}"
        spec = UnlearnSpec(
            str(self.origin), self.output, target, retain=others, questions=target, unrelated=others, recipe=recipe
        )
        make_unlearned(spec)


def with_weights(model: LlamaForCausalLM, tensors: Changed) -> LlamaForCausalLM:
    """The model with these tensors in place of its own, rounded as they are saved."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor.bfloat16().float())
    return model


def drifted(own: Changed, strength: float, seed: int) -> Changed:
    """Noise on every weight, of one relative strength."""
    rng = np.random.default_rng(seed)
    return {name: noise(weight, strength, rng) for name, weight in own.items()}


def changes(model: LlamaForCausalLM, tensors: Changed) -> float:
    """Share of the target facts that the model answers otherwise with these tensors."""
    return Facts(TARGET).wrong(with_weights(model, tensors))


def needed(layers: tuple[int, ...], alone: dict[str, float]) -> tuple[int, ...]:
    """The layers whose part alone changes an answer."""
    return tuple(layer for layer in layers if alone[str(layer)] > 0)
