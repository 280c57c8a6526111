from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.tiny_pairs import Folders


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Folders]:
    """By name of a tiny family: two checkpoints, made when first asked for."""
    from tests.tiny_pairs import save_pair

    made: dict[str, Folders] = {}

    def make(name: str) -> Folders:
        if name not in made:
            made[name] = save_pair(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Matrices of a few dozen rows are not worth a second thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
