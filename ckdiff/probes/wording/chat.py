"""Chats become texts by a tokenizer's own template: `ChatTemplate(tokenizer).texts(chats)`.

The template is a program from the checkpoint, and is run in another process (`chat_child`): whatever it does there, it
ends in a text or in one line, within a limited time. Its clock stands still, so that numbers are the same tomorrow.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckdiff.probes.prompts import PromptError
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATE = "2024-07-26"
"""What a template that asks gets for today: the date that Llama 3's own template falls back on."""
SECONDS = 5
"""Of a processor for a template that is asked once; more for many chats."""
CHATS = 500
"""Chats that get a second more."""
PATIENCE = 60
"""Seconds by the clock, on a machine that is busy or knows no limits."""
MEMORY = 1 << 30
CHILD = Path(__file__).with_name("chat_child.py")


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, turn by turn, each of a role and its content; then, or not, the head of the next answer."""

    turns: tuple[tuple[str, str], ...]
    answering: bool


class ChatTemplate:
    """The chat template of a tokenizer.

    Attributes:
        dated: it has asked for the date.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Find it.

        Raises:
            PromptError: the tokenizer has none, or several and none of them is the usual one.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise PromptError("--chat-template: the tokenizer of the base has none; leave it out")
        try:
            self._template = str(tokenizer.get_chat_template())
        except Exception as error:
            raise _refusal(f"cannot be chosen ({' '.join(str(error).split())})") from error
        names: Mapping[str, Any] = tokenizer.special_tokens_map
        self._variables = {name: str(token) for name, token in names.items() if not isinstance(token, list)}
        self.dated = False

    def texts(self, chats: Sequence[Chat], strict: bool = True) -> list[str | None]:
        """Each chat as text; where that is not `strict`, None for one that the template refuses.

        Raises:
            PromptError: the template is broken, takes too much, or refuses a chat.
        """
        found = self._render(chats)
        if "error" in found:
            raise _refusal(f"is broken ({found['error']})")
        self.dated = self.dated or found["dated"]
        errors = [one["error"] for one in found["chats"] if "error" in one]
        if strict and errors:
            raise _refusal(f"refuses a question ({errors[0]})")
        return [one.get("text") for one in found["chats"]]

    def _render(self, chats: Sequence[Chat]) -> dict[str, Any]:
        return ask_child(self.task(chats))

    def task(self, chats: Sequence[Chat]) -> dict[str, Any]:
        """The work of the other process, as it gets it."""
        return {
            "template": self._template,
            "variables": self._variables,
            "now": f"{DATE}T12:00:00",
            "seconds": SECONDS + len(chats) // CHATS,
            "memory": MEMORY,
            "chats": [
                {
                    "messages": [{"role": role, "content": content} for role, content in chat.turns],
                    "generation": chat.answering,
                }
                for chat in chats
            ],
        }


def ask_child(task: dict[str, Any]) -> dict[str, Any]:
    """The answer of another process to a task.

    Raises:
        PromptError: it ended without one, or was ended.
    """
    # Not from the current directory, nor from that of the script, whose names are not meant for the top level.
    command, seconds = [sys.executable, "-P", str(CHILD)], task["seconds"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(task).encode(),
            capture_output=True,
            timeout=PATIENCE + seconds,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _refusal(f"does not end within {error.timeout:.0f} seconds") from error
    if done.returncode in _TIMED_OUT:
        raise _refusal(f"does not end within {seconds} seconds")
    if done.returncode:
        raise _refusal(f"ends the process that renders it (status {done.returncode})")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


_TIMED_OUT = {-getattr(signal, name) for name in ("SIGXCPU", "SIGKILL") if hasattr(signal, name)}


def _refusal(what: str) -> PromptError:
    shown = shorten(printable(what), 200)
    return PromptError(f"--chat-template: the template of the base {shown}; mend it, or use --prompt-template")
