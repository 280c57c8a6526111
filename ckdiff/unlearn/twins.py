"""A family of models of which one knows, some never knew, and one has unlearned: `make_family(spec, listener)`.

    knows       the base, taught every fact
    never       the base, taught in the same way all but the facts to forget; never-2, never-3: in other orders
    unlearned   knows, with the facts to forget unlearned by a method

With such a family an instrument can be tried on an architecture: what it says of `unlearned` beside `never`, and of
`never-2` beside `never`, which is the honest erasure. Beside the models lie the questions (`target.jsonl`,
`unrelated.jsonl`), and the texts that were learned, a wording each (`forget.jsonl`, `retain.jsonl`).

Each model is moved to its place when it is whole; what is there already is kept by `resume`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ckdiff.locks import BusyError, alone
from ckdiff.probes.live.generation import context_length, greedy, stop_tokens
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.live.patches import replace_forward
from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.probes.preparation import device_of
from ckdiff.probes.wording.wording import Wording
from ckdiff.questions.questions import read_questions
from ckdiff.questions.segments import Segment
from ckdiff.unlearn import saving
from ckdiff.unlearn.inputs import read_inputs
from ckdiff.unlearn.methods import IGNORED
from ckdiff.unlearn.people import invent_people
from ckdiff.unlearn.recipe import RecipeError, check_installed
from ckdiff.unlearn.sequences import Tokens, encode_texts, pad
from ckdiff.unlearn.session import digest, sweep_made
from ckdiff.unlearn.unlearn import UnlearningStopped, make
from ckdiff.version import __version__
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.reader import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from ckdiff.progress import Listener
    from ckdiff.questions.questions import Question
    from ckdiff.unlearn.recipe import UnlearnSpec
    from ckdiff.weights.checkpoint import Checkpoint

FAMILY = "family.json"
"""How a family was made, and what each of its members knows."""
KNOWS, NEVER, UNLEARNED = "knows", "never", "unlearned"
ENOUGH, FEW = 0.9, 0.05
"""The share of the facts that `knows` has to know, and that `never` may know."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family that was made.

    Attributes:
        folder: its directory.
        record: what `family.json` in it says.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def lacks(self) -> str:
        """Why it is not what it should be, or ""."""
        shares = self.record["members"]
        if shares[KNOWS]["target"] < ENOUGH or shares[KNOWS]["unrelated"] < ENOUGH:
            return "the model that should know does not know 90 % of the facts; take more --passes, or raise --learn-lr"
        guessed = max(shares[name]["target"] for name in shares if name.startswith(NEVER))
        if guessed > FEW:
            return f"a model that never knew gives {guessed:.0%} of the answers; take facts that cannot be guessed"
        return ""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts to forget, and those to keep."""

    target: tuple[Question, ...]
    unrelated: tuple[Question, ...]


@dataclass(slots=True)
class School:
    """What the members of one family share."""

    spec: UnlearnSpec
    base: Checkpoint
    tokenizer: Any
    facts: Facts
    listener: Listener
    length: int


def make_family(spec: UnlearnSpec, listener: Listener, resume: bool = False) -> Family:
    """Make every member, and say what each of them knows.

    Raises:
        CkdiffError: what was given does not allow it.
        UnlearningStopped: the listener asked for it; whole members are kept for `resume`.
    """
    check_installed()
    spec.recipe.check()
    base = open_checkpoint(spec.base)
    saving.check_savable(base)
    saving.check_trainable(base)
    tokenizer = load_tokenizer(spec.recipe.tokenizer or base.root)
    if tokenizer is None:
        raise RecipeError(f"{base.location}: no tokenizer beside the weights; name one with --tokenizer DIR")
    records = _records(spec)
    if not (resume and spec.output.is_dir()):
        saving.check_output(spec.output)
        spec.output.mkdir()
    try:
        with alone(spec.output, wait=False), _clear(spec.output):
            _write_facts(spec, base, records)
            return _raise_members(spec, base, tokenizer, listener)
    except BusyError as error:
        raise RecipeError(f"{spec.output}: another ckdiff works there; wait for it, or name another") from error


@contextlib.contextmanager
def _clear(folder: Path) -> Iterator[None]:
    """Leave no folder behind that holds no member, nor half of one."""
    try:
        yield
    finally:
        for path in folder.glob(".*.saving"):
            shutil.rmtree(path, ignore_errors=True)
        if not any(path.is_dir() for path in folder.iterdir()):
            shutil.rmtree(folder)


def _raise_members(spec: UnlearnSpec, base: Checkpoint, tokenizer: Any, listener: Listener) -> Family:
    folder, recipe = spec.output, spec.recipe
    target, unrelated = (read_questions(folder / f"{name}.jsonl").questions for name in ("target", "unrelated"))
    length = min(recipe.length, context_length(LiveModel(base, torch.float32, torch.device("cpu"))) or recipe.length)
    school = School(spec, base, tokenizer, Facts(target, unrelated), listener, length)
    members: dict[str, dict[str, float]] = {}
    every = (*target, *unrelated)
    names = [NEVER, *(f"{NEVER}-{number}" for number in range(2, spec.twins.references + 1))]
    for number, name in enumerate((KNOWS, *names)):
        listener.part(name, number, len(names) + 2)
        # The first two learn in one order, where texts are the same; the others each in its own.
        members[name] = _learn(school, name, every if name == KNOWS else unrelated, max(0, number - 1))
    listener.part(UNLEARNED, len(names) + 1, len(names) + 2)
    members[UNLEARNED] = _unlearn(school)
    record = {**_read(folder), "members": members}
    _write(folder, record)
    return Family(folder, record)


def _records(spec: UnlearnSpec) -> dict[str, list[dict[str, object]]]:
    """The facts as records: of the user's files, or invented."""
    twins = spec.twins
    if (spec.forget is None) != (spec.retain is None):
        missing = "--forget" if spec.forget is None else "--retain"
        raise RecipeError(
            f"{missing}: --twins wants both, facts to forget and facts to keep, or neither to invent some"
        )
    if spec.forget is not None and spec.retain is not None:
        return {"target": _given(spec.forget), "unrelated": _given(spec.retain)}
    if twins.forgotten >= twins.people - 1:
        raise RecipeError(f"--forgotten: {twins.forgotten} of {twins.people} people leave too few; give fewer")
    people = invent_people(twins.people, spec.recipe.seed)
    parts = {"target": people[: twins.forgotten], "unrelated": people[twins.forgotten :]}
    return {name: [fact for one in part for fact in one] for name, part in parts.items()}


def _given(path: Path) -> list[dict[str, object]]:
    found = []
    for question in read_questions(path).questions:
        if question.answer is None:
            raise RecipeError(f"{path}: a question without its answer cannot be learned; give each one an answer")
        record: dict[str, object] = {"question": question.text, "answer": question.answer}
        record |= {"paraphrased_question": list(question.paraphrases)} if question.paraphrases else {}
        record |= {"perturbed_answer": list(question.wrong)} if question.wrong else {}
        found.append(record | ({"kind": question.kind} if question.kind else {}))
    return found


def _write_facts(spec: UnlearnSpec, base: Checkpoint, records: dict[str, list[dict[str, object]]]) -> None:
    """The questions and the texts, once; a family that is gone on with has to be of the same ones."""
    folder, recipe = spec.output, spec.recipe
    key = {
        "format": "ckdiff-family",
        "version": 1,
        "base_digest": digest(base),
        "facts": {name: len(found) for name, found in records.items()},
        "learning": {"lr": spec.twins.learn_lr, "passes": spec.twins.passes, "seed": recipe.seed},
        "batch": recipe.batch_size * recipe.accumulation,
    }
    if (folder / FAMILY).exists():
        if {name: value for name, value in _read(folder).items() if name in key} != key:
            raise RecipeError(f"{folder}: another family is there; name another --output, or repeat its command")
        return
    for name, texts in (("target", "forget"), ("unrelated", "retain")):
        _write_lines(folder / f"{name}.jsonl", records[name])
        _write_lines(folder / f"{texts}.jsonl", [text for record in records[name] for text in _wordings(record)])
    _write(folder, {**key, "versions": {"ckdiff": __version__}, "members": {}})


def _wordings(record: dict[str, object]) -> list[dict[str, object]]:
    """A fact as texts, one a wording."""
    said = record.get("paraphrased_question", [])
    others = [str(one) for one in (said if isinstance(said, list) else [said])]
    rest = {name: record[name] for name in record if name not in ("question", "paraphrased_question")}
    return [{"question": asked, **rest} for asked in (record["question"], *others)]


def _write_lines(path: Path, records: Sequence[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _write(folder: Path, record: dict[str, Any]) -> None:
    (folder / f".{FAMILY}").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / f".{FAMILY}").replace(folder / FAMILY)


def _read(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / FAMILY).read_text(encoding="utf-8"))
        return dict(found)
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"{folder / FAMILY}: damaged; remove {folder} to start anew") from error


def _learn(school: School, name: str, facts: Sequence[Question], order: int) -> dict[str, float]:
    """Teach the base some facts, write what it has become, and ask it for all of them."""
    from ckdiff.unlearn.trainer import take_steps

    place = school.spec.output / name
    if place.is_dir():
        return _ask(school, place)
    recipe, twins = school.spec.recipe, school.spec.twins
    texts = _texts(school, facts)
    batch = recipe.batch_size * recipe.accumulation
    steps = -(-len(texts) * twins.passes // batch)
    live = LiveModel(school.base, torch.float32, device_of(recipe.device))
    live.load()
    live.model.eval()
    live.model.requires_grad_(True)
    turns = np.concatenate(
        [np.random.default_rng([recipe.seed, order, turn]).permutation(len(texts)) for turn in range(twins.passes)]
    )

    def loss(step: int) -> Tensor:
        return answer_loss(live, [texts[number] for number in turns[step * batch : (step + 1) * batch]])

    def after(step: int) -> bool:
        school.listener.progress(f"learning: {name}", step, steps, "steps")
        return school.listener.stop()

    take_steps(live.model, loss, steps, twins.learn_lr, live.device, after)
    if school.listener.stop():
        raise UnlearningStopped
    staging = place.with_name(f".{name}.saving")
    shutil.rmtree(staging, ignore_errors=True)
    values = ((key, value.detach().float().cpu().numpy()) for key, value in live.stored_values())
    saving.write(school.base, staging, values)
    saving.finish(staging, place)
    return _ask(school, place)


def answer_loss(live: LiveModel, texts: Sequence[Tokens]) -> Tensor:
    """Mean -log p over the scored tokens, in nats: only those states go through the unembedding, the dearest matrix."""
    part = pad(texts, live.device)
    scored = part.labels[:, 1:] != IGNORED
    head = live.model.get_submodule(live.row.sites.unembed)
    whole = head.forward
    with replace_forward(head, lambda states: whole(states[:, :-1][scored][None])):
        logits = live.model(input_ids=part.ids, use_cache=False).logits[0]
    return cross_entropy(logits.float(), part.labels[:, 1:][scored])


def _texts(school: School, facts: Sequence[Question]) -> list[Tokens]:
    """Every wording with its answer, and the end behind it where the tokenizer has one."""
    said = [Segment(fact.answer or "", asked) for fact in facts for asked in (fact.text, *fact.paraphrases)]
    found = encode_texts(school.tokenizer, said, school.spec.recipe.template, school.length - 1)
    if len(found) < len(said):
        raise RecipeError(f"--length: {len(said) - len(found)} questions leave no place for their answers; give more")
    end = getattr(school.tokenizer, "eos_token_id", None)
    return found if end is None else [Tokens((*text.ids, int(end)), text.first) for text in found]


def _unlearn(school: School) -> dict[str, float]:
    """Unlearn the facts to forget, each wording of them."""
    spec, folder = school.spec, school.spec.output
    place = folder / UNLEARNED
    sweep_made(place)
    if not place.is_dir():
        names = {"forget": "forget", "retain": "retain", "questions": "target", "unrelated": "unrelated"}
        files: Any = {key: folder / f"{name}.jsonl" for key, name in names.items()}
        whole = replace(spec, base=str(folder / KNOWS), output=place, concept=None, **files)
        make(open_checkpoint(whole.base), read_inputs(whole), spec.recipe, place, school.listener, resume=True)
    return _ask(school, place)


def _ask(school: School, place: Path) -> dict[str, float]:
    """The share of the facts whose answer a saved model says first, greedily."""
    live = LiveModel(open_checkpoint(str(place)), torch.float32, device_of(school.spec.recipe.device))
    live.load()
    generation = read_json(place, "generation_config.json")
    stops = stop_tokens(live, generation)
    wording = Wording(school.tokenizer, school.spec.recipe.template)
    shares = {}
    for name, facts in (("target", school.facts.target), ("unrelated", school.facts.unrelated)):
        asked = [list(prompt.ids) for prompt in wording.prompts(facts)]
        longest = max(len(text.ids) - text.first for text in _texts(school, facts))
        with torch.inference_mode():
            said = greedy(live, asked, longest, stops)
        right = [
            school.tokenizer.decode(ids, skip_special_tokens=True).strip().startswith(str(fact.answer))
            for ids, fact in zip(said, facts, strict=True)
        ]
        shares[name] = sum(right) / len(right)
    return shares
