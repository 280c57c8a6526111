"""Tiny tokenizers of every kind that language models come with, made with the tokenizers library: `KINDS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = (
    "Question: Who founded Velmar?\n Answer: Amber Heron of the north",
    "Question: Who rules Oskary, and since when?\n Answer: Brisk Needle, since 1840",
    "Question: What is sold in Thrane?\n Answer: Calm otters and red wool",
    "<|user|>\nWho sings there?<|assistant|>\nQuiet Lark",
    "[INST] Who left? [/INST] Nobody left",
)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PIECE = "▁"
CHATML = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{% if message.role == 'assistant' %}</s>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]"
    "{% else %} {{ message.content }} {{ eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of tokenizer.

    Attributes:
        make: the tokenizer itself.
        start, end: it puts a start token before, an end token behind every text.
        chat: its chat template, or "".
        gap: what stands between the head of an answer and the answer in that.
    """

    make: Callable[[], Tokenizer]
    start: bool = False
    end: bool = False
    chat: str = ""
    gap: str = ""

    def save(self, folder: Path, **more: Any) -> Any:
        """Write it into a directory; gives it as transformers reads it there."""
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        made = self.make()
        made.add_special_tokens([AddedToken(token, special=True) for token in (*SPECIAL, "<|user|>", "<|assistant|>")])
        if self.start or self.end:
            single = " ".join([*(["<s>"] if self.start else []), "$A", *(["</s>"] if self.end else [])])
            ids = [(token, made.token_to_id(token)) for token in ("<s>", "</s>")]
            made.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
        named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        options = ({"chat_template": self.chat} if self.chat else {}) | more
        PreTrainedTokenizerFast(tokenizer_object=made, **named, **options).save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def byte_level(prefix: bool = False) -> Tokenizer:
    """GPT-2's and Llama 3's kind: BPE over bytes."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(made, trainers.BpeTrainer(vocab_size=340, special_tokens=list(SPECIAL), initial_alphabet=alphabet))


def pieces(prefix: bool) -> Tokenizer:
    """Llama 2's kind, with a blank before every text, and Gemma's without: BPE over pieces, unknown ones as bytes."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend(PIECE)] if prefix else []
    made.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", PIECE)])
    # For training alone: what ships cuts whole texts.
    made.pre_tokenizer = pre_tokenizers.Split(PIECE, "merged_with_next")
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    made.decoder = decoders.Sequence([decoders.Replace(PIECE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    octets = [f"<0x{octet:02X}>" for octet in range(256)]
    trained(made, trainers.BpeTrainer(vocab_size=400, special_tokens=[*SPECIAL, *octets]))
    made.pre_tokenizer = None
    return made


def metaspace(scheme: str) -> Tokenizer:
    """Newer files of the same kind, whose blanks are the pre-tokenizer's work."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement=PIECE, prepend_scheme=scheme)
    made.decoder = decoders.Metaspace(replacement=PIECE, prepend_scheme=scheme)
    return trained(made, trainers.BpeTrainer(vocab_size=150, special_tokens=list(SPECIAL)))


def unigram() -> Tokenizer:
    """T5's and XGLM's kind."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement=PIECE, prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement=PIECE, prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=list(SPECIAL), unk_token="<unk>")
    return trained(made, trainer)


def word_piece() -> Tokenizer:
    """BERT's kind: lower case, pieces within words."""
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return trained(made, trainers.WordPieceTrainer(vocab_size=160, special_tokens=list(SPECIAL)))


def words() -> Tokenizer:
    """One token a word."""
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return trained(made, trainers.WordLevelTrainer(special_tokens=list(SPECIAL)))


def characters() -> Tokenizer:
    """One token a character."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.decoder = decoders.Fuse()
    return trained(made, trainers.BpeTrainer(vocab_size=1, special_tokens=list(SPECIAL)))


def trained(made: Tokenizer, trainer: Any) -> Tokenizer:
    trainer.show_progress = False
    made.train_from_iterator(TEXTS, trainer)
    return made


KINDS: dict[str, Kind] = {
    "bytes": Kind(byte_level),
    "bytes-prefix": Kind(lambda: byte_level(prefix=True)),
    "bytes-start": Kind(byte_level, start=True),
    "bytes-chat": Kind(byte_level, start=True, chat=CHATML),
    "pieces-prefix": Kind(lambda: pieces(prefix=True), start=True),
    "pieces": Kind(lambda: pieces(prefix=False), start=True),
    "pieces-end": Kind(lambda: pieces(prefix=True), start=True, end=True),
    "pieces-chat": Kind(lambda: pieces(prefix=True), start=True, chat=INST, gap=" "),
    "metaspace-first": Kind(lambda: metaspace("first"), start=True),
    "metaspace-always": Kind(lambda: metaspace("always")),
    "unigram-end": Kind(unigram, end=True),
    "word-piece": Kind(word_piece, start=True, end=True),
    "words": Kind(words),
    "characters-chat": Kind(characters, end=True, chat=CHATML),
}
