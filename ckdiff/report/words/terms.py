"""The words that a reader may not know, each explained in one line: the glossary's own lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TERMS = {
    "krs": "Knowledge Recovery Score: the share of a loss that a restoration takes away; 1 is all of it",
    "krs_kl": "the same of KL(base ‖ run): what changes behaviour",
    "krs_centred": "the same of the logits without the shift that all tokens share",
    "krs_js": "the same of a loss that has a bound, the Jensen-Shannon divergence",
    "KL": "how far two distributions over the next token lie apart, in nats; 0: they are the same",
    "top1": "share of the scored positions at which the base's own token comes first",
    "band": "an interval that holds for all windows at once, since the best of many is a selected one",
    "1-cos": "how far the direction of weights has turned; 0: not at all",
    "relative L2": "length of the change over length of the base",
    "changed": "share of the elements that are not the same",
    "BLEU": "how many words and word sequences of the base's answer the other one shares; 1: word for word the same",
    "target BLEU": "BLEU of the answers about what was to be unlearned; 1: nothing changed",
    "unrelated BLEU": "BLEU of the answers about other things; 1: nothing changed",
    "put back": "what of the base was put into the unlearned model",
    "component": "a kind of tensors: embedding, unembedding, norms, value vectors, keys, attention",
    "layers": "the window: the layers that are put back together",
    "direction": "restore: the base's into the unlearned model; break: the reverse",
    "variant": "what happens to the rest meanwhile: open, isolated, direct, whole",
    "explained": "krs_kl of what carries the effect",
    "carried by": "the part of the model whose restoration brings the answers back",
    "verdict": "where the effect of unlearning lives, by restoration",
    "gate": "the check of a report against a policy: what a release asks for",
    "z": "how far true pairs of question and answer lie above random ones, in standard deviations",
    "p": "how often chance alone would reach as much",
    "level": "mean log p a token of the answers, in nats",
    "recovery": "share of the gap between base and unlearned model that an attack closes",
    "depth": "0: the unlearned model still carries all that the reference lacks; 1: it is as ignorant",
    "lens": "the same of log p read off each layer",
    "threshold": "the documented number that the value is held against",
    "tier": "how far attacks go: 0 asks otherwise, 1 rounds or cuts weights, 2 trains or alters them"
    " on purpose, 3 borrows from the base",
    "forms": "an attack: the questions in other clothes, such as a role, examples before them, lower case",
    "samples": "an attack: answers drawn at random, many a question",
    "quantise": "an attack: weights rounded to fewer bits, as for deployment",
    "prune": "an attack: the smallest weights of each matrix set to zero",
    "blend": "an attack: weights between the unlearned model's and the base's; never counts",
    "relearn": "an attack: a few steps of training, measured on what was held out of it",
    "ablate": "an attack: one direction taken out of every layer's states",
    "NF4": "a format of 4 bits a weight, in blocks with a scale each",
    "int8": "8 bits a weight, evenly spaced",
    "int4": "4 bits a weight, evenly spaced",
    "GGUF": "the file format of llama.cpp; its Q4_0 and Q8_0 have 4 and 8 bits a weight",
}
"""By the heading under which it stands in a table: its meaning."""

ATTACKS = "forms|samples|quantise|prune|blend|relearn|ablate"
IN_TEXT = re.compile(
    rf"(?:(?<=\()|(?<=[:,] ))(?:{ATTACKS})(?=[:,)])|\b(?:NF4|int[48]|GGUF)\b|\bz(?= -?\d)|\btier(?= \d)"
)
"""Where such a word stands in a sentence, and is no word of plain English."""


def apart(text: str) -> Iterator[tuple[str, str]]:
    """A sentence in pieces, each with its meaning where it is a word that is explained, else with "".

    >>> [piece for piece, meaning in apart("tier 1 (quantise: NF4, z 3.7; tier 2: ablate, relearn) forms") if meaning]
    ['tier', 'quantise', 'NF4', 'z', 'tier', 'ablate', 'relearn']
    """
    end = 0
    for found in IN_TEXT.finditer(text):
        yield text[end : found.start()], ""
        yield found[0], TERMS[found[0]]
        end = found.end()
    yield text[end:], ""


def first_apart(text: str) -> tuple[str, str, str]:
    """The first word of a cell, its meaning, and the rest of the cell.

    >>> first_apart("NF4 in blocks of 64")[::2], first_apart("16 samples")
    (('NF4', ' in blocks of 64'), ('16', '', ' samples'))
    """
    word, blank, rest = text.partition(" ")
    return word, term(word), f"{blank}{rest}"


def term(name: str) -> str:
    """The meaning of a word, or nothing where every reader knows it.

    >>> term("top1"), term("question")
    ("share of the scored positions at which the base's own token comes first", '')
    """
    return TERMS.get(name, "")
