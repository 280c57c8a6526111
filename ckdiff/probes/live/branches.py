"""Answers behind a prompt as branches of one text: what begins alike is there once, and no branch sees another.

    tree = grow(answers)                             # each beginning of an answer once, with its number
    model(**told([tree, ...], gaps, length, dtype))  # behind prompts that a cache remembers, in line

A mask hides what is no beginning of a token's own answer, and each token is told where it would stand there. That is
exact for attention that looks at the mask and at these places alone: `behind` tries it before it relies on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    Ids = tuple[int, ...]
    Tree = Mapping[Ids, int]


def grow(answers: Iterable[Ids]) -> dict[Ids, int]:
    """Each beginning of some answers with its number; the last token of an answer has nothing behind it.

    >>> grow([(5, 6, 7), (5, 6), (5, 8, 9)])
    {(5,): 0, (5, 6): 1, (5, 8): 2}
    """
    found: dict[Ids, int] = {}
    for answer in answers:
        for end in range(1, len(answer)):
            found.setdefault(answer[:end], len(found))
    return found


def told(trees: Sequence[Tree], gaps: Tensor, length: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """What a model is told of trees behind texts in line.

    Args:
        trees: one a text.
        gaps: before each text [text].
        length: of what is remembered, gaps included.
        dtype: of what is added to the model's products of keys and queries.
    """
    size = max(map(len, trees))
    ids, depths = torch.zeros(2, len(trees), size, dtype=torch.long)
    seen = torch.zeros(len(trees), size, length + size, dtype=torch.bool)
    # Pads see their text, so that what comes of them is a number.
    seen[:, :, :length] = torch.arange(length) >= gaps.cpu()[:, None, None]
    for row, tree in enumerate(trees):
        for begun, number in tree.items():
            ids[row, number], depths[row, number] = begun[-1], len(begun) - 1
            seen[row, number, [length + tree[begun[:end]] for end in range(1, len(begun) + 1)]] = True
    hidden = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
    return {
        "input_ids": ids.to(gaps.device),
        "position_ids": (length - gaps)[:, None] + depths.to(gaps.device),
        "attention_mask": hidden[:, None].to(gaps.device),
    }
