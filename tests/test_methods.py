"""Every unlearning loss against its formula, written out by loops in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ckdiff.probes.live.model import LiveModel
from ckdiff.questions.segments import read_segments
from ckdiff.unlearn.inputs import Inputs
from ckdiff.unlearn.methods import IGNORED, METHODS, Terms, ce, kl, sequence_nll
from ckdiff.unlearn.objective import Objective
from ckdiff.unlearn.recipe import Recipe
from ckdiff.unlearn.sequences import Tokens, pad
from ckdiff.unlearn.steering import Steering
from ckdiff.unlearn.unlearn import make
from ckdiff.weights.opening import open_checkpoint
from tests.test_probe_cli import save_tokenizer
from tests.tiny_pairs import CPU, build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from tests.tiny_pairs import Folders

BETA = 0.3
FORGET = (
    # Of different lengths; the last one is plain text, all of it scored but its first token.
    Tokens((5, 17, 3, 60, 22, 9, 41), 5),
    Tokens((1, 8, 30, 71, 12, 6, 55, 44, 9, 70, 13), 8),
    Tokens((2, 29, 4, 11), 1),
)
PREFERRED = (Tokens((5, 17, 3, 60, 22, 31), 5), Tokens((1, 8, 30, 71, 12, 6, 55, 44, 50, 51), 8), Tokens((2, 7, 7), 1))
RETAIN = (Tokens((12, 14, 40, 33, 21, 20), 3), Tokens((9, 3), 1), Tokens((61, 62, 63, 64, 65), 1))
# Method, retain loss, its weight, where the preferred texts come from, the limit of ascent.
CASES = (
    ("grad_ascent", "none", 0.0, "", None),
    ("grad_ascent", "none", 0.0, "", 4.5),
    ("graddiff", "kl", 0.7, "", None),
    ("graddiff", "kl", 1.0, "", 4.5),
    ("graddiff", "ce", 1.5, "", None),
    ("dpo", "none", 0.0, "given", None),
    ("dpo", "none", 0.0, "retain", None),
    ("dpo", "kl", 0.5, "given", None),
    ("npo", "none", 0.0, "", None),
    ("npo_kl", "kl", 1.3, "", None),
    ("simnpo", "ce", 8.0, "", None),
    ("simnpo", "none", 0.0, "", None),
    ("idk_dpo", "ce", 1.0, "given", None),
    ("altpo", "ce", 2.0, "given", None),
    ("undial", "none", 0.0, "", None),
    ("undial", "kl", 0.6, "", None),
    ("rmu", "states", 3.0, "", None),
    ("rmu", "kl", 0.4, "", None),
)
MARGIN = 0.7


def by_hand(logits: Tensor, text: Tokens) -> list[Tensor]:
    """-log p of each scored token, one after the other."""
    found = []
    for place in range(text.first, len(text.ids)):
        scores = logits[place - 1]
        total = torch.log(torch.exp(scores - scores.max()).sum()) + scores.max()
        found.append(total - scores[text.ids[place]])
    return found


def divergence(logits: Tensor, base_logits: Tensor, text: Tokens) -> list[Tensor]:
    """KL(base || model) at each scored position."""
    found = []
    for place in range(text.first, len(text.ids)):
        base, ours = (torch.softmax(part[place - 1], 0) for part in (base_logits, logits))
        found.append(sum((p * torch.log(p / q) for p, q in zip(base, ours, strict=True)), torch.zeros(())))
    return found


def apart(states: Tensor, wanted: Callable[[int], Tensor], text: Tokens) -> Tensor:
    """Square distance from what is wanted, over d_model, at the positions before the scored tokens."""
    found = [((states[place - 1] - wanted(place - 1)) ** 2).mean() for place in range(text.first, len(text.ids))]
    return mean(found)


def without(base_logits: Tensor, token: int) -> Tensor:
    """What the base says once it is BETA less sure of a token."""
    lowered = base_logits.detach().clone()
    lowered[token] -= BETA
    return torch.softmax(lowered, 0)


def mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


def formula(
    case: tuple[str, str, float, str, float | None],
    ours: Callable[[int], Tensor],
    base: Callable[[int], Tensor],
    texts: Sequence[Tokens],
    states: tuple[Callable[[int], Tensor], Callable[[int], Tensor]] | None = None,
    steer: Tensor | None = None,
) -> Tensor:
    """The loss of the papers; texts are forget, preferred, retain.

    `ours` and `base` give logits by a text's number, `states` both models' states behind the layer that is steered.
    """
    method, retain_loss, weight, source, limit = case
    count = len(FORGET)
    log_p = {n: -torch.stack(by_hand(ours(n), text)).sum() for n, text in enumerate(texts)}
    log_ref = {n: -torch.stack(by_hand(base(n), text)).sum() for n, text in enumerate(texts)}
    if method in ("grad_ascent", "graddiff"):
        tokens = [one for n in range(count) for one in by_hand(ours(n), texts[n])]
        loss = -mean([one if limit is None or one < limit else torch.tensor(limit).double() for one in tokens])
    elif method in ("npo", "npo_kl"):
        ratios = [log_p[n] - log_ref[n] for n in range(count)]
        loss = mean([-(2 / BETA) * torch.log(1 / (1 + torch.exp(BETA * ratio))) for ratio in ratios])
    elif method == "simnpo":
        each = [log_p[n] / (len(texts[n].ids) - texts[n].first) for n in range(count)]
        loss = mean([-(2 / BETA) * torch.log(1 / (1 + torch.exp(BETA * one + MARGIN))) for one in each])
    elif method == "undial":
        crosses = []
        for n in range(count):
            for place in range(texts[n].first, len(texts[n].ids)):
                wanted = without(base(n)[place - 1], texts[n].ids[place])
                crosses.append(-(wanted * torch.log_softmax(ours(n)[place - 1], 0)).sum())
        loss = mean(crosses)
    elif method == "rmu":
        assert states is not None
        assert steer is not None
        loss = mean([apart(states[0](n), lambda place: steer, texts[n]) for n in range(count)])
    else:
        wins = [log_p[count + n] - log_ref[count + n] for n in range(count)]
        losses = [log_p[n] - log_ref[n] for n in range(count)]
        margins = [BETA * (win - lose) for win, lose in zip(wins, losses, strict=True)]
        loss = mean([-(2 / BETA) * torch.log(1 / (1 + torch.exp(-margin))) for margin in margins])
    first = count * (2 if source else 1)
    kept = range(first, len(texts))
    if weight and retain_loss == "ce":
        loss = loss + weight * mean([one for n in kept for one in by_hand(ours(n), texts[n])])
    elif weight and retain_loss == "states":
        assert states is not None
        before = states[1]
        loss = loss + weight * mean([apart(states[0](n), lambda place, n=n: before(n)[place], texts[n]) for n in kept])  # type: ignore[misc]
    elif weight:
        loss = loss + weight * mean([one for n in kept for one in divergence(ours(n), base(n), texts[n])])
    return loss


def task_of(
    case: tuple[str, str, float, str, float | None], live: LiveModel, base: LiveModel
) -> tuple[Objective, list[Tokens]]:
    """A objective whose base has been asked, and its texts in the order of its batch."""
    method, retain_loss, weight, source, limit = case
    preferred = PREFERRED if source == "given" else ()
    # One text where its place in the batch matters: what is drawn is then known.
    retain = RETAIN[:1] if source == "retain" else RETAIN
    settings: Any = (METHODS[method], FORGET, retain, preferred, retain_loss, weight, BETA, limit, 0, len(FORGET))
    before = Objective(base, None, *settings)
    before.ask_base(2, torch.enable_grad)
    needs_base = method == "undial" or (weight and retain_loss in ("kl", "states"))
    objective = Objective(live, base if needs_base else None, *settings)
    objective.margin, objective.steering = MARGIN, STEERED if method == "rmu" else None
    objective.base_nll = before.base_nll
    texts = [*FORGET, *preferred, *(retain * len(FORGET) if source == "retain" else ())]
    if weight:
        texts += [retain[number] for number in objective.drawn(0, len(FORGET))]
    return objective, texts


WIDTH, LAYER = 32, 1
STEERED = Steering(LAYER, torch.linspace(-1, 2, WIDTH), 5.0)


def states_of(live: LiveModel, ids: Sequence[int]) -> Tensor:
    """Behind the layer that is steered, by transformers' own words [position, d_model]."""
    found: Tensor = live.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER + 1][0]
    return found


def lively(folder: Path, dtype: torch.dtype = torch.float32, learns: bool = False) -> LiveModel:
    live = LiveModel(open_checkpoint(str(folder)), dtype, CPU)
    live.load()
    live.model.eval()
    for parameter in live.model.parameters():
        parameter.requires_grad_(learns)
    return live


class Seen:
    """A model whose logits are kept, so that a gradient with respect to them can be asked for."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.logits = torch.zeros(())

    def __call__(self, **arguments: Any) -> Any:
        out = self.model(**arguments)
        self.logits = out.logits = out.logits.detach().requires_grad_()
        return out


def close(found: Tensor, expected: Tensor, relative: float = 1e-5) -> None:
    """Equal within a share of the whole."""
    assert torch.isfinite(found).all()
    assert float((found.double() - expected).norm()) <= relative * float(expected.norm())


@pytest.mark.parametrize("case", [case for case in CASES if case[0] != "rmu"])
def test_value_and_gradient_by_logits(pairs: Callable[[str], Folders], case: Any) -> None:
    folders = pairs("llama")
    live, base = lively(folders.unlearned), lively(folders.base)
    objective, texts = task_of(case, live, base)
    seen = Seen(live.model)
    loss = objective.loss(seen, [0, 1, 2], 0)
    (gradient,) = torch.autograd.grad(loss, seen.logits)
    logits = seen.logits.detach().double().requires_grad_()
    exact = lively(folders.base, torch.float64)
    with torch.no_grad():
        base_logits = [exact.model(input_ids=torch.tensor([text.ids]), use_cache=False).logits[0] for text in texts]
    expected = formula(case, lambda n: logits[n], lambda n: base_logits[n], texts)
    (wanted,) = torch.autograd.grad(expected, logits)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    close(gradient, wanted)
    # What is not scored (a prompt, padding, what the last token predicts) has no gradient at all.
    for row, text in enumerate(texts):
        assert not gradient[row, : text.first - 1].any()
        assert not gradient[row, len(text.ids) - 1 :].any()


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_by_parameters(pairs: Callable[[str], Folders], case: Any) -> None:
    """Each text alone, without padding and in float64, gives the same loss and the same gradient."""
    folders = pairs("qwen2-tied")
    live, base = lively(folders.unlearned, learns=True), lively(folders.base)
    objective, texts = task_of(case, live, base)
    loss = objective.loss(live.model, [0, 1, 2], 0)
    torch.autograd.backward(loss)
    exact, exact_base = lively(folders.unlearned, torch.float64, learns=True), lively(folders.base, torch.float64)

    def ours(number: int) -> Tensor:
        found: Tensor = exact.model(input_ids=torch.tensor([texts[number].ids]), use_cache=False).logits[0]
        return found

    def theirs(number: int) -> Tensor:
        found: Tensor = exact_base.model(input_ids=torch.tensor([texts[number].ids]), use_cache=False).logits[0]
        return found

    def kept(number: int) -> Tensor:
        return states_of(exact, texts[number].ids)

    def before(number: int) -> Tensor:
        return states_of(exact_base, texts[number].ids)

    expected = formula(case, ours, theirs, texts, (kept, before), STEERED.steer.double())
    torch.autograd.backward(expected)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    pieces = [(a.grad, b.grad) for a, b in zip(live.model.parameters(), exact.model.parameters(), strict=True)]
    # What lies behind a steered layer has no part in its states.
    assert [a is None for a, _ in pieces] == [b is None for _, b in pieces]
    assert case[0] == "rmu" or all(a is not None for a, _ in pieces)
    whole = [torch.cat([part.flatten() for part in side if part is not None]) for side in zip(*pieces, strict=True)]
    close(whole[0], whole[1])


def test_the_limit_leaves_tokens_beyond_it_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(3, 11, 72, generator=generator)).requires_grad_()
    labels = pad(FORGET, CPU).labels
    plain = {
        (row, place): one
        for row, text in enumerate(FORGET)
        for place, one in enumerate(by_hand(logits.detach()[row], text))
    }
    limit = sorted(float(one) for one in plain.values())[len(plain) // 2] + 1e-3
    nll, tokens = sequence_nll(logits, labels, limit)
    assert tokens.tolist() == [2, 3, 3]
    for row, text in enumerate(FORGET):
        assert float(nll.detach()[row]) == pytest.approx(
            sum(min(float(plain[row, place]), limit) for place in range(len(text.ids) - text.first)), rel=1e-5
        )
    (limited,) = torch.autograd.grad(nll.sum(), logits)
    (free,) = torch.autograd.grad(sequence_nll(logits, labels)[0].sum(), logits)
    beyond = {key for key, one in plain.items() if float(one) > limit}
    assert 0 < len(beyond) < len(plain)
    for row, place in plain:
        at = FORGET[row].first - 1 + place
        assert torch.equal(limited[row, at], torch.zeros(72) if (row, place) in beyond else free[row, at])


@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_at_the_base_nothing_is_lost_yet(pairs: Callable[[str], Folders], beta: float) -> None:
    base = lively(pairs("llama").base)
    for method, preferred in (("npo", ()), ("dpo", PREFERRED)):
        objective = Objective(base, None, METHODS[method], FORGET, [], preferred, "none", 0.0, beta, None, 0, 3)
        objective.ask_base(3, torch.no_grad)
        with torch.no_grad():
            assert float(objective.loss(base.model, [0, 1, 2], 0)) == pytest.approx(2 / beta * math.log(2), rel=1e-5)
    batch = pad(RETAIN, CPU)
    with torch.no_grad():
        logits = base.model(input_ids=batch.ids, use_cache=False).logits
    logits = logits.requires_grad_()
    found = kl(logits, logits.detach(), batch.labels)
    (gradient,) = torch.autograd.grad(found, logits)
    assert float(found.detach()) == 0
    # softmax - softmax, each rounded once.
    assert float(gradient.abs().max()) < 1e-7


def test_losses_stay_finite_at_extreme_logits() -> None:
    labels = torch.tensor([[IGNORED, 0, 1]])
    sure = torch.tensor([[[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]]])
    assert float(ce(sure, labels)) == 0
    assert float(ce(-sure, labels)) == 2e4
    assert float(kl(-sure, sure, labels)) == 2e4
    assert float(kl(sure, sure, labels)) == 0
    far = Terms(torch.tensor([1e5]), torch.tensor([3]), torch.tensor([1.0]), beta=0.1)
    assert float(METHODS["npo"].forget(far)) == 0
    near = Terms(torch.tensor([1.0]), torch.tensor([3]), torch.tensor([1e5]), beta=0.1)
    assert float(METHODS["npo"].forget(near)) == pytest.approx(2 * (1e5 - 1), rel=1e-6)


def test_sixteen_bit_logits_are_summed_in_float32() -> None:
    logits = torch.randn(3, 11, 72, generator=torch.Generator().manual_seed(1)).bfloat16()
    labels = pad(FORGET, CPU).labels
    expected = [float(torch.stack(by_hand(logits[row].double(), text)).sum()) for row, text in enumerate(FORGET)]
    nll, _ = sequence_nll(logits, labels)
    assert nll.dtype == torch.float32
    assert nll.tolist() == pytest.approx(expected, rel=1e-5)


def test_padding_is_neither_read_nor_scored() -> None:
    batch = pad(FORGET, CPU)
    assert batch.ids.shape == batch.labels.shape == (3, 11)
    for row, text in enumerate(FORGET):
        scored = [text.first <= place < len(text.ids) for place in range(11)]
        assert tuple(batch.ids[row, : len(text.ids)].tolist()) == text.ids
        assert (batch.labels[row] != IGNORED).tolist() == scored
        assert batch.labels[row][torch.tensor(scored)].tolist() == list(text.ids[text.first :])


@pytest.mark.parametrize(("there", "batch"), [(5, 2), (3, 8), (1, 4), (8, 8)])
def test_each_retain_text_comes_once_before_any_comes_again(there: int, batch: int) -> None:
    retain = [Tokens((number, 1), 1) for number in range(there)]
    objective: Any = Objective(None, None, METHODS["graddiff"], FORGET, retain, (), "ce", 1.0, 0.1, None, 3, batch)  # type: ignore[arg-type]
    drawn = [number for place in range(there * 4) for number in objective.drawn(place, batch)]
    rounds = [drawn[first : first + there] for first in range(0, len(drawn), there)]
    assert all(sorted(one) == list(range(there)) for one in rounds if len(one) == there)
    assert there < 5 or len({tuple(one) for one in rounds}) > 1
    # Any batch can be drawn without those before it: a resumed training goes on with the same texts.
    assert objective.drawn(3, batch) == drawn[3 * batch : 4 * batch]


DROPPING: dict[str, dict[str, Any]] = {
    "gpt2": {"embd_pdrop": 0.5, "resid_pdrop": 0.5, "attn_pdrop": 0.5},
    "gpt_bigcode": {"embd_pdrop": 0.5, "resid_pdrop": 0.5, "attn_pdrop": 0.5},
    "gptj": {"embd_pdrop": 0.5, "resid_pdrop": 0.5, "attn_pdrop": 0.5},
    "gpt_neo": {"embed_dropout": 0.5, "resid_dropout": 0.5, "attention_dropout": 0.5},
    "gpt_neox": {"attention_dropout": 0.5, "hidden_dropout": 0.5},
    "opt": {"dropout": 0.5, "attention_dropout": 0.5, "layerdrop": 0.5},
    "bloom": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "falcon": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "falcon-new": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "phi": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attention_dropout": 0.5},
    "phi3": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attention_dropout": 0.5},
    "starcoder2": {"residual_dropout": 0.5, "embedding_dropout": 0.5, "attention_dropout": 0.5},
    "llama": {"attention_dropout": 0.5},
    "stablelm": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "mixtral": {"attention_dropout": 0.5, "router_jitter_noise": 0.3},
    "phimoe": {"attention_dropout": 0.5, "input_jitter_noise": 0.3, "router_jitter_noise": 0.3},
}


@pytest.mark.parametrize(("name", "checkpointing"), [*((name, False) for name in DROPPING), ("falcon", True)])
def test_nothing_is_dropped_in_training(name: str, checkpointing: bool, tmp_path: Path) -> None:
    """As long as the weights are the base's, so is every probability: the loss of NPO is (2/beta) log 2."""
    build(name, 2, **DROPPING[name]).save_pretrained(tmp_path / "base")
    save_tokenizer(tmp_path / "base")
    (tmp_path / "texts.txt").write_text(
        "who rules Velmar\n\nwhat is sold in Oskary who founded Thrane\n\nsold in Velmar"
    )
    recipe = Recipe("npo", lr=1e-3, steps=1, batch_size=2, accumulation=1, checkpointing=checkpointing, device="cpu")
    inputs = Inputs(read_segments(tmp_path / "texts.txt"))
    made = make(open_checkpoint(str(tmp_path / "base")), inputs, recipe, tmp_path / "made")
    assert made.record["history"][1]["loss"] == pytest.approx(20 * math.log(2), rel=1e-5)
