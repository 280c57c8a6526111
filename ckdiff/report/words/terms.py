"""The words that a reader may not know, each explained in one line: the glossary's own lines."""

from __future__ import annotations

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
}
"""By the heading under which it stands in a table: its meaning."""


def term(name: str) -> str:
    """The meaning of a word, or nothing where every reader knows it.

    >>> term("top1"), term("question")
    ("share of the scored positions at which the base's own token comes first", '')
    """
    return TERMS.get(name, "")
