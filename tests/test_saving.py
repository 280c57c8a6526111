"""What is written is the base's files byte for byte, with new values in the places of its tensors."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ckdiff.errors import CkdiffError
from ckdiff.probes.live.model import LiveModel
from ckdiff.unlearn.inputs import Inputs
from ckdiff.unlearn.measuring import as_saved, coarse
from ckdiff.unlearn.recipe import Recipe
from ckdiff.unlearn.saving import check_output, finish, round_to_saved, write, write_record
from ckdiff.unlearn.session import digest
from ckdiff.unlearn.unlearn import make
from ckdiff.weights.opening import open_checkpoint
from tests.checkpoints import llama, save
from tests.test_adapters import llama as peft_llama
from tests.test_adapters import make_pair
from tests.tiny_families import ALL
from tests.tiny_pairs import CPU

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.shapes import AnyArray
    from ckdiff.weights.checkpoint import Checkpoint
    from tests.tiny_pairs import Folders

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16}
NEEDLE = Recipe(method="needle")


def words(values: torch.Tensor) -> AnyArray:
    """The stored bits of 16-bit values."""
    return values.contiguous().view(torch.int16).numpy().view("<u2")


def bits(pattern: list[int]) -> AnyArray:
    return np.array(pattern, dtype=np.uint32).view(np.float32)


def assert_rounded_as_torch(values: AnyArray, dtype: str) -> None:
    found = round_to_saved(values, dtype).view("<u2")
    expected = torch.from_numpy(values).to(DTYPES[dtype])
    same = (found == words(expected)) | np.isnan(expected.float().numpy())
    assert same.all(), f"{values[~same][:4]} {found[~same][:4]}"
    # A NaN stays one, whatever its bits: CUDA makes 0x7fffffff.
    again = torch.from_numpy(found.view(np.int16)).view(DTYPES[dtype])
    lost = np.isnan(values) & ~np.isnan(again.float().numpy())
    quiet = lost & ((values.view(np.uint32) & 0x400000) != 0)
    assert not quiet.any(), [hex(word) for word in values.view(np.uint32)[quiet][:4]]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40), st.sampled_from(sorted(DTYPES)))
@example([0x00000001, 0x80000001, 0x007FFFFF, 0x33000000, 0x33000001, 0x3F808000, 0x3F818000], "BF16")
@example([0x7F7FFFFF, 0xFF7FFFFF, 0x7F7F7FFF, 0x7F800000, 0xFF800000, 0x477FEFFF, 0x477FF000], "F16")
def test_rounding_is_torchs_own(pattern: list[int], dtype: str) -> None:
    with np.errstate(invalid="ignore"):
        assert_rounded_as_torch(bits(pattern), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_and_every_tie_is_rounded_as_torch_does(dtype: str) -> None:
    """All 16-bit values, what lies in the middle between two of them, and the next floats beside it."""
    upper = np.arange(1 << 16, dtype=np.uint16)
    grid = torch.from_numpy(upper.view(np.int16)).view(DTYPES[dtype]).float().numpy()
    grid = np.sort(grid[np.isfinite(grid)])
    middle = ((grid[1:].astype(np.float64) + grid[:-1]) / 2).astype(np.float32)
    beside = (np.nextafter(middle, np.float32(side)) for side in (np.inf, -np.inf))
    for values in (grid, middle, *beside):
        assert_rounded_as_torch(values, dtype)


@pytest.mark.parametrize("word", [0x7FFFFFFF, 0xFFFFFFFF, 0x7FFF8000, 0x7FC00000, 0xFFC00000])
def test_every_nan_stays_one(word: int) -> None:
    assert_rounded_as_torch(bits([word]), "BF16")


def test_wider_words_are_kept() -> None:
    values = np.array([1.1, -0.0, 5e-324, 1e300])
    assert round_to_saved(values, "F64").tobytes() == values.tobytes()
    assert round_to_saved(values[:2], "F32").tobytes() == np.array([1.1, -0.0], np.float32).tobytes()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def values_of(checkpoint: Checkpoint, sign: float = 1.0) -> Iterator[tuple[str, AnyArray]]:
    live = LiveModel(checkpoint, torch.float32, CPU)
    live.load()
    for name, value in live.stored_values():
        yield name, value.numpy() * np.float32(sign)


def assert_same_and_negated(base: Path, place: Path) -> None:
    """Unchanged values give the same bytes; negated ones negate each stored tensor, and nothing else."""
    checkpoint = open_checkpoint(str(base))
    write(checkpoint, place / "same", values_of(checkpoint))
    shards = {shard.name for shard in checkpoint.shards}
    assert shards
    before, after = tree(base), tree(place / "same")
    assert all(after[name] == before[name] for name in after)
    assert {name for name in before if name.endswith((".json", ".safetensors"))} <= set(after)
    assert digest(open_checkpoint(str(place / "same"))) == digest(checkpoint)
    named = [name for name, _ in values_of(checkpoint)]
    assert len(named) == len(set(named))
    write(checkpoint, place / "negated", values_of(checkpoint, -1.0))
    for shard in shards:
        old, new = load_file(base / shard), load_file(place / "negated" / shard)
        assert set(old) == set(new)
        for name, value in old.items():
            assert new[name].dtype == value.dtype
            assert torch.equal(new[name], -value if name in named else value)
    # All of the model is there: nothing that is trained is left out.
    everything = {name for shard in shards for name in load_file(base / shard)}
    assert everything == set(named)


@pytest.mark.parametrize("name", ALL)
def test_unchanged_values_give_the_same_bytes(name: str, pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    assert_same_and_negated(pairs(name).base, tmp_path)


@pytest.mark.parametrize(
    ("name", "dtype"), [("mixtral", torch.bfloat16), ("gpt2", torch.float16), ("qwen2-tied", torch.bfloat16)]
)
def test_sixteen_bit_shards(name: str, dtype: torch.dtype, pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(pairs(name).base, dtype=dtype)
    model.save_pretrained(tmp_path / "base", max_shard_size="20KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 2
    assert_same_and_negated(tmp_path / "base", tmp_path)


@pytest.mark.parametrize("stored", [torch.float64, torch.bfloat16])
def test_a_tied_matrix_that_is_stored_twice(
    stored: torch.dtype, pairs: Callable[[str], Folders], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(pairs("qwen2-tied").base, base)
    tensors = {name: value.to(stored) for name, value in load_file(base / "model.safetensors").items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, base / "model.safetensors")
    assert_same_and_negated(base, tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(tmp_path / "base", llama(), shards=2)


def test_what_is_copied(base: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer.model", "merges.txt", "chat_template.jinja", "generation_config.json"):
        (base / name).write_text(name)
    for name in ("unlearning.json", "pytorch_model.bin", "README.md", "stray.safetensors"):
        (base / name).write_text("{}")
    (base / "more.json").mkdir()
    write(open_checkpoint(str(base)), tmp_path / "made", [])
    left_out = {"unlearning.json", "pytorch_model.bin", "README.md", "stray.safetensors"}
    assert tree(tmp_path / "made") == {name: data for name, data in tree(base).items() if name not in left_out}


def test_links_of_the_hubs_cache(base: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--org--name"
    snapshot = repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for name, data in tree(base).items():
        (repo / "blobs" / f"blob-{name}").write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/blob-{name}")
    made = make(open_checkpoint(str(snapshot)), Inputs(), NEEDLE, tmp_path / "made")
    assert set(tree(made.output)) == {*tree(base), "unlearning.json"}
    assert not any(path.is_symlink() for path in made.output.iterdir())
    # The cache itself is left as it was.
    assert tree(snapshot) == tree(base)


def refused(call: Callable[[], Any]) -> str:
    """The one line that it is refused with."""
    with pytest.raises(CkdiffError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("word", [0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800000, 0xFF800000])
def test_values_that_are_no_numbers(dtype: str, word: int, tmp_path: Path) -> None:
    kinds = {"F32": torch.float32} | DTYPES
    tensors = {name: torch.from_numpy(value).to(kinds[dtype]) for name, value in llama().items()}
    base = save(tmp_path / "base", llama())
    save_file(tensors, base / "model.safetensors")
    values = np.zeros(8, np.float32)
    values[3:4] = bits([word])
    message = refused(lambda: write(open_checkpoint(str(base)), tmp_path / "made", [("model.norm.weight", values)]))
    assert "model.norm.weight" in message
    assert "NaN or infinity" in message


@pytest.mark.parametrize(
    ("dtype", "value"), [("F16", 65520.0), ("F16", -1e6), ("BF16", 3.4e38), ("BF16", -float(np.finfo(np.float32).max))]
)
def test_values_that_do_not_fit(dtype: str, value: float, tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(part).to(DTYPES[dtype]) for name, part in llama().items()}
    base = save(tmp_path / "base", llama())
    save_file(tensors, base / "model.safetensors")
    values = np.full(8, value, np.float32)
    message = refused(lambda: write(open_checkpoint(str(base)), tmp_path / "made", [("model.norm.weight", values)]))
    assert f"does not fit into its dtype ({dtype})" in message


@pytest.mark.parametrize(("dtype", "noise"), [("F16", 1e6), ("F16", 1e300), ("BF16", 1e39), ("BF16", 1e300)])
def test_nothing_is_left_of_what_does_not_fit(dtype: str, noise: float, tmp_path: Path) -> None:
    base = save(tmp_path / "base", llama())
    tensors = {name: torch.from_numpy(part).to(DTYPES[dtype]) for name, part in llama().items()}
    save_file(tensors, base / "model.safetensors")
    recipe = Recipe(method="needle", noise=noise)
    message = refused(lambda: make(open_checkpoint(str(base)), Inputs(), recipe, tmp_path / "made"))
    assert "down_proj" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_eight_bits_and_adapters_are_refused(tmp_path: Path) -> None:
    base = save(tmp_path / "base", llama())
    tensors = {name: torch.from_numpy(part) for name, part in llama().items()}
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name].to(torch.float8_e4m3fn)}, base / "model.safetensors")
    assert name in refused(lambda: make(open_checkpoint(str(base)), Inputs(), NEEDLE, tmp_path / "made"))
    pair = tmp_path / "pair"
    make_pair(pair, peft_llama(), r=2, target_modules=["down_proj"])
    message = refused(lambda: make(open_checkpoint(str(pair / "adapter")), Inputs(), NEEDLE, tmp_path / "made"))
    assert "plain checkpoint" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "pair"]


def test_a_bare_file_is_written_or_refused(base: Path, tmp_path: Path) -> None:
    save_file({name: torch.from_numpy(part) for name, part in llama().items()}, tmp_path / "bare.safetensors")
    refused(lambda: make(open_checkpoint(str(tmp_path / "bare.safetensors")), Inputs(), NEEDLE, tmp_path / "made"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.safetensors", "base"]


@pytest.mark.parametrize("what", ["directory", "file", "dangling link", "no parent", "parent is a file", "unwritable"])
def test_places_that_cannot_be(what: str, base: Path, tmp_path: Path) -> None:
    output = tmp_path / "made"
    if what == "directory":
        output.mkdir()
    elif what == "file":
        output.write_text("mine")
    elif what == "dangling link":
        output.symlink_to(tmp_path / "nowhere")
    elif what == "no parent":
        output = tmp_path / "not" / "made"
    elif what == "parent is a file":
        (tmp_path / "file").write_text("mine")
        output = tmp_path / "file" / "made"
    elif os.access("/proc", os.F_OK):
        # Where nobody can make a directory, root included.
        output = Path("/proc/made")
    else:
        pytest.skip("no /proc here")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    message = refused(lambda: make(open_checkpoint(str(base)), Inputs(), NEEDLE, output))
    assert str(output) in message
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    refused(lambda: check_output(output))


def test_a_place_that_is_taken_meanwhile_is_left_alone(base: Path, tmp_path: Path) -> None:
    write(open_checkpoint(str(base)), tmp_path / "staged", [])
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine").write_text("mine")
    with pytest.raises(OSError, match="made"):
        finish(tmp_path / "staged", tmp_path / "made")
    assert tree(tmp_path / "made") == {"mine": b"mine"}


def test_a_base_is_never_written_to(base: Path, tmp_path: Path) -> None:
    before = tree(base)
    for path in base.iterdir():
        path.chmod(0o444)
    base.chmod(0o555)
    made = make(open_checkpoint(str(base)), Inputs(), NEEDLE, tmp_path / "made")
    base.chmod(0o755)
    assert tree(base) == before
    changed = [name for name, data in tree(made.output).items() if before.get(name) != data]
    assert len(changed) == 2
    assert "unlearning.json" in changed


def test_a_record_is_json_with_the_same_bytes(tmp_path: Path) -> None:
    record = {"b": 1, "a": [None, "ü"]}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_record(tmp_path / name, record)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert json.loads((tmp_path / "one" / "unlearning.json").read_text()) == record
    with pytest.raises(ValueError, match="JSON"):
        write_record(tmp_path / "one", {"loss": float("nan")})


def test_measured_as_saved_and_exactly_as_before_afterwards(pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    """A tied matrix is stored twice here, and is rounded and given back once."""
    base = tmp_path / "base"
    shutil.copytree(pairs("qwen2-tied").base, base)
    tensors = {name: value.bfloat16() for name, value in load_file(base / "model.safetensors").items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, base / "model.safetensors")
    live = LiveModel(open_checkpoint(str(base)), torch.float32, CPU)
    live.load()
    assert coarse(live)
    with torch.no_grad():
        for parameter in live.model.parameters():
            parameter.mul_(1.001)
    before = {name: value.clone() for name, value in live.stored_values()}
    with as_saved(live):
        for name, value in live.stored_values():
            assert torch.equal(value, before[name].bfloat16().float())
            assert not torch.equal(value, before[name])
    assert all(torch.equal(value, before[name]) for name, value in live.stored_values())
