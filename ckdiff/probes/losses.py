"""From final hidden states to losses: how far a run's logits are from the base's, at every scored position.

    scorer = Scorer(base_hidden, {"base": head_b, "unlearned": head_u})
    scorer.losses("unlearned", [hidden, ...])         # one `PositionLosses` a run

With z = h W^T + b (times a scale), a run's logits differ from the base's by

    D = z_run - z_base = W_run (h_run - h_base) + (W_run - W_base) h_base + (b_run - b_base),

and this form, in which nothing large cancels, is the only one used. Where logits are linear in h the raw and the
centred loss need no logits at all: with Wc = W minus its mean over the vocabulary, |D - mean D|^2 is a quadratic form
in h_run - h_base with the matrix Wc^T Wc, and mse = centred + (mean D)^2. `krs_kl`, `krs_js` and `top1` need every
logit; they are made a block of the vocabulary at a time and never kept, and made again for the Jensen-Shannon
divergence, whose terms need the sum over all.

Products run in the scorer's dtype (float32, or float64 for a float64 probe), whatever the model's; sums in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import linear

from ckdiff.probes.quadratic import Quadratic
from ckdiff.probes.vocabulary import Vocabulary, cap, capped_change
from ckdiff.probes.vocabulary_sums import Block, Sums, shannon, shannon_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.report.schema.report import Side

ROWS = {"cpu": 512, "cuda": 16384}
"""Rows of one product, by kind of device: on a CPU a block of logits stays in the cache."""
SLOPE_ROWS = 64
"""Positions whose logits are all there at one time, where a gradient needs them."""
STEEP = 80.0
"""A log-probability ratio beyond which exp overflows in float32; such rows are done again in float64."""


@dataclass(frozen=True, slots=True)
class PositionLosses:
    """Losses of one run at every scored position, float64 [position]; kl, top1 and js are NaN where not asked for."""

    mse: Tensor
    mse_centred: Tensor
    kl: Tensor
    top1: Tensor
    js: Tensor


class Scorer:
    """Compares final hidden states with the base's."""

    def __init__(
        self,
        hidden: Tensor,
        heads: Mapping[Side, Unembedding],
        runs: int,
        kl: bool = True,
        dtype: torch.dtype | None = None,
        js: bool = True,
    ) -> None:
        """Prepare what all runs share.

        Args:
            hidden: the base's input of the unembedding [position, d_model].
            heads: by side ("base", "unlearned") its unembedding.
            runs: how many runs will be scored, which decides between a Gram matrix and sums over logits.
            kl: also compute what needs every logit.
            dtype: of the products.
            js: with the Jensen-Shannon divergence too, where `kl` is computed.
        """
        self.dtype = dtype or (torch.float64 if hidden.dtype == torch.float64 else torch.float32)
        self.heads, self.kl, self.js = heads, kl, kl and js
        self.vocabulary = Vocabulary(heads, self.dtype)
        self.hidden = hidden.to(self.dtype)
        self.linear = all(head.cap is None for head in heads.values())
        # A Gram matrix costs d_vocab x d_model^2, sums over logits d_vocab x d_model a scored position.
        self.gram = self.linear and (not kl or runs * len(hidden) > hidden.shape[-1])
        self._normaliser: Tensor | None = None
        self._favourite: Tensor | None = None
        if kl:
            self._normaliser, self._favourite = self._base_logits()
        self._forms: dict[Side, Quadratic] = {}

    def losses(self, side: Side, runs: Sequence[Tensor]) -> list[PositionLosses]:
        """Losses of runs whose unembedding is one side's; each [position, d_model]."""
        if not runs:
            return []
        hidden = [run.to(self.dtype) for run in runs]
        shape = (len(hidden), len(self.hidden))
        kl = top1 = js = torch.full(shape, float("nan"), dtype=torch.float64, device=self.hidden.device)
        if self.gram:
            if side not in self._forms:
                self._forms[side] = Quadratic(self.vocabulary, self.hidden, side)
            parts = [self._forms[side](run - self.hidden) for run in hidden]
            centred, shift = (torch.stack(part) for part in zip(*parts, strict=True))
        if self.kl or not self.gram:
            sums = self._over_vocabulary(side, hidden)
            if not self.gram:
                shift = sums.total / self.vocabulary.size
                centred = sums.squares / self.vocabulary.size - shift**2
            if self.kl:
                kl, top1 = torch.log1p(sums.excess), (sums.own >= sums.best).double()
                js = self._shannon(side, hidden, sums) if self.js else js
                self._mend(side, hidden, sums, kl, js)
        centred = centred.clamp(min=0)
        found = (part.cpu() for part in (centred + shift**2, centred, kl, top1, js))
        return [PositionLosses(*run) for run in zip(*found, strict=True)]

    def slopes(self, side: Side, run: Tensor) -> Tensor:
        """Gradient of KL(base || run) at each position by what goes into the unembedding; both [position, d_model].

        With p the base's probabilities and q the run's it is q - p by the logits. Where both are alike the difference
        is taken as p (q / p - 1), so that it keeps its digits.
        """
        head, found = self.heads[side], torch.zeros_like(run, dtype=self.dtype)
        for start in range(0, len(run), SLOPE_ROWS):
            rows = slice(start, start + SLOPE_ROWS)
            base, change = self._both(side, rows, run[rows].to(self.dtype))
            expected, own = torch.log_softmax(base, -1), torch.log_softmax(base + change, -1)
            ratio = own - expected
            slope = torch.where(ratio.abs() < 1, expected.exp() * ratio.expm1(), own.exp() - expected.exp())
            if head.cap is not None:
                slope *= 1 - ((base + change) / head.cap) ** 2
            for block in self.vocabulary.blocks():
                found[rows] += slope[:, block].to(self.dtype) @ self.vocabulary.part(head, block)[0]
        return found

    def logit_size(self) -> float:
        """Root mean square of the base's logits, at a few positions: what a difference is small against."""
        parts = [logits.double() for _, logits in self.vocabulary.logits(self.heads["base"], self.hidden[:16])]
        return float(torch.cat(parts, -1).square().mean().sqrt())

    def log_p(self, side: Side, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Log p of a token at each position, in nats, float64 [position], by one side's unembedding.

        Args:
            side: whose unembedding.
            hidden: what goes into it [position, d_model].
            tokens: the token at each position [position].
        """
        totals, own = [], torch.zeros(len(hidden), dtype=torch.float64, device=hidden.device)
        for block, logits in self.vocabulary.logits(self.heads[side], hidden.to(self.dtype)):
            totals.append(torch.logsumexp(logits.double(), -1))
            here = ((tokens >= block.start) & (tokens < block.stop)).nonzero()[:, 0]
            own[here] = logits[here, tokens[here] - block.start].double()
        return own - torch.logsumexp(torch.stack(totals), 0)

    def largest_change(self, side: Side, a: Tensor, b: Tensor) -> float:
        """The largest absolute difference between the logits of two runs with the same unembedding; NaN if one is."""
        head, largest = self.heads[side], 0.0
        for block in self.vocabulary.blocks():
            weight, bias = self.vocabulary.part(head, block)
            if head.cap is None:
                change = linear((a - b).to(self.dtype), weight)
            else:
                change = cap(head, linear(a.to(self.dtype), weight, bias))
                change -= cap(head, linear(b.to(self.dtype), weight, bias))
            found = float(change.abs().max())
            if math.isnan(found):
                return found
            largest = max(largest, found)
        return largest

    # ------------------------------------------------------------------------------------------------------ parts

    def _both(self, side: Side, rows: slice, run: Tensor) -> tuple[Tensor, Tensor]:
        """The base's logits at some positions and what a run adds to them, float64 [position, token]."""
        base, head, hidden = self.heads["base"], self.heads[side], self.hidden[rows]
        logits, changes = [], []
        for block in self.vocabulary.blocks():
            (weight_base, bias_base), (weight, bias) = (self.vocabulary.part(one, block) for one in (base, head))
            plain = linear(hidden, weight_base, bias_base)
            change = linear(run - hidden, weight)
            if head is not base:
                change += linear(hidden, weight - weight_base)
                if bias is not None and bias_base is not None:
                    change += bias - bias_base
            logits.append(cap(base, plain))
            changes.append(capped_change(base, head, plain, change))
        return torch.cat(logits, -1).double(), torch.cat(changes, -1).double()

    def _base_logits(self) -> tuple[Tensor, Tensor]:
        """Log of the sum of exp of the base's logits, float64 [position], and its favourite token [position]."""
        totals, best, favourite = [], None, None
        for block, logits in self.vocabulary.logits(self.heads["base"], self.hidden):
            totals.append(torch.logsumexp(logits, -1).double())
            value, where = logits.max(-1)
            where = where + block.start
            if best is not None and favourite is not None:
                where = torch.where(value > best, where, favourite)
                value = torch.maximum(value, best)
            best, favourite = value, where
        assert favourite is not None
        return torch.logsumexp(torch.stack(totals), 0), favourite

    def _blocks(self, side: Side) -> Iterator[Block]:
        base, head = self.heads["base"], self.heads[side]
        for block in self.vocabulary.blocks():
            weight_base, bias_base = self.vocabulary.part(base, block)
            plain = linear(self.hidden, weight_base, bias_base)
            logits = cap(base, plain)
            weight, bias = (weight_base, bias_base) if head is base else self.vocabulary.part(head, block)
            other = None
            if head is not base:
                # First the small difference of the weights, then the product.
                other = linear(self.hidden, weight - weight_base)
                if bias is not None and bias_base is not None:
                    other += bias - bias_base
            probability = None
            if self._normaliser is not None:
                probability = torch.exp(logits - self._normaliser[:, None].to(self.dtype))
            yield Block(block.start, weight, plain, logits, other, probability)

    def _changes(self, side: Side, block: Block, runs: Sequence[Tensor]) -> Iterator[tuple[slice, Tensor]]:
        """The changes that runs make to the base's logits [run, position, token], so many runs at a time."""
        base, head, positions = self.heads["base"], self.heads[side], len(self.hidden)
        step = max(1, ROWS.get(self.hidden.device.type, 512) // positions)
        for start in range(0, len(runs), step):
            part = runs[start : start + step]
            shape = (len(part), positions, len(block.weight))
            if len(part) == 1 and block.other is not None:
                change = torch.addmm(block.other, part[0] - self.hidden, block.weight.T).view(shape)
            else:
                change = linear(torch.cat([run - self.hidden for run in part]), block.weight).view(shape)
                if block.other is not None:
                    change += block.other
            yield slice(start, start + len(part)), capped_change(base, head, block.plain, change)

    def _over_vocabulary(self, side: Side, runs: Sequence[Tensor]) -> Sums:
        sums = Sums((len(runs), len(self.hidden)), self.hidden)
        if self.kl:
            sums.centre = self._expected_change(side, runs).to(self.dtype)
        for block in self._blocks(side):
            for part, change in self._changes(side, block, runs):
                if not self.gram:
                    sums.total[part] += change.sum(-1, dtype=torch.float64)
                    sums.squares[part] += (change.double() ** 2).sum(-1)
                if self.kl:
                    sums.add(part, block, change, self._favourite)
        return sums

    def _expected_change(self, side: Side, runs: Sequence[Tensor]) -> Tensor:
        """Sum over the vocabulary of p_base times a run's change of the logit, float64 [run, position]."""
        hidden = self.hidden.double()
        result = torch.zeros(len(runs), len(hidden), dtype=torch.float64, device=hidden.device)
        direction = torch.zeros_like(hidden)
        for block in self._blocks(side):
            assert block.probability is not None
            if not self.linear:
                for part, change in self._changes(side, block, runs):
                    result[part] += torch.linalg.vecdot(change, block.probability.expand_as(change)).double()
                continue
            direction += (block.probability @ block.weight).double()
            if block.other is not None:
                result += torch.linalg.vecdot(block.other, block.probability).double()
        for row, run in enumerate(runs if self.linear else ()):
            result[row] += ((run.double() - hidden) * direction).sum(-1)
        return result

    def _shannon(self, side: Side, runs: Sequence[Tensor], sums: Sums) -> Tensor:
        """Jensen-Shannon divergence of base and runs, float64 [run, position], in [0, ln 2]."""
        found = torch.zeros_like(sums.excess)
        normaliser = (sums.centre + torch.log1p(sums.excess)).to(self.dtype)
        for block in self._blocks(side):
            assert block.probability is not None
            for part, change in self._changes(side, block, runs):
                weights = shannon_weights(change.sub_(normaliser[part][..., None]))
                found[part] += torch.linalg.vecdot(weights, block.probability.expand_as(weights)).double()
        return found.clamp_(0, math.log(2))

    def _mend(self, side: Side, runs: Sequence[Tensor], sums: Sums, kl: Tensor, js: Tensor) -> None:
        """Rows in which exp overflowed are done again in float64."""
        for run, position in ((~torch.isfinite(kl)) | (sums.steepest > STEEP)).nonzero().tolist():
            expected = self._log_probabilities("base", self.hidden[position])
            own = self._log_probabilities(side, runs[run][position])
            kl[run, position] = (expected.exp() * (expected - own)).sum()
            if self.js:
                js[run, position] = shannon(expected, own)

    def _log_probabilities(self, side: Side, hidden: Tensor) -> Tensor:
        logits = [part.double()[0] for _, part in self.vocabulary.logits(self.heads[side], hidden[None])]
        return torch.log_softmax(torch.cat(logits), -1)
