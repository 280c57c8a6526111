"""The tokenizer's files as transformers 5 reads them together: `tokenizer_settings(files)`.

A special token is its text, whether a file writes it as a string or as an object; where a token list gives its flags,
those count and not the ones beside it. Special tokens of their own file, added tokens of their own file, and what a
tokenizer.json says by the same name are one setting each. Padding and truncation in tokenizer.json are those of the
last batch of whoever saved it: transformers sets them anew for every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG, SPECIAL, ADDED, WHOLE = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
)
FILES = (CONFIG, SPECIAL, ADDED, WHOLE)

MEANINGLESS = frozenset(
    {"__type", "backend", "is_local", "local_files_only", "name_or_path", "tokenizer_file", "special_tokens_map_file"}
    | {"init_inputs", "chat_template", "added_tokens_decoder", "transformers_version", "_name_or_path"}
)
"""Keys of tokenizer_config.json about where it was written, or that are compared by another way."""

ABSENT: dict[str, Any] = {
    "clean_up_tokenization_spaces": False,
    "split_special_tokens": False,
    "padding_side": "right",
    "truncation_side": "right",
}
"""What transformers takes where tokenizer_config.json says nothing."""

FLAGS = ("lstrip", "rstrip", "single_word")
CLASSES = {"PreTrainedTokenizerFast": "TokenizersBackend", "PreTrainedTokenizer": "TokenizersBackend"}
UNLIMITED = 10**20
"""A `model_max_length` above this is none."""


def tokenizer_settings(files: Mapping[str, Mapping[str, Any] | None]) -> dict[str, dict[str, Any]]:
    """The settings in the tokenizer's JSON files, by file, in one form; every setting in one place.

    Args:
        files: each file's object, or None where it is not there; a chat template is compared apart.
    """
    config, special, added, whole = ({} if files.get(name) is None else dict(files[name] or {}) for name in FILES)
    listed = _added_tokens(config, added, whole)
    texts = {str(token.get("content")) for token in listed.values()}
    settings = {key: _token(value, texts) for key, value in config.items() if key not in MEANINGLESS}
    settings = {_key(key): value for key, value in settings.items() if value is not None and ABSENT.get(key) != value}
    _unite_special(settings, special, texts)
    name = settings.get("tokenizer_class")
    if isinstance(name, str):
        settings["tokenizer_class"] = CLASSES.get(name, name.removesuffix("Fast"))
    if type(settings.get("model_max_length")) in (int, float) and settings["model_max_length"] > UNLIMITED:
        del settings["model_max_length"]
    return {CONFIG: settings, ADDED: {text: token for text, token in sorted(listed.items())}, WHOLE: _whole(whole)}


def place_of(file: str, key: str) -> tuple[str, str]:
    """Where a dotted key of one of the files ends up in `tokenizer_settings`."""
    head = key.partition(".")[0]
    if file == SPECIAL:
        return CONFIG, _key(head)
    if file == ADDED or (file, head) in ((CONFIG, "added_tokens_decoder"), (WHOLE, "added_tokens")):
        return ADDED, ""
    return (file, _key(head)) if file == CONFIG else (file, key)


def _key(key: str) -> str:
    return "extra_special_tokens" if key == "additional_special_tokens" else key


def _token(value: Any, texts: set[str]) -> Any:
    """A token as its text, with the flags that are set where no list of tokens gives them; other values as they are."""
    if isinstance(value, list):
        return [_token(item, texts) for item in value] or None
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        return value
    flags = [] if value["content"] in texts else [name for name in FLAGS if value.get(name)]
    return {"content": value["content"], "flags": flags} if flags else value["content"]


def _unite_special(settings: dict[str, Any], special: Mapping[str, Any], texts: set[str]) -> None:
    """Put special_tokens_map.json into the settings; what contradicts them stays visible, under a name of its own."""
    for key, value in special.items():
        token, name = _token(value, texts), _key(key)
        if settings.get(name) is None and token is not None:
            settings[name] = token
        elif token is not None and settings[name] != token:
            settings[name] = {"of the tokenizer": settings[name], "of the special tokens": token}


def _added_tokens(
    config: Mapping[str, Any], added: Mapping[str, Any], whole: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Added tokens by id, from whichever file lists them: tokenizer_config.json, tokenizer.json, added_tokens.json."""
    decoder, tokens = config.get("added_tokens_decoder"), whole.get("added_tokens")
    found: dict[str, dict[str, Any]] = {}
    if isinstance(tokens, list):
        found |= {str(token.get("id")): _flags(token) for token in tokens if isinstance(token, dict)}
    if isinstance(decoder, dict):
        found |= {str(number): _flags(token) for number, token in decoder.items() if isinstance(token, dict)}
    for text, number in added.items():
        if found.get(str(number), {}).get("content") != text:
            found[str(number)] = {"content": text}
    return found


def _flags(token: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: True for name in (*FLAGS, "special") if token.get(name)}
    return {"content": token.get("content"), "normalized": bool(token.get("normalized")), **kept}


def _whole(whole: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer.json without what transformers sets anew, and without what says no more than nothing."""
    kept = {key: value for key, value in whole.items() if key not in ("padding", "truncation", "added_tokens")}
    if isinstance(kept.get("model"), dict):
        kept["model"] = {key: value for key, value in kept["model"].items() if value not in (None, False)}
    return {key: value for key, value in kept.items() if value is not None}
