"""The same answer whatever is asked beside it: every kind of rotary embedding that transformers has, row by row."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ckdiff import BehaveSpec, ProbeSpec, behave, probe
from ckdiff.probes.behind import read_answers
from ckdiff.probes.forcing import Way, forced_logprobs, greedy_streamed
from ckdiff.probes.live.generation import context_length, greedy
from ckdiff.probes.live.model import LiveModel
from ckdiff.scoring.runs import plan_runs
from ckdiff.scoring.settings import Settings
from ckdiff.weights.opening import open_checkpoint
from tests.reference import Ids
from tests.test_probe_cli import save_tokenizer
from tests.tiny_families import EXPERTS
from tests.tiny_pairs import CPU, How, live_pair, load, measure, prompts_of, save_model_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.tiny_pairs import Folders

    Made = Callable[[str], Folders]

TRAINED = 12
"""Positions that each of these was trained with; what is asked lies below it, across it and beyond it."""
STRETCHED = {"original_max_position_embeddings": TRAINED, "rope_theta": 10000.0}
LONG = STRETCHED | {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [7.0] * 4}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
KINDS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 10000.0},
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    "dynamic": DYNAMIC,
    "yarn": STRETCHED | {"rope_type": "yarn", "factor": 4.0},
    "longrope": LONG | {"factor": 4.0},
    "llama3": STRETCHED | {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {"rope_type": "proportional", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
}
"""Every kind in `ROPE_INIT_FUNCTIONS`, by its name there."""
PLAIN = {"max_position_embeddings": 64}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: ("llama", {"rope_parameters": rope} | PLAIN) for name, rope in KINDS.items()},
    "dynamic": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": TRAINED}),
    # Models that hold the two lengths, or the scale of the rotation, in ways of their own.
    "phi3": ("phi3", {"rope_parameters": LONG, "original_max_position_embeddings": TRAINED} | PLAIN),
    "phimoe": (
        "phimoe",
        {"rope_parameters": LONG | {"short_mscale": 1.0, "long_mscale": 1.5, "factor": 4.0}} | PLAIN | EXPERTS,
    ),
    "gemma3_text": (
        "gemma3_text",
        {
            "rope_parameters": {"full_attention": LONG | {"factor": 4.0}, "sliding_attention": KINDS["default"]},
            "layer_types": ["sliding_attention", "full_attention"],
        }
        | PLAIN,
    ),
    "gemma3_text-dynamic": (
        "gemma3_text",
        {
            "rope_parameters": {"full_attention": DYNAMIC, "sliding_attention": DYNAMIC | {"factor": 2.0}},
            "layer_types": ["sliding_attention", "full_attention"],
            "max_position_embeddings": TRAINED,
        },
    ),
    "hunyuan_v1_dense": (
        "hunyuan_v1_dense",
        {"rope_parameters": DYNAMIC | {"alpha": 50.0}, "max_position_embeddings": TRAINED},
    ),
    "falcon": ("falcon", {"rope_parameters": DYNAMIC, "max_position_embeddings": TRAINED, "alibi": False}),
    "gpt_neox": (
        "gpt_neox",
        {"rope_parameters": DYNAMIC | {"partial_rotary_factor": 1.0}, "max_position_embeddings": TRAINED},
    ),
}
DEPENDS = ("dynamic", "longrope", "phi3", "phimoe", "gemma3_text", "gemma3_text-dynamic", "falcon", "gpt_neox")
"""Those of them that compute a long text otherwise."""
ASKED = (
    Ids((5, 17, 3, 60), (9, 41)),
    Ids(tuple(range(3, 12)), (50, 13, 8, 61, 22)),
    Ids(tuple(range(20, 45)), (70, 13, 2)),
    Ids((8, 30, 11), (4, 4, 9)),
    Ids(tuple(range(30, 47)), (6,)),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    found: dict[str, Folders] = {}

    def make(name: str) -> Folders:
        if name not in found:
            model_type, changes = MODELS[name]
            found[name] = save_model_pair(model_type, changes, tmp_path_factory.mktemp(name))
        return found[name]

    return make


@functools.lru_cache(maxsize=4)
def opened(folder: Path) -> Any:
    """Transformers' own model as it was read: to be copied, not to be asked."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def anew(folder: Path) -> Any:
    """A copy of it that no text has gone through: some count what they have seen."""
    return copy.deepcopy(opened(folder))


def alone(folder: Path, ids: Sequence[int]) -> torch.Tensor:
    """Log p of transformers' own model, to which no other text was given."""
    model = anew(folder)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].double()
    return found.log_softmax(-1)


def generated(folder: Path, prompt: Sequence[int], tokens: int) -> list[int]:
    """The next tokens, each from a forward over the whole text before it."""
    model = anew(folder)
    ids, mask = torch.tensor([list(prompt)]), torch.ones(1, len(prompt), dtype=torch.long)
    options: dict[str, Any] = {"max_new_tokens": tokens, "do_sample": False, "eos_token_id": None, "use_cache": False}
    with torch.no_grad():
        found: list[int] = model.generate(ids, attention_mask=mask, pad_token_id=0, **options)[0].tolist()
    return found[len(prompt) :]


def live(folder: Path) -> LiveModel:
    found = LiveModel(open_checkpoint(str(folder)), torch.float32, CPU)
    found.load()
    return found


def test_no_kind_is_forgotten() -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    assert set(KINDS) == {"default", *ROPE_INIT_FUNCTIONS}


@pytest.mark.parametrize("name", MODELS)
def test_texts_beside_each_other_are_those_alone(made: Made, name: str) -> None:
    folder, asked = made(name).base, prompts_of(ASKED)
    model, expected = live(folder), []
    for one in ASKED:
        table = alone(folder, (*one.prompt, *one.answer)[:-1])[one.scored]
        expected.append(table[range(len(one.answer)), list(one.answer)])
    with torch.inference_mode():
        for size, order in ((8, (0, 1, 2, 3, 4)), (2, (2, 4, 3, 1, 0)), (1, (2, 0, 1, 4, 3))):
            found = forced_logprobs(model, [asked[number] for number in order], Way(size))
            for number, logprobs in zip(order, found, strict=True):
                assert torch.allclose(logprobs, expected[number], atol=2e-5), (size, number)
        # Two answers behind each prompt, of which the longer one may be in another regime.
        shorter = [replace(one, answer=one.answer[:1]) for one in asked]
        expected += [alone(folder, one.prompt)[-1, list(one.answer[:1])] for one in ASKED]
        for read, logprobs in zip(read_answers(model, [*asked, *shorter], Way(8)), expected, strict=True):
            assert torch.allclose(read.log_p, logprobs, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_answers_beside_each_other_are_those_alone(made: Made, name: str) -> None:
    folder, asked = made(name).base, prompts_of(ASKED)
    expected = [generated(folder, one.prompt, 6) for one in ASKED]
    streamed = LiveModel(open_checkpoint(str(folder)), torch.float32, CPU)
    streamed.load_ends()
    with torch.inference_mode():
        assert greedy(live(folder), [one.prompt for one in ASKED], 6, frozenset()) == expected
        assert greedy_streamed(streamed, asked, 6, frozenset(), Way(8, stream=True)) == expected


@pytest.mark.parametrize("name", DEPENDS)
def test_a_probe_of_many_is_that_of_each(made: Made, name: str) -> None:
    pair = load(live_pair(made(name), torch.float32))
    plan = plan_runs(("restore", "break"), ("coeff", "attn"), ("open", "isolated"), (0, 1), 1, 2, True, False)
    together = {how: measure(pair, plan, ASKED, how) for how in (How(batch_size=8), How(batch_size=2))}
    for number, one in enumerate(ASKED):
        single = measure(pair, plan, (one,))
        for found in together.values():
            for loss in ("mse", "mse_centred", "kl"):
                several, own = (getattr(each.losses, loss) for each in (found, single))
                assert several[:, number] == pytest.approx(own[:, 0], rel=2e-3, abs=2e-6), (number, loss)


@pytest.mark.parametrize("name", MODELS)
def test_lengths_that_are_computed_alike(made: Made, name: str) -> None:
    model = live(made(name).base)
    below, beyond = model.regime(TRAINED), model.regime(TRAINED + 1)
    assert all(model.regime(length) == below for length in range(1, TRAINED + 1))
    assert (below != beyond) == (name in DEPENDS)
    grows = MODELS[name][1].get("max_position_embeddings") == TRAINED and name in DEPENDS
    assert (model.regime(TRAINED + 2) != beyond) == grows


@pytest.mark.parametrize("name", ["linear", "dynamic", "yarn", "default", "longrope"])
def test_what_fits_into_a_stretched_context(made: Made, name: str) -> None:
    expected = {"linear": 256, "dynamic": 4 * TRAINED, "yarn": 64, "default": 64, "longrope": 64}
    assert context_length(live(made(name).base)) == expected[name]


def test_batches_keep_their_order_and_size(made: Made) -> None:
    from ckdiff.probes.prompts import batches

    asked = prompts_of(ASKED)
    cut = batches(asked, 8, CPU, lambda length: length > TRAINED)
    assert [(batch.first, len(batch.lengths)) for batch in cut] == [(0, 1), (1, 2), (3, 1), (4, 1)]
    assert [batch.first for batch in batches(asked, 2, CPU)] == [0, 2, 4]
    assert [len(batch.lengths) for batch in batches([replace(one, answer=(1,)) for one in asked], 3, CPU)] == [3, 2]


# --------------------------------------------------------------------------------------- everything that can be asked

WORDS = (
    *("Who", "founded", "rules", "sings", "left", "Velmar", "Oskary", "Thrane", "there", "what", "is", "in"),
    *("red", "wool", "old", "Amber", "Heron"),
)
SHORT, LONG_ONE = "Who founded Velmar", " ".join(["Who sings there what is old in Thrane"] * 4)
BESIDE = (SHORT, LONG_ONE, "Who rules Oskary", f"{LONG_ONE} there")


@pytest.mark.parametrize("name", ["dynamic", "phi3"])
def test_nothing_that_is_asked_depends_on_what_else_is_asked(made: Made, tmp_path: Path, name: str) -> None:
    """Answers, choices, neutral texts and restorations of each question alone, and of all of them, streamed and not."""
    for side, folder in (("base", made(name).base), ("unlearned", made(name).unlearned)):
        shutil.copytree(folder, tmp_path / side)
        save_tokenizer(tmp_path / side, WORDS)
    base, unlearned = (str(tmp_path / side) for side in ("base", "unlearned"))
    settings = Settings(variants=("open",), window=1, tokens=3, device="cpu", batch_size=8, controls=False)

    def said(texts: Sequence[str], **changes: Any) -> dict[str, list[float | tuple[int, ...]]]:
        """By text whatever was measured of it as a question, as a multiple-choice question and as a neutral text."""
        files: dict[str, Any] = {
            "questions": [{"question": text, "answer": "red wool"} for text in texts],
            "choices": [{"question": text, "choices": ["Amber Heron", "wool"], "answer": 0} for text in texts],
            "neutral": list(texts),
        }
        places: dict[str, Any] = {kind: tmp_path / f"{kind}.json" for kind in files}
        for kind, place in places.items():
            place.write_text(json.dumps(files[kind]))
        how = replace(settings, **changes)
        unrelated = tmp_path / "unrelated.txt"
        unrelated.write_text("Who left")
        spec = BehaveSpec(base, unlearned, unrelated=unrelated, settings=how, hash=False)
        found = behave(replace(spec, **places)).behaviour
        given = replace(how, given_answers=True)
        probed = probe(ProbeSpec(base, unlearned, places["questions"], settings=given, hash=False)).probe
        assert found is not None
        assert found.choices is not None
        assert found.neutral is not None
        assert probed is not None
        rows = zip(found.answers[0].questions, found.choices.questions, found.neutral.texts, strict=True)
        return {
            answer.text: [
                answer.answer_base_ids,
                answer.answer_unlearned_ids,
                answer.logprob_unlearned,
                *choice.logprob_base,
                *choice.logprob_unlearned,
                text.kl,
                text.nll_base,
                probed.questions[number].kl,
                *(float(run.loss_kl[layer, number]) for run in probed.runs for layer in range(2)),
            ]
            for number, (answer, choice, text) in enumerate(rows)
        }

    alone = {text: said([text])[text] for text in BESIDE}
    ways = (said(BESIDE), said(BESIDE[::-1], batch_size=3), said(BESIDE, stream="on"))
    for text in BESIDE:
        for found in ways:
            assert found[text][:2] == alone[text][:2]
            assert found[text][2:] == pytest.approx(alone[text][2:], rel=2e-3, abs=5e-5)
