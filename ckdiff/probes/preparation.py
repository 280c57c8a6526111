"""Everything that is settled before a weight is read: `prepare(base, unlearned, questions, settings)`.

Two models without memory, checks, prompts, the plan of runs; then, once the answers are known, whether the models are
streamed and in how many passes the runs go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from ckdiff.modes import EVERY_MODE, MODES
from ckdiff.probes import cost
from ckdiff.probes.checks import PairError, check_lengths, check_models, check_tokenizers
from ckdiff.probes.live.generation import context_length, stop_tokens
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.probes.prompts import Prompt, batches
from ckdiff.probes.sweep import SIDES, Pair
from ckdiff.probes.wording.remarks import merge, recorded_date, remarks
from ckdiff.probes.wording.wording import Wording
from ckdiff.scoring.runs import plan_runs
from ckdiff.scoring.scores import METHOD
from ckdiff.scoring.settings import GIVEN, GREEDY, Settings, SettingsError
from ckdiff.weights.reader import read_json
from ckdiff.weights.vocabulary import trim_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import Any

    from ckdiff.modes import Mode
    from ckdiff.questions.questions import QuestionSet
    from ckdiff.scoring.runs import Run, Schedule
    from ckdiff.weights.checkpoint import Checkpoint


DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


CHUNK = {"cpu": 1024, "cuda": 65536}
"""Positions that go through a layer in one call."""


WIDE = "the window of"
"""How a note on a window begins that is wider than the model: of probes alone."""
ONE_QUESTION = "one question: no intervals, and no other question to take states from for the wrong-prompt control"
"""A note on a probe of one question."""


TURNED = (
    "the models turn long texts by other rotary frequencies than short ones: every question was computed as if it were"
    " asked alone"
)
"""A note on a probe whose questions have lengths of several regimes."""


@dataclass(slots=True)
class Job:
    """Everything that is settled before the first layer runs.

    `questions` are those whose prompts differ, and `kept` are their numbers among the given ones. `known` are the
    answers that would be generated, where somebody has already; of the `room`, the bytes that may be used, `spare` are
    those that weights leave. `windowed` are the modes whose windows are swept, None: all; `rounds` are the numbers of
    runs that the plan had in each round, as windows are added once others are scored. `suspects` are layers whose
    neurons may stand elsewhere, where somebody has looked, and `aligned` names those whose weights are read in the
    base's order.
    """

    settings: Settings
    pair: Pair
    wording: Wording
    prompts: list[Prompt]
    plan: Schedule
    centres: tuple[int, ...]
    notes: list[str]
    questions: QuestionSet
    kept: list[int]
    stops: frozenset[int]
    room: int
    stream: bool = False
    passes: list[list[int]] = field(default_factory=list)
    known: list[list[int]] | None = None
    spare: int = 0
    suspects: frozenset[int] | None = None
    aligned: str = ""
    windowed: frozenset[str] | None = field(init=False)
    rounds: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Before anything is scored, windows are swept of what was asked for."""
        self.windowed = self.settings.windowed

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.pair.base.device

    @property
    def generate(self) -> bool:
        """The base's own answers are scored, not given ones."""
        return not self.settings.given_answers

    def decode(self, ids: Sequence[int]) -> str:
        """Ids as a text, for people."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @property
    def tokenizer(self) -> Any:
        """Of the base, or the one that was named."""
        return self.wording.encoder.tokenizer


def prepare(
    base: Checkpoint,
    unlearned: Checkpoint,
    questions: QuestionSet,
    settings: Settings,
    parts: Sequence[int] | None = None,
) -> Job:
    """Everything that can be refused is refused here, before a weight is read.

    Args:
        base: the model before.
        unlearned: the model after.
        questions: to ask; those whose prompts are equal are asked once.
        settings: how.
        parts: how many questions belong together, part by part: equal prompts of two parts are both asked.

    Raises:
        CkdiffError: the pair, the questions or the settings do not allow a probe.
    """
    settings.check()
    pair, notes = _open_models(base, unlearned, settings)
    tokenizer = tokenizer_of(base, settings.tokenizer)
    notes += [*questions.notes, *check_tokenizers(tokenizer, load_tokenizer(unlearned.root))]
    settings, left_out = _applicable(settings, pair.base)
    centres, wide = _centres(settings, pair.base)
    notes += [*left_out, *wide]
    wording = Wording(tokenizer, settings.template, settings.chat)
    asked = wording.prompts(questions.questions)
    notes += remarks(wording, asked, settings.tokenizer or base.root)
    kept, merged = merge(asked, parts or [len(asked)])
    if len(kept) < len(asked):
        questions = questions.narrow(tuple(questions.questions[number] for number in kept))
    notes += [*merged, *([ONE_QUESTION] if len(kept) == 1 else [])]
    prompts = _answer(wording, questions, settings) if settings.given_answers else [asked[number] for number in kept]
    notes += _check_prompts(pair, prompts, questions, settings)
    stops = stop_tokens(pair.base, read_json(base.root, "generation_config.json") if base.root is not None else {})
    # Taken once, while nothing is loaded: later it would count the models themselves as used by others.
    room = int(cost.SHARE * (settings.memory or cost.free_memory(pair.base.device)))
    plan = _plan(settings, centres, len(pair.base.layers), len(kept) > 1, settings.windowed)
    return Job(settings, pair, wording, prompts, plan, centres, notes, questions, kept, stops, room)


def _open_models(base: Checkpoint, unlearned: Checkpoint, settings: Settings) -> tuple[Pair, list[str]]:
    """Both models without memory, found to be of one kind, and what is to be said of them."""
    device, dtype = device_of(settings.device), DTYPES[settings.dtype]
    base, unlearned, shared = trim_vocabulary(base, unlearned)
    pair = Pair(*(LiveModel(side, dtype, device, settings.attention) for side in (base, unlearned)))
    return pair, [*shared, *check_models(pair.base, pair.unlearned), *pair.base.notes, *pair.unlearned.notes]


def tokenizer_of(base: Checkpoint, named: Path | None) -> Any:
    """The tokenizer that was named, or else the base's.

    Raises:
        PairError: there is none.
    """
    if (tokenizer := load_tokenizer(named or base.root)) is not None:
        return tokenizer
    if named is not None:
        raise PairError(f"--tokenizer: no tokenizer in {named}; name a directory that holds one")
    raise PairError(f"{base.location}: no tokenizer beside the weights; name one with --tokenizer DIR")


def _centres(settings: Settings, base: LiveModel) -> tuple[tuple[int, ...], list[str]]:
    """The layers that windows are centred on, and a note where the usual window is wider than a small model.

    Raises:
        SettingsError: the model has no such layer, no layer whose neurons could be looked for, or fewer than were asked
            for together.
    """
    if settings.neurons and all(sites.mlp is not None for sites in base.sites):
        raise SettingsError(
            f"--neurons: every layer of {base.location} is a mixture of experts, whose coefficients belong to the"
            " experts that it chooses; leave it out"
        )
    layers = len(base.layers)
    centres = tuple(range(layers)) if settings.layers is None else settings.layers
    for centre in centres:
        if not 0 <= centre < layers:
            raise SettingsError(f"--layers: {centre} is out of range; the model has layers 0 to {layers - 1}")
    if settings.window > max(layers, Settings.window):
        raise SettingsError(
            f"--window {settings.window}: the model has {layers} layers; give fewer, or --variant whole for all at once"
        )
    wide = f"{WIDE} {settings.window} layers is wider than the model, which has {layers}"
    return centres, [wide] if settings.window > layers else []


def _check_prompts(pair: Pair, prompts: Sequence[Prompt], questions: QuestionSet, settings: Settings) -> list[str]:
    """Refuse prompts that these models cannot read; a note where they read long ones otherwise than short ones."""
    lengths = [len(prompt.ids) for prompt in prompts]
    texts = [question.text for question in questions.questions]
    check_lengths(texts, lengths, settings.tokens, context_length(pair.base))
    vocabulary = pair.base.model.get_input_embeddings().num_embeddings
    largest = max(max(prompt.ids + prompt.answer) for prompt in prompts)
    if largest >= vocabulary:
        raise PairError(f"{pair.base.location}: its tokenizer makes id {largest}, its embedding has {vocabulary} rows")
    regimes = {pair.regime(length + more) for length in lengths for more in (0, settings.tokens - 1)}
    return [TURNED] if len(regimes) > 1 else []


def _plan(
    settings: Settings,
    centres: Sequence[int],
    layers: int,
    several: bool,
    windowed: frozenset[str] | None,
    known: Sequence[Run] = (),
) -> Schedule:
    return plan_runs(
        settings.directions,
        settings.modes,
        settings.variants,
        centres,
        settings.window,
        layers,
        settings.controls,
        several,
        windowed,
        known,
    )


def add_modes(job: Job, modes: Iterable[str]) -> None:
    """Put more back than was asked for; for a job whose sweep has not begun.

    Args:
        job: changed in place.
        modes: keys of `modes.EVERY_MODE` that every architecture has.
    """
    job.settings = replace(job.settings, modes=tuple(dict.fromkeys((*job.settings.modes, *modes))))
    _plan_anew(job, ())


def add_windows(job: Job, modes: Iterable[str]) -> None:
    """Sweep the windows of more modes; nothing happens where every mode's are swept.

    Args:
        job: changed in place. Runs of a sweep that has begun keep their numbers, and those that are new get passes.
        modes: keys of `modes.MODES`.
    """
    if job.windowed is None:
        return
    job.windowed |= frozenset(modes)
    begun = job.rounds[-1] if job.rounds else 0
    _plan_anew(job, job.plan.runs[:begun])
    if begun:
        _, states, noted, _ = _count(job)
        job.passes = [*job.passes, *cost.passes(job.plan, states, (job.spare - noted) // 2, begun)]


def _plan_anew(job: Job, known: Sequence[Run]) -> None:
    layers, several = len(job.pair.base.layers), len(job.questions.questions) > 1
    job.plan = _plan(job.settings, job.centres, layers, several, job.windowed, known)


def _applicable(settings: Settings, live: LiveModel) -> tuple[Settings, list[str]]:
    """The settings without the modes that this architecture lacks, each with a note, where all modes were asked for.

    Raises:
        SettingsError: one was asked for by name.
    """
    reasons = {name: reason for name in settings.modes if (reason := _lack(EVERY_MODE[name], live))}
    if reasons and not set(settings.modes) >= set(MODES):
        name, reason = next(iter(reasons.items()))
        raise SettingsError(f"--mode {name}: {reason}; leave it out, or ask for all modes")
    left = tuple(name for name in settings.modes if name not in reasons)
    return replace(settings, modes=left), [f"mode {name} was left out: it {reason}" for name, reason in reasons.items()]


def _lack(mode: Mode, live: LiveModel) -> str:
    """Why a mode is not for an architecture; empty where it is."""
    number = next((number for number, sites in enumerate(live.sites) if not mode.applies(sites)), None)
    if number is None:
        return ""
    return f"needs {mode.needs}, and layer {number} of {live.location} (model_type {live.row.model_type!r}) has none"


def settings_record(job: Job) -> dict[str, str]:
    """The settings that determine the numbers, as the report keeps them.

    `windows` only where not all need be swept, `neurons` only where they are looked for, and the digest of everything
    that was given only where some was left out.
    """
    settings = job.settings
    attention = getattr(job.pair.base.config, "_attn_implementation", None) or "default"
    return {
        "modes": ",".join(settings.modes),
        "variants": ",".join(settings.variants),
        "directions": ",".join(settings.directions),
        "window": str(settings.window),
        "layers": "all" if settings.layers is None else ",".join(map(str, settings.layers)),
        "tokens": str(settings.tokens),
        "prompt": settings.prompt,
        "answers": GREEDY if job.generate else GIVEN,
        "questions_source": job.questions.source,
        "questions_digest": job.questions.digest,
        "dtype": settings.dtype,
        "logits_dtype": "float64" if settings.dtype == "float64" else "float32",
        "device": job.device.type,
        "attention": str(attention),
        "kl": "yes" if settings.kl else "no",
        "bootstrap": METHOD,
        **recorded_date(job.wording),
        **({"questions_given_digest": job.questions.whole} if job.questions.whole else {}),
        **({"windows": settings.windows} if job.windowed is not None else {}),
        **({"neurons": f"{settings.neuron_goal:g}"} if settings.neurons else {}),
        **({"aligned": job.aligned} if job.aligned else {}),
    }


def _answer(wording: Wording, questions: QuestionSet, settings: Settings) -> list[Prompt]:
    for question in questions.questions:
        if not (question.answer or "").strip():
            raise SettingsError(
                f"--given-answers: question {question.text[:60]!r} has no answer in the file; leave the option out"
            )
    return wording.answered(questions.questions, settings.tokens)


def chunk_of(job: Job) -> int:
    """Positions that go through a layer in one call."""
    return job.settings.chunk or CHUNK.get(job.device.type, 1024)


def device_of(name: str) -> torch.device:
    """The device that `--device` names, once it has been tried."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise SettingsError(f"--device: no {name[:40]!r}; there are auto, cpu, cuda and cuda:N")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0][:100]
        raise SettingsError(f"--device {name}: cannot be used here ({reason}); give cpu, or auto") from error
    return device


def settle(job: Job) -> tuple[cost.Sizes, list[int], int]:
    """Stream or not, and in how many passes; needs the answers."""
    settings, pair, room = job.settings, job.pair, job.room
    size, states, noted, full = _count(job)
    itemsize = DTYPES[settings.dtype].itemsize
    whole = sum(pair.side(side).parameter_bytes(itemsize) for side in SIDES)
    layer = max(pair.base.layer_bytes(number, itemsize) for number in range(size.layers))
    ends = pair.base.parameter_bytes(itemsize) - sum(
        pair.base.layer_bytes(number, itemsize) for number in range(size.layers)
    )
    streamed = 2 * layer + 2 * ends
    # Between two layers a run's state is replaced: at most one group's old states are there beside the new ones.
    # Windows that are added later have runs that carry every position.
    least = 2 * (max(states) if job.windowed is None else full) + noted
    if settings.neurons:
        # What enters every layer, of one run and of the donor: see `gates`.
        least = max(least, (2 * size.layers + 6) * full)
    job.stream = settings.stream == "on" or (settings.stream == "auto" and whole + least > room)
    weights = streamed if job.stream else whole
    if weights + least > room:
        hint = "use a machine with more" if job.stream else "use --stream on"
        raise cost.TooLittleMemoryError(
            f"{_gigabytes(weights + least)} of memory are needed and {_gigabytes(room)} can be used; {hint}, or ask"
            " fewer questions"
        )
    job.spare = room - weights
    job.passes = cost.passes(job.plan, states, (room - weights - noted) // 2)
    return size, states, weights


def _count(job: Job) -> tuple[cost.Sizes, list[int], int, int]:
    """Sizes, bytes of every run's state and of what keys give in a layer, and of a state of every position."""
    size, itemsize = cost.sizes(job.pair.base, job.prompts), DTYPES[job.settings.dtype].itemsize
    parts = batches(job.prompts, job.settings.batch_size, torch.device("cpu"), job.pair.regime)
    padded = sum(batch.ids.numel() for batch in parts)
    states = cost.state_bytes(job.plan, size, padded, itemsize)
    noted = cost.key_output_bytes(job.plan, job.pair.base, padded, itemsize)
    return size, states, noted, padded * size.d_model * itemsize


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
