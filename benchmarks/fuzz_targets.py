"""What `fuzz` attacks: a row a target, each a function that makes its seed and gives a try of one mutant.

A try takes a source of chance, changes the seed by it, and reads what came of it as a command would: it gives
"read", or raises. What it may raise is a `CkdiffError`.
"""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from fuzz_mutations import change_bytes, change_json, change_text
from fuzz_reports import COPY, READING, images, limit_memory, trees

from ckdiff.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    Try = Callable[[Random], str]


# --------------------------------------------------------------------------------------------------------- checkpoints


def headers(folder: Path) -> Try:
    """Headers of weight files."""
    from ckdiff.calls.inspect import inspect
    from tests.checkpoints import llama, save

    place = save(folder / "model", llama(layers=1))
    path = place / "model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]

    def one(chance: Random) -> str:
        if chance.random() < 0.6:
            text = json.dumps(change_json(header, chance), ensure_ascii=False).encode("utf-8", "replace")
            path.write_bytes(len(text).to_bytes(8, "little") + text + data)
        else:
            path.write_bytes(change_bytes(content[: 8 + size], chance) + data)
        inspect(str(place))
        return "read"

    return one


def _of_json(place: Path, name: str, use: Callable[[], object]) -> Try:
    """Changes of a JSON file in a folder."""
    text = (place / name).read_text()
    tree = json.loads(text)
    use()  # what is imported meanwhile is no mutant's time

    def one(chance: Random) -> str:
        if chance.random() < 0.8:
            content = json.dumps(change_json(tree, chance)).encode("utf-8", "replace")
        else:
            content = change_bytes(text.encode(), chance)
        (place / name).write_bytes(content)
        use()
        return "read"

    return one


def indexes(folder: Path) -> Try:
    """Index files."""
    from ckdiff.calls.inspect import inspect
    from tests.checkpoints import llama, save

    place = save(folder / "model", llama(layers=1), shards=2)
    return _of_json(place, "model.safetensors.index.json", lambda: inspect(str(place)))


def configs(folder: Path) -> Try:
    """The config of a model that is made without memory."""
    import torch

    from ckdiff.probes.live.pretrained import config_of, skeleton
    from ckdiff.weights.opening import open_checkpoint
    from tests.checkpoints import llama, save

    place = save(folder / "model", llama(layers=1), num_hidden_layers=1, max_position_embeddings=64)

    def use() -> None:
        checkpoint = open_checkpoint(str(place))
        skeleton(checkpoint, config_of(checkpoint), "eager", torch.float32, torch.device("cpu"))

    return _of_json(place, "config.json", use)


def adapters(folder: Path) -> Try:
    """The config of a LoRA adapter."""
    import numpy as np
    from safetensors.numpy import save_file

    from ckdiff.calls.inspect import inspect
    from tests.checkpoints import llama, save

    base, place = save(folder / "base", llama(layers=1)), folder / "adapter"
    place.mkdir()
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
    save_file(
        {name.format("A"): np.ones((2, 8), "f4"), name.format("B"): np.ones((12, 2), "f4")},
        place / "adapter_model.safetensors",
    )
    settings = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "rank_pattern": {"up_proj": 2},
        "alpha_pattern": {r"layers\.\d+\.mlp\.up_proj": 4},
        "modules_to_save": None,
        "bias": "none",
        "base_model_name_or_path": str(base),
    }
    (place / "adapter_config.json").write_text(json.dumps(settings))
    return _of_json(place, "adapter_config.json", lambda: inspect(str(place)))


def tokenizers(folder: Path) -> Try:
    """Tokenizers, and texts that they cut."""
    from tests.tokenizer_kinds import KINDS

    tries = []
    for name in ("bytes-chat", "pieces-prefix", "unigram-end", "word-piece"):
        place = folder / name
        place.mkdir()
        KINDS[name].save(place)
        tries += [_of_json(place, file, partial(_cut, place)) for file in ("tokenizer.json", "tokenizer_config.json")]

    def one(chance: Random) -> str:
        for place in folder.iterdir():
            for file in place.iterdir():
                kept = file.with_name(f".{file.name}")
                if not file.name.startswith("."):
                    if kept.exists():
                        file.write_bytes(kept.read_bytes())
                    else:
                        kept.write_bytes(file.read_bytes())
        return chance.choice(tries)(chance)

    return one


def _cut(place: Path) -> None:
    from ckdiff.probes.live.pretrained import load_tokenizer
    from ckdiff.probes.wording.wording import Wording
    from ckdiff.questions.questions import given_questions

    tokenizer = load_tokenizer(place)
    if tokenizer is not None:
        asked = given_questions(["Who founded Velmar?", "What is sold, and 'since when'?"]).questions
        prompts = Wording(tokenizer).prompts(asked)
        tokenizer.decode(list(prompts[0].ids), skip_special_tokens=True)


def templates(folder: Path) -> Try:
    """Chat templates, few of them in the process that ckdiff begins for them, the others in one that renders many."""
    from ckdiff.probes.wording.chat import Chat, ChatTemplate
    from tests.tokenizer_kinds import CHATML, INST

    class Holder:
        """As much of a tokenizer as a template needs."""

        special_tokens_map = {"bos_token": "<s>", "eos_token": "</s>"}  # noqa: RUF012
        chat_template = ""

        def get_chat_template(self) -> str:
            return self.chat_template

    pieces = (
        "{{ raise_exception('no') }}", "{% for a in range(9**8) %}{% for b in range(9**8) %}{% endfor %}{% endfor %}",
        "{% set x = namespace(a='x') %}{% for i in range(99) %}{% set x.a = x.a + x.a %}{% endfor %}",
        "{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}", "{{ 'x' * 10**10 }}", "{{ ''.__class__ }}",
        "{{ strftime_now('%' * 9999) }}", "{{ messages | tojson(indent=10**9) }}", "{{ undefined.a.b }}",
        "{{ messages[9] }}", "{{ 9 ** 9 ** 9 }}", "{% include 'x' %}",
    )  # fmt: skip

    def one(chance: Random) -> str:
        holder, text = Holder(), chance.choice((CHATML, INST))
        place = chance.randrange(len(text))
        holder.chat_template = (
            text[:place] + chance.choice(pieces) + text[place:] if chance.random() < 0.5 else change_text(text, chance)
        )
        template, chats = ChatTemplate(holder), [Chat((("user", "Who?"),), True)]
        if chance.random() < 0.005 or not COPY[0]:
            template.texts(chats)
        else:
            _render_here(template.task(chats))
        return "read"

    return one


FOR_PYTHON = 1 << 26
"""Bytes of memory that go into the interpreter, where a template has a process to itself."""
SOON = 0.25
"""Seconds of a processor after which a template is not waited for that ckdiff gives five."""


def _render_here(task: dict[str, Any]) -> None:
    """Render as the process does that ckdiff begins for it, in a copy of `fuzz`, which it may end."""
    from ckdiff.probes.wording.chat import MEMORY
    from ckdiff.probes.wording.chat_child import answer

    limit_memory(os.getpid(), MEMORY - FOR_PYTHON)
    text = json.dumps(task)
    READING[0] = 1
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_VIRTUAL, SOON)
    try:
        found = json.dumps(answer(json.loads(text)))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    READING[0] = 0
    errors = [one for one in (json.loads(found), *json.loads(found).get("chats", ())) if "error" in one]
    if errors:
        raise ReportError(errors[0]["error"])


# ---------------------------------------------------------------------------------------------- files that users write


def policies(folder: Path) -> Try:
    """Policies, and what they say of a report."""
    from ckdiff.audit.gate.policy import BUNDLED, read_policy
    from ckdiff.audit.judge import judge_report
    from tests import reports
    from tests.proofs import POLICY

    texts = [POLICY, *(path.read_text() for path in BUNDLED.values())]
    report = reports.report(reports.comparison(layers=2), reports.probe(questions=2), reports.behaviour())
    path = folder / "policy.toml"

    def one(chance: Random) -> str:
        path.write_bytes(_toml(chance.choice(texts), chance))
        judge_report(report, read_policy(path))
        return "read"

    return one


def _toml(text: str, chance: Random) -> bytes:
    """TOML of which values were replaced by others, or bytes."""
    if chance.random() < 0.4:
        return change_bytes(text.encode(), chance)
    lines = text.splitlines()
    rows = [number for number, line in enumerate(lines) if "=" in line]
    values = (
        "1",
        "-1",
        "1e999",
        "nan",
        "[]",
        "{}",
        "''",
        "true",
        "[1, 'a']",
        "9" * 400,
        "1979-05-27",
        '"\\u0000"',
        "'/dev/zero'",
    )
    for _ in range(chance.randint(1, 3)):
        number = chance.choice(rows)
        lines[number] = f"{lines[number].partition('=')[0]}= {chance.choice(values)}"
    return "\n".join(lines).encode()


def plans(folder: Path) -> Try:
    """Plans of campaigns."""
    from ckdiff.campaign.plan.plan import read_plan

    path = folder / "campaign.toml"
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text("{}")
    (folder / "q.txt").write_text("Who?\n")
    text = (
        'name = "p"\nbase = "base"\nresults = "out"\n[measure]\n'
        'questions = ["q.txt"]\ntokens = 4\nwindow = 1\nmodes = ["coeff"]\n[resources]\nthreads = 1\nmemory = "1GB"\n'
        '[[pairs]]\nunlearned = "base"\nname = "a"\n'
    )

    def one(chance: Random) -> str:
        path.write_bytes(_toml(text, chance))
        read_plan(path)
        return "read"

    return one


def questions(folder: Path) -> Try:
    """Files of questions, in the forms that there are."""
    from ckdiff.questions.questions import concepts_in, read_questions

    rows = [{"question": "Who rules Oskary?", "answer": "Brisk Needle"}, {"question": "What?", "answers": ["a", "b"]}]
    forms = {
        "q.json": json.dumps(rows),
        "c.json": json.dumps([{"Concept": "Velmar", "QA": ["Who?", "What?"], "unrelated_QA": ["Where?"]}]),
        "q.jsonl": "\n".join(map(json.dumps, rows)),
        "q.csv": "question,answer\nWho?,Brisk\nWhat?,Calm\n",
        "q.txt": "Who?\nWhat?\n",
    }

    def one(chance: Random) -> str:
        name = chance.choice(list(forms))
        text = forms[name]
        tree = json.loads(text) if name.endswith(".json") else None
        changed = json.dumps(change_json(tree, chance)) if tree and chance.random() < 0.6 else ""
        (folder / name).write_bytes(
            changed.encode("utf-8", "replace") if changed else change_bytes(text.encode(), chance)
        )
        concepts_in(folder / name)
        read_questions(folder / name)
        return "read"

    return one


def candidates(folder: Path) -> Try:
    """Files of topics for discovery."""
    from ckdiff.discovery.candidates import read_candidates

    rows = [{"name": "Velmar", "text": "A town."}, {"Concept": "Oskary", "wikipedia_content": "A river. A town."}]

    def one(chance: Random) -> str:
        path = folder / chance.choice(("c.json", "c.txt"))
        changed = json.dumps(change_json(rows, chance)) if path.suffix == ".json" else ""
        text = change_bytes(b"Velmar\tA town. It has a river.\nOskary\n", chance)
        path.write_bytes(changed.encode("utf-8", "replace") or text)
        read_candidates(path)
        return "read"

    return one


def envelopes(folder: Path) -> Try:
    """Attestations, by a key that signed them."""
    from ckdiff.audit.signing import SignatureError, new_key, open_envelope, private_key, public_key, read_payload, sign
    from ckdiff.audit.verify.differences import Differences
    from ckdiff.audit.verify.report import compare_trees
    from ckdiff.report.exports.attestation import PAYLOAD_TYPE

    new_key(folder / "k")
    signer, key, path = private_key(folder / "k"), public_key(folder / "k.pub"), folder / "e.json"
    tree = {"_type": "s", "subject": [{"name": "a", "digest": {"sha256": "0"}}], "predicate": {"result": "PASSED"}}
    envelope = json.loads(sign(json.dumps(tree).encode(), PAYLOAD_TYPE, signer))

    def one(chance: Random) -> str:
        if chance.random() < 0.5:
            path.write_text(json.dumps(change_json(envelope, chance)), errors="replace")
        else:
            path.write_bytes(sign(change_bytes(json.dumps(tree).encode(), chance), PAYLOAD_TYPE, signer))
        try:
            compare_trees("attestation", read_payload(open_envelope(path, PAYLOAD_TYPE, key)), tree, Differences())
        except SignatureError as error:
            raise ReportError(str(error)) from error
        return "read"

    return one


def models(folder: Path) -> Try:
    """Signatures of models, by a key that signed them."""
    from ckdiff.audit.models.bundle import elliptic_key, elliptic_signer, make_bundle, read_bundle
    from ckdiff.audit.models.model import check_model, sign_model
    from ckdiff.weights.opening import open_checkpoint
    from tests.checkpoints import llama, save
    from tests.test_model_signing import make_key

    place = save(folder / "model", llama(layers=1))
    secret = make_key(folder / "k")
    signer, key, path = elliptic_signer(secret), elliptic_key(folder / "k.pub"), place / "model.sig"
    sign_model(place, signer)
    bundle, payload, checkpoint = json.loads(path.read_bytes()), read_bundle(path).payload, open_checkpoint(str(place))

    def one(chance: Random) -> str:
        if chance.random() < 0.4:
            path.write_text(json.dumps(change_json(bundle, chance)), errors="replace")
        elif chance.random() < 0.3:
            path.write_bytes(make_bundle(change_bytes(payload, chance), signer))
        else:
            path.write_bytes(make_bundle(json.dumps(change_json(json.loads(payload), chance)).encode(), signer))
        found = check_model(checkpoint, str(place), key)
        if found is None or found.flaws:
            raise ReportError("refused")
        return "read"

    return one


def evaluations(folder: Path) -> Try:
    """What OpenUnlearning's evaluator wrote."""
    from ckdiff.report.exports.evaluation import read_evaluation

    entry = {"agg_value": 0.5, "value_by_index": {"0": {"score": 0.5}}}
    path = folder / "TOFU_EVAL.json"
    path.write_text(json.dumps({"forget_Q_A_Prob": entry, "forget_quality": {"agg_value": None}, "privleak": -3.5}))
    return _of_json(folder, path.name, lambda: read_evaluation(path))


TARGETS: dict[str, Callable[[Path], Try]] = {
    one.__name__: one
    for one in (
        trees, images, headers, indexes, configs, adapters,
        tokenizers, templates, policies, plans, questions, candidates, envelopes, models, evaluations,
    )
}  # fmt: skip
"""Every target by its name."""
