"""Sample reports, and equality that knows arrays and NaN."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ckdiff.report.schema.attack import (
    UNDEFINED as UNMEASURED,
)
from ckdiff.report.schema.attack import (
    AttackQuestion,
    AttackReport,
    AttackRow,
    CodeShare,
    ReturnedAnswer,
    TierEvidence,
)
from ckdiff.report.schema.behaviour import (
    AnswerRecord,
    AnswerSet,
    Behaviour,
    ChoiceRecord,
    ChoiceSet,
    FieldMeasure,
    HistoryPoint,
    HoldOut,
    Mean,
    MemberScore,
    NeutralRecord,
    NeutralSet,
    ReferenceRecord,
)
from ckdiff.report.schema.comparison import (
    Comparison,
    ComponentDrift,
    ConfigChange,
    Drift,
    Grid,
    NeuronGrid,
    ShapeMismatch,
    TensorDrift,
    TensorInfo,
    Uncompared,
)
from ckdiff.report.schema.depth import DepthQuestion, DepthReport
from ckdiff.report.schema.discovery import (
    CandidateRow,
    DiscoveryReport,
    GroupSpan,
    LayerFall,
    LostGroup,
    LostWord,
    NeuronFall,
    TextKind,
    TopicAnswer,
    WeightWord,
)
from ckdiff.report.schema.probe import (
    Control,
    Curve,
    LossSummary,
    NeuronRecord,
    NeuronSet,
    Probe,
    ProbeRun,
    QuestionRecord,
)
from ckdiff.report.schema.report import CheckpointRecord, Provenance, Report, SettingRecord, ShardRecord
from ckdiff.report.schema.verdict import Explanation, Gate, GateCheck, Label, RuleResult, Verdict
from ckdiff.scoring.depth import depths, mean_depth, shares
from ckdiff.scoring.discovery import Tail, candidate_p, corrected, pair_p, pool_forms

LAYERED = {"value_vectors": "mlp.down_proj", "keys": "mlp.up_proj", "attn_q": "self_attn.q_proj", "norms": "norm"}
SAME = Drift(1.0, 0.0, 0.0, 0.0, 2.0, 2.0, 0, 0.0, 0, 0, True)
UNDEFINED = Drift(math.nan, math.nan, math.nan, math.nan, math.nan, 2.0, 5, 0.5, 3, 0, False)


def moved(one_minus_cosine: float, changed: int = 900, parameters: int = 1000) -> Drift:
    length = math.sqrt(2 * one_minus_cosine)
    fraction = changed / parameters
    return Drift(1 - one_minus_cosine, one_minus_cosine, length, length / 10, 2.0, 2.1, changed, fraction, 0, 0, False)


def tensor(name: str, component: str, layer: int | None, drift: Drift, tied: bool = False) -> TensorDrift:
    return TensorDrift(
        name, component, layer, (20, 50), "BF16", "F32" if name == "lm_head.weight" else "BF16", 1000, tied, drift
    )


def checkpoint(name: str) -> CheckpointRecord:
    shards = (ShardRecord("a-00001.safetensors", 4_000_000_000, "ab" * 32), ShardRecord("b-ü.safetensors", 7, None))
    settings = (SettingRecord("config.json", "ef" * 32),)
    return CheckpointRecord(f"/models/{name}", None if name == "base" else "main", "cd" * 32, shards, settings)


def component(name: str, tensors: list[TensorDrift]) -> ComponentDrift:
    largest = max(tensors, key=lambda row: row.drift.one_minus_cosine)
    least = min(row.drift.cosine for row in tensors)
    parameters = 1000 * len(tensors)
    return ComponentDrift(name, len(tensors), parameters, largest.drift.cosine, least, tensors[0].tied, largest.drift)


def comparison(layers: int = 6, **changes: Any) -> Comparison:
    """A comparison of a small model whose last layers' value vectors moved most."""
    tensors = [tensor("model.embed_tokens.weight", "embedding", None, SAME)]
    for layer in range(layers):
        for name, path in LAYERED.items():
            still = name == "norms" or layer < 2
            drift = SAME if still else moved(1e-9 * 10 ** min(layer, 7) * (3 if name == "value_vectors" else 1))
            tensors.append(tensor(f"model.layers.{layer}.{path}.weight", name, layer, drift))
    tensors.append(tensor("lm_head.weight", "unembedding", None, SAME, tied=True))
    names = ("embedding", "unembedding", *LAYERED)
    groups = {name: [row for row in tensors if row.component == name] for name in names}
    found = Comparison(
        model_type="llama",
        known_architecture=True,
        tensors=tuple(tensors),
        components=tuple(component(name, rows) for name, rows in groups.items() if rows),
        grid=grid(tensors, layers),
        neurons={name: neurons(layers) for name in ("value_vectors", "keys")},
        only_in_base=(TensorInfo("model.extra.weight", "other", (3,), "F32"),),
        only_in_unlearned=tuple(TensorInfo(f"lora.{n}", "other", (n,), "BF16") for n in range(5)),
        shape_mismatch=(ShapeMismatch("model.resized.weight", "embedding", (32000, 8), (32001, 8)),),
        config_changes=(
            ConfigChange("config.json", "vocab_size", "32000", "32001"),
            ConfigChange("config.json", "rope.θ", None, '"' + "long " * 60 + '"'),
        ),
        ignored=("model.layers.0.rotary.inv_freq",),
        notes=("model types differ: llama and mistral",),
        config_spellings=(ConfigChange("config.json", "torch_dtype", '"bfloat16"', None),),
        config_uncompared=(Uncompared("mystery.json", "the two differ, and ckdiff does not know this file"),),
    )
    return dataclasses.replace(found, **changes)


def grid(tensors: list[TensorDrift], layers: int) -> Grid:
    cells = {(row.component, row.layer): row.drift for row in tensors}
    names = tuple(LAYERED)

    def values(field: str) -> Any:
        return np.array([[getattr(cells[name, layer], field) for layer in range(layers)] for name in names], dtype="f8")

    fields = ("cosine", "one_minus_cosine", "relative_l2", "changed_fraction")
    return Grid(names, np.arange(layers, dtype="i8"), *(values(field).reshape(len(names), layers) for field in fields))


def neurons(layers: int, width: int = 40) -> NeuronGrid:
    values = np.random.default_rng(0).uniform(0, 1e-6, (layers, width)).astype("f4")
    values[-1:, 7] = 0.125
    values[-1:, 9] = np.nan
    return NeuronGrid(np.arange(layers, dtype="i8"), values, np.sqrt(2 * values))


def empty_comparison() -> Comparison:
    nothing = np.zeros((0, 0))
    return Comparison(
        "", False, (), (), Grid((), np.zeros(0, "i8"), nothing, nothing, nothing, nothing), {}, (), (), (), (), (), ()
    )


def identical_comparison() -> Comparison:
    tensors = tuple(tensor(f"model.layers.{n}.mlp.up_proj.weight", "keys", n, SAME) for n in range(3))
    return dataclasses.replace(
        empty_comparison(), model_type="llama", tensors=tensors, components=(component("keys", list(tensors)),)
    )


def report(
    found: Comparison | None,
    probe: Probe | None = None,
    behaviour: Behaviour | None = None,
    verdict: Verdict | None = None,
    attack: AttackReport | None = None,
    depth: DepthReport | None = None,
    discovery: DiscoveryReport | None = None,
) -> Report:
    sides = Provenance(checkpoint("base"), checkpoint("unlearned"))
    return Report(
        sides, found, probe, behaviour, verdict, attack, depth, discovery, versions={"ckdiff": "0.1", "a": "é"}
    )


def curve(scores: Sequence[float], half: float = 0.05) -> Curve:
    """A curve with intervals of this half width and bands of twice that."""
    values = np.array(scores, dtype="f8")
    return Curve(values, values - half, values + half, values - 2 * half, values + 2 * half)


def bump(layers: int, centre: float, height: float, width: float = 2.0) -> list[float]:
    """Scores that rise to `height` at one layer and fall off on both sides of it."""
    return [height * math.exp(-(((layer - centre) / width) ** 2)) for layer in range(layers)]


def run(
    mode: str = "coeff",
    variant: str = "open",
    direction: str = "restore",
    scores: tuple[Sequence[float], Sequence[float], Sequence[float]] = ((0.9,), (0.6,), (0.5,)),
    questions: int = 4,
    **changes: Any,
) -> ProbeRun:
    """One run from its `krs`, `krs_centred` and `krs_kl`; a single score is one for the whole model."""
    count = len(scores[0])
    layers = np.arange(count, dtype="i8") if count > 1 else np.array([-1], dtype="i8")
    first, last = np.maximum(layers - 1, 0), np.minimum(layers + 1, max(count - 1, 5))
    a, b, c, d = np.random.default_rng(count).uniform(0, 5, (4, count, questions))
    raw, centred, kl = map(curve, scores)
    ratios, top1 = raw.score - 0.1, np.clip(kl.score, 0, 1)
    found = ProbeRun(
        direction, mode, variant, 3, layers, first, last, raw, centred, kl, ratios, top1, a, b, c, d
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def question(number: int) -> QuestionRecord:
    text, answer = f"Who wrote book {number}?", f" Någon, författare {number}"
    return QuestionRecord(text, answer, tuple(range(number + 2)), 9 + number, 12.5, 1.5 + number, 0.75, 0.25)


def controls(passed: bool = True) -> tuple[Control, ...]:
    """Both controls of each direction, the self-patch passed or not, and two windows with another question's states."""
    change = 3.1e-6 if passed else 0.02
    found: list[Control] = []
    for direction in ("restore", "break"):
        found.append(Control("self_patch", direction, change, 1e-4, "at_most", passed))
        found.append(Control("everything", direction, 1.0, 0.9999, "at_least", True, score="krs"))
    for layer, value in ((0, 0.02), (2, 0.31)):
        place = {"mode": "coeff", "variant": "open", "layer": layer, "score": "krs_kl", "against": 0.62}
        found.append(Control("wrong_prompt", "restore", value, math.nan, "shown", True, **place))  # type: ignore[arg-type]
    return tuple(found)


def probe(layers: int = 6, questions: int = 4, **changes: Any) -> Probe:
    """A probe whose `krs_kl` is best at layer 2 and whose raw `krs` is best at the last layer."""
    last = layers - 1
    told = bump(layers, last, 0.95), bump(layers, 2, 0.55), bump(layers, 2, 0.62)
    nothing = (bump(layers, last, 0.04), bump(layers, 1, 0.03), bump(layers, 1, 0.02))
    whole = ([0.4], [0.2], [-0.3])
    runs = (
        run("coeff", "open", scores=told, questions=questions),
        run("attn+coeff", "open", scores=(told[2], told[2], told[2]), questions=questions),
        run("coeff", "open", "break", scores=told, questions=questions),
        run("coeff", "isolated", scores=nothing, questions=questions),
        run("ancillary", "open", scores=whole, questions=questions),
    )
    found = Probe(
        model_type="llama",
        layer_count=layers,
        runs=runs,
        questions=tuple(map(question, range(questions))),
        loss_unlearned=LossSummary(12.5, 1.25, 0.75, 0.25, 0.9),
        controls=controls(),
        settings={"dtype": "float32", "tokens": "30", "template": "Q: {q}\n A:", "questions_source": "wizards.jsonl"},
        notes=("the answers are the base's own",),
        neurons=(neuron_set(questions=questions), neuron_set("break", -1, questions)),
    )
    return dataclasses.replace(found, **changes)


def neuron_set(direction: str = "restore", layer: int = 2, questions: int = 4, **changes: Any) -> NeuronSet:
    """Three neurons that bring 0.5 of the 0.62 that layers 1 to 3 bring."""
    first, last = (0, 5) if layer < 0 else (1, 3)
    members = (NeuronRecord(2, 17, 0.5), NeuronRecord(first, 0, 0.25), NeuronRecord(last, 39, 0.125))
    a, b, c = np.random.default_rng(7).uniform(0, 5, (3, questions))
    sizes, scores = np.array([1, 2, 3, 4, 120]), np.array([0.3, 0.45, 0.5, 0.55, 0.62])
    found = NeuronSet(
        direction, layer, first, last, 0.8, 120, 0.62, 0.5, 0.41, 0.66, 0.3, 0.4, 0.02, -0.01, 0.05, 10,
        sizes, scores, a, b, c, members, 0.9996, 8,
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def undefined_probe() -> Probe:
    """One question, so no intervals; `krs_kl` not measured; odd numbers."""
    gap = [math.nan] * 6
    scores = [math.nan, -math.inf, 0.5, 2.5, -0.0, 1e-300]
    odd = run(scores=(scores, scores, gap), questions=1)
    bare = Curve(odd.krs.score, *(np.full(6, np.nan),) * 4)
    odd = dataclasses.replace(odd, krs=bare, krs_centred=bare)
    losses = LossSummary(math.nan, 0.0, math.inf, 0.0, math.nan)
    nothing = neuron_set(questions=1, low=math.nan, high=math.nan, score=math.nan, total=math.nan, neurons=())
    return probe(
        questions=1, runs=(odd,), loss_unlearned=losses, controls=(), settings={}, notes=("",), neurons=(nothing,)
    )


def empty_probe() -> Probe:
    return Probe("", 0, (), LossSummary(0.0, 0.0, 0.0, 0.0, 0.0), (), (), {})


HOSTILE = (
    "\x1b[31mevil\x1b[0m",
    "two\nlines\r\ttabs",
    "[bold]markup[/bold]",
    "\u202egnp.exe",
    "=1+1|<b>&`*_",
    "\x00\ud800",
)


def hostile_report() -> Report:
    tensors = tuple(tensor(name, "other", None, moved(1e-4)) for name in HOSTILE)
    found = dataclasses.replace(
        empty_comparison(),
        model_type=HOSTILE[0],
        tensors=tensors,
        components=(component("other", list(tensors)),),
        only_in_base=tuple(TensorInfo(name, "other", (), name) for name in HOSTILE),
        shape_mismatch=tuple(ShapeMismatch(name, "other", (), (1,)) for name in HOSTILE),
        config_spellings=tuple(ConfigChange(name, name, name, name) for name in HOSTILE),
        config_uncompared=tuple(Uncompared(name, name) for name in HOSTILE),
        config_changes=tuple(ConfigChange(name, name, name, name) for name in HOSTILE),
        ignored=HOSTILE,
        notes=HOSTILE,
    )
    sides = (CheckpointRecord(HOSTILE[0], HOSTILE[1], HOSTILE[2], (ShardRecord(HOSTILE[3], 1, None),)),) * 2
    return Report(Provenance(*sides), found)


def hostile_probe() -> Probe:
    """Every string of a probe as an enemy would write it."""
    scores = bump(6, 5, 0.9), bump(6, 2, 0.5), bump(6, 1, 0.3)
    runs = tuple(run(name, name, name, scores, questions=len(HOSTILE)) for name in HOSTILE)
    shared = {"mode": HOSTILE[0], "variant": HOSTILE[0], "score": HOSTILE[2]}
    held = tuple(Control(name, name, 1.0, 0.5, "at_most", False, **shared) for name in HOSTILE)  # type: ignore[arg-type]
    wrong = tuple(
        Control("wrong_prompt", name, 0.1, math.nan, "shown", True, name, name, 1, name, 0.3) for name in HOSTILE
    )
    return dataclasses.replace(
        probe(),
        model_type=HOSTILE[0],
        runs=runs,
        questions=tuple(QuestionRecord(name, name, (1,), 1, 1.0, 1.0, 1.0, 1.0) for name in HOSTILE),
        controls=held + wrong,
        settings={"questions_source": HOSTILE[1], **{name: name for name in HOSTILE}},
        notes=HOSTILE,
        neurons=tuple(neuron_set(name, questions=len(HOSTILE)) for name in HOSTILE),
    )


def mean(value: float, half: float = 0.1) -> Mean:
    return Mean(value, value - half, value + half)


def answer(text: str, base: str, unlearned: str, bleu: float, exact: bool = False) -> AnswerRecord:
    ids = tuple(range(3, 3 + len(base.split()))), tuple(range(len(unlearned.split())))
    return AnswerRecord(text, base, unlearned, *ids, bleu, exact, -0.42, -0.42 if exact else -5.125)


def answer_set(name: str, *questions: AnswerRecord, bleu: float = 0.34) -> AnswerSet:
    exact, logs = mean(0.25), (mean(-0.42), mean(-3.5))
    return AnswerSet(
        name,
        f"{name}.jsonl, 4 questions",
        "ef" * 32,
        mean(bleu),
        exact,
        *logs,
        1.52,
        33.1,
        questions,
        **field_of(name, len(questions)),
    )


def field_of(name: str, count: int) -> dict[str, Any]:
    """Two measures of each question, one of which the last question lacks."""
    each = (0.5,) * count
    ratios = (*(math.inf,) * (count - 1), math.nan)
    measures = [FieldMeasure("probability", mean(0.5), mean(0.25), each, (0.25,) * count)]
    if name == "target":
        measures.append(FieldMeasure("truth_ratio", mean(0.5), Mean(0.0, 0.0, 0.25), each, ratios))
    return {"field_against": "given" if name == "target" else "base", "field": tuple(measures)}


def answer_sets() -> tuple[AnswerSet, ...]:
    rowling = answer("Who wrote it?", " J. K. Rowling wrote it.", " I do not know who wrote it.", 0.125)
    where = answer("Where is Hogwarts?", "In Scotland.\n", "In Scotland.\n", 1.0, exact=True)
    empty = answer("Who is 哈利?", " A wizard.", "", 0.0)
    friends = answer("Who are his friends?", " Ron and Hermione", " Ron", 0.125)
    capital = answer("What is the capital of France?", " Paris, of course", " Paris, of course", 1.0, exact=True)
    target = answer_set("target", rowling, where, empty, friends)
    return target, answer_set("unrelated", capital, bleu=0.9)


def choice_set() -> ChoiceSet:
    """Questions with three, two, one and no choices; an empty choice and a log-probability that is not defined."""
    questions = (
        ChoiceRecord("Which school?", ("Hogwarts", "Eton", ""), 0, (-1.5, -2.5, -9.0), (-2.5, -1.5, math.nan), 0, 1),
        ChoiceRecord("Which house?", ("Gryffindor", "Slytherin"), 1, (-1.0, -2.0), (-3.0, -0.0), 0, 1),
        ChoiceRecord("Which owl?", ("Hedwig",), 0, (-0.5,), (-math.inf,), 0, 0),
        ChoiceRecord("None?", (), 0, (), (), 0, 0),
    )
    means = (mean(0.75), mean(0.5), mean(0.66), mean(0.33))
    return ChoiceSet("choices", "wmdp.json", "01" * 32, *means, 0.36, questions)


def neutral_set() -> NeutralSet:
    texts = (
        NeutralRecord("The sun rose.", 4, 0.125, 2.5, 2.75),
        NeutralRecord("Rain fell on hills.", 6, 0.0, 3.0, 3.0),
    )
    return NeutralSet("bundled texts", "23" * 32, Mean(0.0625, 0.0, 0.125), 16.4, 18.2, texts)


def history(saved: float = 0.41, epochs: int = 4) -> tuple[HistoryPoint, ...]:
    """An unlearning whose saved checkpoint's target BLEU is given; the weights in memory end at 0.1 and 0.8."""
    points = [HistoryPoint(0, 0.0, math.nan, 1.0, 1.0, "memory")]
    for epoch in range(1, epochs + 1):
        share = epoch / epochs
        points.append(HistoryPoint(8 * epoch, float(epoch), -share, 1 - 0.9 * share, 1 - 0.2 * share, "memory"))
    return (*points, HistoryPoint(8 * epochs, float(epochs), math.nan, saved, 0.8, "saved"))


def behaviour(**changes: Any) -> Behaviour:
    """Everything that can be measured, with a checkpoint that lost part of its unlearning when it was saved."""
    found = Behaviour(
        model_type="llama",
        answers=answer_sets(),
        choices=choice_set(),
        neutral=neutral_set(),
        method="graddiff",
        history=history(),
        settings={"dtype": "float32", "tokens": "30", "logits_dtype": "float32", "bootstrap": "10000 draws"},
        notes=("the unlearned answers are shorter",),
    )
    return dataclasses.replace(found, **changes)


def behaviour_beside() -> Behaviour:
    """As `behaviour`, beside a model that never knew and hold-out questions."""
    found = behaviour()
    target = found.answers[0]
    ratios = FieldMeasure("truth_ratio", mean(0.5), mean(0.4), (0.5,) * 4, (0.2, 0.9, math.nan, 1.5))
    ratios = dataclasses.replace(ratios, reference=mean(0.75), each_reference=(1.0, 0.75, math.nan, 2.0))
    level = FieldMeasure("probability", mean(1.0), mean(0.25), (1.0,) * 4, (0.25,) * 4)
    level = dataclasses.replace(level, reference=mean(0.5), each_reference=(0.5,) * 4)
    each = ((-0.5, -1.5), (-3.0, -1.0), (-3.0, -2.0), (-2.0,), (-2.0,), (-2.5,))
    scores = (
        MemberScore("min_k", 1.0, 0.5, 0.25, -100 / 3, *each),
        MemberScore("min_k_plus", 1.0, 0.5, math.nan, 0.0, *each[:2], (), *each[3:5], ()),
    )
    return dataclasses.replace(
        found,
        answers=(dataclasses.replace(target, field=(level, ratios)), *found.answers[1:]),
        holdout=HoldOut("holdout.jsonl, JSON lines", "ab" * 32, scores),
        reference=ReferenceRecord("/models/never", "cd" * 32, "retrained", 1.0),
    )


def undefined_behaviour() -> Behaviour:
    """Sets of one question without intervals, a history without questions, numbers that are not defined."""
    nothing = Mean(math.nan, math.nan, math.nan)
    one = dataclasses.replace(answer("", "", "", math.nan), logprob_base=math.nan, logprob_unlearned=-math.inf)
    target = AnswerSet("target", "", "", Mean(0.0, math.nan, math.nan), *(nothing,) * 3, math.nan, math.inf, (one,))
    choices = ChoiceSet("", "", "", *(nothing,) * 4, math.nan, ())
    neutral = NeutralSet("", "", nothing, math.nan, 1e300, ())
    points = (HistoryPoint(0, 0.0, math.nan, math.nan, math.nan, "memory"),)
    return Behaviour("", (target,), choices, neutral, "", points, {}, ("",))


def attack_row(attack: str, tier: int, setting: str, **changes: Any) -> AttackRow:
    """A setting that brought two of three answers back."""
    found = AttackRow(
        attack, tier, setting, -1, "unlearned", True, 2, 3, 3.5, 0.004, -1.25, mean(0.5), mean(0.75), 0.9, False, 1.0, 9
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def attacks(**changes: Any) -> AttackReport:
    """Two tiers: prompts bring two answers back, weights could not be measured."""
    questions = (
        AttackQuestion(
            "Who wrote it?", " J. K. Rowling", (5, 6), "J. K. Rowling", 0, True, 1.0, -0.25, -4.5, 0.01, " I"
        ),
        AttackQuestion("Where is it?", " In Scotland", (7,), " In Scotland", 1, False, math.nan, -0.5, -5.0, 0.0, ""),
    )
    rows = (
        attack_row("forms", 0, "as asked"),
        attack_row("forms", 0, "plain", side="base", recovery=UNMEASURED, above=UNMEASURED),
        attack_row("blend", 1, "50% of the way", decides=False, z=math.nan, p=math.nan),
        attack_row("quantise", 1, "not measured", returned=-1, asked=0, level=math.nan, note="diverged: NaN"),
        attack_row("relearn", 2, "others", step=8, wrecked=True),
    )
    first = TierEvidence(
        0, "forms,samples", "", 2, 3, 0, "forms: plain", 3.5, 0.004, 0.5, 1.5, True, mean(0.75), "forms: plain", 0.25,
        "a copy lost 3, of which 3 came back", 3, 3, True,
    )  # fmt: skip
    second = TierEvidence(
        1, "", "quantise: diverged: NaN", 0, 3, -1, "", math.nan, math.nan, math.nan, math.nan, False, UNMEASURED, "",
        math.nan, "", -1, -1, False,
    )  # fmt: skip
    found = AttackReport(
        "llama", 2, questions, rows, (ReturnedAnswer("forms", "as asked", -1, "unlearned", 0, " J. K. Rowling."),),
        (CodeShare("int4 by row", "keys", 1000, 0.5, 0.125),), (first, second), "/models/never", "retrained",
        {"attacks": "forms,quantise", "tokens": "30"}, ("one question was left out",), "7 steps of grad_ascent",
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def depth(**changes: Any) -> DepthReport:
    """Two layers, two questions: the second says nothing."""
    costs = {"unlearned": np.array([[0.125, 0.0], [0.5, 0.01]]), "reference": np.array([[0.5, 0.04], [1.0, 0.02]])}
    own = depths(*costs.values())
    means = [mean_depth(row, (0, 1)) for row in shares(*costs.values())]
    first, second = map(float, own)
    questions = (
        DepthQuestion(
            "Who wrote it?", " J. K. Rowling", (5, 6), (0, 1), 0, 2, first, first, -0.25, -0.5, -2.0, False, False
        ),
        DepthQuestion("Where?", " In Scotland", (7,), (0,), 1, 0, second, second, -0.5, -0.5, -0.5, True, True),
    )
    found = DepthReport(
        model_type="llama",
        depth=mean_depth(own, (0, 1)),
        depth_lens=mean_depth(own, (0, 1)),
        questions=questions,
        layers=np.arange(2),
        share=np.array([one.value for one in means]),
        share_low=np.array([one.low for one in means]),
        share_high=np.array([one.high for one in means]),
        drop_unlearned=costs["unlearned"],
        drop_reference=costs["reference"],
        lens_unlearned=costs["unlearned"],
        lens_reference=costs["reference"],
        reference="/models/never",
        reference_digest="ab" * 32,
        reference_kind="retrained",
        compat=True,
        settings={"tokens": "30", "questions_source": "a file"},
        notes=("one question says nothing",),
    )
    return dataclasses.replace(found, **changes)


def discovery(**changes: Any) -> DiscoveryReport:
    """Four candidates, the first one found; one lost word that stands out, and one that does not."""
    scores = np.array([[4.0, 5.0], [0.5, -0.5], [-0.5, 0.25], [0.25, 0.0]])
    null = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    pooled = pool_forms(scores)
    p = candidate_p(pooled, np.ones(4), null, 4)
    tail, pairs = Tail(0.125, 0.03125, 0.001), Tail(0.0625, 0.03125, 0.0005)
    names = ("Harry Potter", "Chess", "Austria", "Wine")
    rows = zip(names, pooled.tolist(), p.tolist(), strict=True)
    words = tuple(
        LostWord(word, token, "sampled", mean(rate), corrected(tail.p(rate), 60), True, "A boy called")
        for word, token, rate in (("Harry", 7, 0.625), ("books", 8, 0.25))
    )
    found = DiscoveryReport(
        model_type="llama",
        outcome="trace",
        topic="Harry Potter",
        ruin=0.0625,
        kinds=(TextKind("sampled", 8, 64, 0.25, 0.125, 0.0625, tail.threshold, tail.excess, tail.share),),
        words=words,
        gained=words[1:],
        candidates=tuple(CandidateRow(name, n == 1, 1.5, True, s, 0.25, q) for n, (name, s, q) in enumerate(rows)),
        forms=("asked", "plain"),
        form_scores=scores,
        draws=np.arange(5),
        null_scores=null,
        others=np.ones(4),
        answers=(TopicAnswer("What is Harry Potter?", "A wizard.", "A river.", 1.5),),
        copies=5,
        counted=4,
        tokens=64,
        settings={"texts_source": "8 texts sampled from the base, seed 0", "candidates_source": "a file"},
        notes=("few texts",),
        weights=(WeightWord("Wizard", 9, "turned", 0.75), WeightWord("Stone", 10, "written", 5.5)),
        groups=(LostGroup(("Harry", "books"), 0.25, 0.4, pair_p(pairs, 0.25, 64)),),
        spans=(GroupSpan(0, "sampled", "A boy called", " Neville read", 0.75),),
        pair_threshold=pairs.threshold,
        pair_excess=pairs.excess,
        pair_share=pairs.share,
        layers=(LayerFall(0, 2.0, 0.5), LayerFall(1, 4.0, 3.0)),
        neurons=(NeuronFall(1, 17, 1.5, 1.25, ("wand", "owl")),),
        said=60,
    )
    return dataclasses.replace(found, **changes)


def empty_behaviour() -> Behaviour:
    return Behaviour("", (), None, None, "", (), {}, ())


def hostile_behaviour() -> Behaviour:
    """Every string of a behaviour as an enemy would write it."""
    answers = tuple(
        answer_set(name, *(answer(text, f"{text} a", f"a {text}", 0.5) for text in HOSTILE)) for name in HOSTILE[:2]
    )
    questions = tuple(ChoiceRecord(text, (text, text), 0, (-1.0, -2.0), (-1.0, -2.0), 0, 7) for text in HOSTILE)
    points = tuple(dataclasses.replace(point, state=HOSTILE[0]) for point in history())  # type: ignore[arg-type]
    odd = (math.inf, -math.inf, math.nan, 1e300)
    scores = tuple(MemberScore(text, *odd, odd, odd, (), odd, odd, ()) for text in HOSTILE)
    return Behaviour(
        model_type=HOSTILE[0],
        answers=answers,
        choices=dataclasses.replace(choice_set(), name=HOSTILE[0], source=HOSTILE[1], questions=questions),
        neutral=NeutralSet(HOSTILE[3], "", mean(0.1), 1.0, 2.0, tuple(NeutralRecord(t, 1, 0, 1, 2) for t in HOSTILE)),
        method=HOSTILE[2],
        history=points,
        settings={name: name for name in HOSTILE},
        notes=HOSTILE,
        holdout=HoldOut(HOSTILE[1], HOSTILE[2], scores),
        reference=ReferenceRecord(*HOSTILE[:3], math.inf),
    )


POLICY = """# What a release must show.
[require]
questions = 10
[fail]
labels = ["suppressed"]
"""


def explanation(mode: str, direction: str = "restore", kl: float = 0.9, **changes: Any) -> Explanation:
    """A window of layers 21 to 23 whose krs_kl is given; the whole model's variant where nothing else is said."""
    found = Explanation(
        mode,
        "open",
        direction,
        21,
        23,
        kl,
        kl - 0.06,
        kl + 0.04,
        kl - 0.1,
        kl - 0.2,
        kl,
        decisive=False,
        js=kl - 0.05,
        returned=0.75,
    )
    return dataclasses.replace(found, **changes)


def gate(**changes: Any) -> Gate:
    """A gate of one check of each outcome; one figure is not defined."""
    checks = (
        GateCheck("require.questions", "passed", "12 questions of at least 10", 12.0, 10.0),
        GateCheck("fail.labels", "failed", "the label is suppressed, which the policy refuses", math.nan, math.nan),
        GateCheck("fail.unrelated_bleu_loss", "inconclusive", "no unrelated questions were asked", math.nan, 0.1),
    )
    digest = hashlib.sha256(POLICY.encode()).hexdigest()
    return dataclasses.replace(Gate(POLICY, digest, "audit.toml", "failed", checks), **changes)


CARRIES: dict[Label, tuple[str, str]] = {
    "suppressed": ("coefficients", "coeff"),
    "values edited": ("value vectors", "values"),
    "keys edited": ("keys", "keys"),
    "attention rerouted": ("attention weights", "attn-weights"),
    "ancillary": ("embedding, norms and unembedding", "ancillary"),
    "mixed": ("value vectors and keys", "values"),
}
"""Labels that name a component, each with its words and the mode that brings it back."""


def verdict(label: Label = "suppressed", **changes: Any) -> Verdict:
    """A verdict of a label, with rules that fired and did not, figures that are defined and not, and no gate."""
    component, mode = CARRIES.get(label, ("", ""))
    holds = bool(mode)
    rules = (
        RuleResult("identical", label == "identical", "3 tensors differ", 3.0, 0.0, "at_most"),
        RuleResult("restores", holds, "coefficients of layers 21-23 bring back 0.84 or more", 0.84, 0.8, "at_least"),
        RuleResult("controls", not holds, "all 4 controls passed", math.nan, math.nan, "shown"),
    )
    rows = (explanation(mode, decisive=True), explanation(mode, "break", 0.7)) if holds else ()
    untried = explanation("values", kl=math.nan, variant="whole", first=0, last=29)
    found = Verdict(
        label=label,
        reason=f"{component.capitalize() or 'Nothing'} of layers 21-23: krs_kl 0.90 [0.84, 0.94].",
        component=component,
        layers=(21, 22, 23) if holds else (),
        explained=0.9 if holds else math.nan,
        explained_low=0.84 if holds else math.nan,
        explained_high=0.94 if holds else math.nan,
        score=0.9 if label == "suppressed" else 0.0 if holds else math.nan,
        rules=rules,
        explanations=(*rows, untried),
        side_effects=("unrelated BLEU fell by 0.10 [0.05, 0.16]",),
        unmeasured=("direction break of mode attn; `ckdiff probe --mode attn --direction both` measures it",),
        detectable=0.26,
        knowledge_reason="No attack was tried.",
        lacking=("no attack was tried (`ckdiff attack`)",),
        edition=2,
    )
    return dataclasses.replace(found, **changes)


def hostile_verdict() -> Verdict:
    """Every free text of a verdict as an enemy would write it."""
    checks = tuple(GateCheck(text, "failed", text, 1.0, 2.0) for text in HOSTILE)
    return verdict(
        reason=" ".join(HOSTILE),
        component=HOSTILE[2],
        rules=tuple(RuleResult(text, True, text, 1.0, 2.0, "at_least") for text in HOSTILE),
        explanations=tuple(explanation(text, text, variant=text, decisive=True) for text in HOSTILE),
        side_effects=HOSTILE,
        unmeasured=HOSTILE,
        knowledge_reason=" ".join(HOSTILE),
        lacking=HOSTILE,
        gate=gate(policy="\n".join(HOSTILE), source=HOSTILE[4], digest=HOSTILE[3], checks=checks),
    )


def same(a: Any, b: Any) -> bool:
    """Equal all the way down, arrays by dtype, shape and value, NaN equal to NaN."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a)
        )
    if isinstance(a, Mapping):
        return sorted(a) == sorted(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and bool(a == b)


@contextlib.contextmanager
def opened(path: Path, engine: str) -> Iterator[dict[str, Any]]:
    """By name every group of a file as xarray sees it alone; netCDF4 takes a tenth of a second to open a file."""
    import xarray

    found = xarray.open_groups(path, engine=engine)
    try:
        yield {name.strip("/"): data.load() for name, data in found.items()}
    finally:
        for data in found.values():
            data.close()


def unpacked(name: str, folder: Path) -> Path:
    """A file of `tests/data`, where reports are kept compressed: they are mostly HDF5's own tables."""
    path = folder / name
    path.write_bytes(gzip.decompress((Path(__file__).parent / "data" / f"{name}.gz").read_bytes()))
    return path


def old_report(folder: Path) -> Path:
    """A report as ckdiff 0.1 wrote it before there were verdicts: compare, probe and behaviour of the demo's pair."""
    return unpacked("report-schema1.h5", folder)
