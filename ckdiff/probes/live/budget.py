"""Calls into a tokenizer's regular expressions have a budget of time: `Budget(what).run(call, size)`.

The library that matches them gives up on one place of a text within a second, and tries the next one: a pattern that
somebody chose takes hours over a page. It cannot be stopped, but it lets other threads go on; so it works in one, and
who waits for it waits no longer than the text is worth. The thread ends with the process.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable


SECONDS, CHARACTERS = 10.0, 10_000
"""What all texts together may take, and of how many characters each second more; real tokenizers need a hundredth."""


@dataclass(slots=True)
class Budget:
    """The time of one tokenizer.

    Attributes:
        what: how a message begins.
        left: seconds that are left of it.
    """

    what: str
    left: float = field(default_factory=lambda: SECONDS)

    def run(self, call: Callable[[], Any], size: int) -> Any:
        """What a call gives, or raises, over texts of so many characters.

        Raises:
            CheckpointError: its time is over.
        """
        found: list[Any] = []
        raised: list[BaseException] = []

        def work() -> None:
            try:
                found.append(call())
            except BaseException as error:
                raised.append(error)

        self.left += size / CHARACTERS
        began = time.monotonic()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(max(0.0, self.left))
        self.left -= time.monotonic() - began
        if raised:
            raise raised[0]
        if not found:
            raise CheckpointError(f"{self.what}: a pattern of it takes too long on a text of {size} characters")
        return found[0]


def length_of(texts: Any) -> int:
    """Characters of a text, or of all texts of a list."""
    if isinstance(texts, str):
        return len(texts)
    return sum(map(length_of, texts)) if isinstance(texts, list | tuple) else 0
