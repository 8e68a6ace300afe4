"""A model that is larger than memory: one block of it is there at a time, and what is written is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sottovoce
from core.qwen3_moe import (
    BLOCKS,
    HOST,
    LAYERS,
    MIXTURES,
    SAMPLES,
    Qwen3MoePlugin,
    load_stock,
    logits,
    make_model,
    same_tensors,
    stored,
)
from core.toy import make_host
from sottovoce import Model, StepReport
from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import Block
from sottovoce.checkpoint.shards import INDEX, Shards
from sottovoce.checkpoint.stream import Stream
from sottovoce.entrypoints.save import probe
from sottovoce.errors import CheckpointError, NotFiniteError, OutputError, SottovoceError, SourceError
from sottovoce.formats.transformers.expert_weights import Names
from sottovoce.recipe.step import Step

PROMPT = torch.tensor([[5, 6, 7, 8, 9]])
ONE_LAYER = {"steps": [{"step": "quantize", "activations": "none", "targets": [r"re:model\.layers\.1\..*_proj"]}]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("source") / "mixture", max_shard_size="100KB")


def in_memory(module: nn.Module) -> set[str]:
    """The blocks that have any tensor with memory."""
    return {
        block
        for block in BLOCKS
        if any(not tensor.is_meta for tensor in module.get_submodule(block).state_dict().values())
    }


class WatchedBlocks(Step):
    """Changes nothing, looks what is in memory; by block."""

    by_block = True


class Watcher(BlockStep):
    """Looks what is in memory while a block is visited."""

    name = "watch"

    def __init__(self, model: Model, seen: dict[str, set[str]], layers: Sequence[str]) -> None:
        self.model, self.seen, self._layers = model, seen, layers

    @property
    def layers(self) -> Sequence[str]:
        return self._layers

    def on_start(self) -> None:
        assert not in_memory(self.model.module)

    def process_block(self, block: Block) -> dict[str, Any]:
        assert not any(tensor.is_meta for tensor in block.module.state_dict().values())
        self.seen[block.name] = in_memory(self.model.module)
        return {}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        raise AssertionError("nothing is finished")

    def on_end(self) -> StepReport:
        assert not in_memory(self.model.module)
        return StepReport(step={"step": "watched_blocks"})


class Watching:
    def __init__(self, layers: Sequence[str] = BLOCKS) -> None:
        self.seen: dict[str, set[str]] = {}
        self.layers = layers

    @sottovoce.hookimpl
    def sottovoce_compress(self, step: Step, model: Model) -> Any:
        return Watcher(model, self.seen, self.layers) if isinstance(step, WatchedBlocks) else None


WATCH = {"step": "watched_blocks"}


class Spy:
    """Notes when blocks come into memory and go, and what is there then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        self.most = 0
        enter, leave = Stream.load_block, Stream.offload_block

        def entering(stream: Stream, block: str, rename: Any) -> None:
            enter(stream, block, rename)
            self.events.append(("enter", block))
            self.most = max(self.most, len(in_memory(stream.module)))

        def leaving(stream: Stream, block: str) -> None:
            leave(stream, block)
            self.events.append(("leave", block))

        monkeypatch.setattr(Stream, "load_block", entering)
        monkeypatch.setattr(Stream, "offload_block", leaving)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def test_streamed_model_has_no_block_in_memory_after_loading(source: Path) -> None:
    model = sottovoce.load(source, host=HOST, stream=True)
    assert model.stream is not None
    assert list(model.stream.blocks) == BLOCKS
    assert not in_memory(model.module)
    outside = {
        name: tensor for name, tensor in model.module.state_dict().items() if not name.startswith("model.layers.")
    }
    assert set(outside) == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert not any(tensor.is_meta for tensor in outside.values())
    found = stored(source)
    assert all(tensor.equal(found[name]) for name, tensor in outside.items())
    assert model.size_bytes == sum(tensor.nbytes for tensor in found.values())


@pytest.mark.parametrize("samples", [None, SAMPLES], ids=["none", "samples"])
def test_only_the_processed_block_is_in_memory(samples: Any, source: Path) -> None:
    watching = Watching()
    host = make_host(Qwen3MoePlugin(), watching)
    model = sottovoce.load(source, host=host, stream=True)
    sottovoce.compress(model, {"steps": [WATCH]}, samples, host=host)
    assert watching.seen == {block: {block} for block in BLOCKS}
    assert not in_memory(model.module)


@pytest.mark.parametrize("recipe", ["int8-weight", "reap50-int4"])
def test_blocks_are_loaded_and_offloaded_in_turn(recipe: str, source: Path, spy: Spy) -> None:
    model = sottovoce.load(source, host=HOST, stream=True)
    sottovoce.compress(model, recipe, None if recipe == "int8-weight" else SAMPLES, host=HOST)
    assert spy.events == [(what, block) for block in BLOCKS for what in ("enter", "leave")]
    assert spy.most == 1
    assert not in_memory(model.module)
    assert model.stream is not None
    assert list(model.stream.files) == BLOCKS
    assert all(path.is_file() for path in model.stream.files.values())


def test_save_and_its_check_have_one_block_in_memory(source: Path, spy: Spy, tmp_path: Path) -> None:
    model = sottovoce.load(source, host=HOST, stream=True)
    sottovoce.compress(model, ONE_LAYER, host=HOST)
    spy.events.clear()
    sottovoce.save(model, tmp_path / "out", host=HOST)
    assert spy.most == 1
    entered = [block for what, block in spy.events if what == "enter"]
    # Written, then run for the proof, before and after.
    assert set(entered) == set(BLOCKS)
    assert not in_memory(model.module)


@pytest.mark.parametrize("samples", [None, SAMPLES], ids=["none", "samples"])
def test_blocks_without_a_step_are_unchanged(samples: Any, source: Path, tmp_path: Path) -> None:
    model = sottovoce.load(source, host=HOST, stream=True)
    sottovoce.compress(model, ONE_LAYER, samples, host=HOST)
    assert model.stream is not None
    assert list(model.stream.files) == [BLOCKS[1]]
    again, before = stored(sottovoce.save(model, tmp_path / "out", host=HOST)), stored(source)
    same = {name for name in before if name in again and again[name].equal(before[name])}
    changed = {name for name in before if name not in same}
    assert changed
    assert all(name.startswith(f"{BLOCKS[1]}.") and name.endswith("_proj.weight") for name in changed)
    assert all(name.startswith(f"{BLOCKS[1]}.") for name in set(again) - same)


@pytest.mark.parametrize("recipe", ["int8-weight", "reap50-int4"])
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_tied_tables_are_written_once_and_read_by_the_library(recipe: str, tmp_path: Path) -> None:
    source = make_model(tmp_path / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in stored(source)
    found = []
    for stream in (False, True):
        model = sottovoce.load(source, host=HOST, stream=stream)
        sottovoce.compress(model, recipe, None if recipe == "int8-weight" else SAMPLES, host=HOST)
        found.append(stored(sottovoce.save(model, tmp_path / f"out-{stream}", host=HOST)))
    assert "lm_head.weight" not in found[0]
    assert same_tensors(*found)
    stock, info = load_stock(tmp_path / "out-True")
    assert info == {}
    own = sottovoce.load(tmp_path / "out-True", host=HOST)
    assert torch.allclose(logits(stock, PROMPT), logits(own.native, PROMPT), atol=0.02)
    assert probe(own).equal(probe(sottovoce.load(tmp_path / "out-False", host=HOST)))


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_tied_tables_are_counted_once(stream: bool, tmp_path: Path) -> None:
    source = make_model(tmp_path / "tied", tie_word_embeddings=True)
    model = sottovoce.load(source, host=HOST, stream=stream)
    assert model.native.lm_head.weight is model.native.model.embed_tokens.weight
    report = sottovoce.compress(model, "int8-weight", host=HOST).to_dict()
    saved = sottovoce.save(model, tmp_path / "out", host=HOST)
    for key, directory in (("before", source), ("after", saved)):
        assert report["size_bytes"][key] == sum(tensor.nbytes for tensor in stored(directory).values())


def test_tied_table_stays_float_if_a_recipe_quantizes_tables(tmp_path: Path) -> None:
    source = make_model(tmp_path / "tied", tie_word_embeddings=True)
    found = []
    for stream in (False, True):
        model = sottovoce.load(source, host=HOST, stream=stream)
        table = model.native.lm_head.weight.detach().clone()
        report = sottovoce.compress(model, "int4", SAMPLES, host=HOST).to_dict()
        assert "model.embed_tokens" in {part["name"] for part in report["steps"][0]["kept"]}
        found.append(stored(sottovoce.save(model, tmp_path / f"out-{stream}", host=HOST)))
        assert found[-1]["model.embed_tokens.weight"].equal(table)
        assert "lm_head.weight" not in found[-1]
    assert same_tensors(*found)


def test_uncompressed_tied_model_is_streamed(tmp_path: Path) -> None:
    source = make_model(tmp_path / "tied", tie_word_embeddings=True)
    saved = sottovoce.save(sottovoce.load(source, host=HOST, stream=True), tmp_path / "out", host=HOST)
    assert same_tensors(stored(saved), stored(source))
    model = sottovoce.load(source, host=HOST)
    assert model.native.lm_head.weight.equal(model.native.model.embed_tokens.weight)


@pytest.mark.parametrize("recipe", ["int8", "int4", "fp8", "reap50", "reap50-int4"])
def test_inspect_agrees_with_compress_without_reading_weights(
    recipe: str, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = sottovoce.load(source, host=HOST)
    report = sottovoce.compress(model, recipe, SAMPLES, host=HOST).to_dict()

    def refuse(*_: Any) -> None:
        raise AssertionError("tensors are read")

    monkeypatch.setattr(Shards, "read", refuse)
    before = sorted(path.name for path in source.iterdir())
    facts = sottovoce.inspect(source, recipe, host=HOST)
    assert facts["estimate"]["size_bytes"] == report["size_bytes"]["after"]
    assert facts["size_bytes"] == report["size_bytes"]["before"]
    assert facts["coverage"] == report["steps"][-1]["coverage"]
    names = [[target["name"] for target in one["targets"]] for one in (facts, report["steps"][-1])]
    assert sorted(names[0]) == sorted(names[1])
    assert sorted(path.name for path in source.iterdir()) == before


def test_streamed_model_cannot_be_evaluated(source: Path) -> None:
    model = sottovoce.load(source, host=HOST, stream=True)
    with pytest.raises((SottovoceError, RuntimeError, NotImplementedError)):
        probe(model)


def test_model_larger_than_half_of_the_memory_is_streamed(source: Path) -> None:
    size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    assert sottovoce.load(source, host=HOST, max_memory=2 * size - 1).stream is not None
    assert sottovoce.load(source, host=HOST, max_memory=2 * size).stream is None


def test_streamed_weight_that_is_not_finite_is_named(tmp_path: Path) -> None:
    source = make_model(tmp_path / "mixture")
    name = f"{MIXTURES[1]}.3.up_proj.weight"
    tensors = stored(source)
    tensors[name][0, 0] = torch.nan
    rewrite(source, tensors)
    model = sottovoce.load(source, host=HOST, stream=True)
    with pytest.raises(NotFiniteError, match=r"the layer 'model\.layers\.1\.mlp\.experts\.3\.up_proj' is not finite"):
        sottovoce.compress(model, "int8-weight", host=HOST)


# Bad input.


def rewrite(directory: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(dict(tensors), directory / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return make_model(tmp_path / "mixture", max_shard_size="100KB")


def shard(directory: Path, number: int = 1) -> Path:
    return sorted(directory.glob("model-*.safetensors"))[number]


def index_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / INDEX).read_text())
    return found


def write_index(directory: Path, weight_map: Mapping[str, str]) -> None:
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict(weight_map)}))


def lose(directory: Path) -> str:
    shard(directory).unlink()
    return shard_name(directory, 1)


def shard_name(directory: Path, number: int) -> str:
    return sorted(set(index_of(directory)["weight_map"].values()))[number]


def cut(directory: Path) -> str:
    path = shard(directory)
    path.write_bytes(path.read_bytes()[:-100])
    return path.name


def empty_it(directory: Path) -> str:
    path = shard(directory)
    path.write_bytes(b"")
    return path.name


def pointer(directory: Path) -> str:
    path = shard(directory)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    return path.name


def lead_outside(directory: Path) -> str:
    names = index_of(directory)["weight_map"]
    outside = directory.parent / "outside.safetensors"
    outside.write_bytes(shard(directory).read_bytes())
    write_index(directory, {**names, next(iter(names)): "../outside.safetensors"})
    return "outside.safetensors"


def swap(directory: Path) -> str:
    names = index_of(directory)["weight_map"]
    first = next(iter(names))
    other = next(file for file in names.values() if file != names[first])
    write_index(directory, {**names, first: other})
    return first


def forget(directory: Path) -> str:
    names = index_of(directory)["weight_map"]
    first = next(name for name, file in names.items() if list(names.values()).count(file) > 1)
    write_index(directory, {name: file for name, file in names.items() if name != first})
    return first


def promise(directory: Path) -> str:
    names = index_of(directory)["weight_map"]
    write_index(directory, {**names, "model.more": next(iter(names.values()))})
    return "model.more"


def twice(directory: Path) -> str:
    from safetensors.torch import load_file, save_file

    names = index_of(directory)["weight_map"]
    name = next(iter(names))
    other = next(file for file in names.values() if file != names[name])
    tensors = load_file(directory / other) | {name: load_file(directory / names[name])[name]}
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, directory / other)
    return name


def no_map(directory: Path) -> str:
    (directory / INDEX).write_text("{}")
    return "weight_map"


def broken_index(directory: Path) -> str:
    (directory / INDEX).write_text('{"weight_map": {')
    return INDEX


def unknown(directory: Path) -> str:
    single(directory, {**stored(directory), "model.layers.0.mlp.experts.99.gate_proj.weight": torch.zeros(32, 64)})
    return "model.layers.0.mlp.experts.99.gate_proj.weight"


def missing(directory: Path) -> str:
    name = f"{MIXTURES[2]}.5.down_proj.weight"
    single(directory, {key: tensor for key, tensor in stored(directory).items() if key != name})
    return name


def misshapen(directory: Path) -> str:
    name = f"{MIXTURES[1]}.0.gate_proj.weight"
    tensors = stored(directory)
    single(directory, {**tensors, name: tensors[name].t().contiguous()})
    return f"{name} [64, 32] for [32, 64]"


def single(directory: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    for path in [*directory.glob("model-*.safetensors"), directory / INDEX]:
        path.unlink()
    rewrite(directory, tensors)


DAMAGE = {
    lose: (SourceError, "the weights are missing"),
    cut: (SourceError, "the weights are damaged"),
    empty_it: (SourceError, "the file is empty"),
    pointer: (SourceError, "git lfs pull"),
    lead_outside: (SourceError, "leaves the model's directory"),
    swap: (CheckpointError, "does not agree with the files"),
    forget: (CheckpointError, "does not agree with the files"),
    promise: (CheckpointError, "does not agree with the files"),
    twice: (CheckpointError, "which .* holds too"),
    no_map: (SourceError, "has no weight_map"),
    broken_index: (SourceError, "cannot be read"),
    unknown: (CheckpointError, "1 unexpected"),
    missing: (CheckpointError, "1 missing"),
    misshapen: (CheckpointError, "1 misshapen"),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_damaged_checkpoint_is_a_one_line_error(damage: Any, stream: bool, sharded: Path, tmp_path: Path) -> None:
    named = damage(sharded)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    error, problem = DAMAGE[damage]
    with pytest.raises(error, match=problem) as caught:
        sottovoce.load(sharded, host=HOST, stream=stream)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_allowed_unexpected_tensors_are_ignored(stream: bool, sharded: Path, tmp_path: Path) -> None:
    whole = stored(sharded)
    single(sharded, {**whole, "optimizer.step": torch.zeros(3)})
    model = sottovoce.load(sharded, host=HOST, stream=stream, allow_unexpected=("re:optimizer.*",))
    saved = sottovoce.save(model, tmp_path / "out", host=HOST)
    assert same_tensors(stored(saved), whole)


def test_shard_that_disappears_while_streaming_is_named(sharded: Path, tmp_path: Path) -> None:
    model = sottovoce.load(sharded, host=HOST, stream=True)
    path = sharded / index_of(sharded)["weight_map"][f"{MIXTURES[2]}.5.down_proj.weight"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match="the weights are damaged") as caught:
        sottovoce.compress(model, "int8-weight", host=HOST)
    assert path.name in str(caught.value)


# Names.


def test_module_and_file_names_map_to_each_other(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    names = Names.of(model.native, stored(source))
    rename = names.rename()
    own = set(model.module.state_dict())
    assert set(names.stored) == own
    assert {rename(name) for name in own} == set(stored(source))


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("model.a.weight", "a.weight"),
        ("model.a.weight_scale", "a.weight_scale"),
        ("model.b.0.bias", "blocks.0.bias"),
        ("model.b.0.weight_packed", "blocks.0.weight_packed"),
        ("other.weight", "other.weight"),
        ("alone", "alone"),
    ],
)
def test_new_tensors_are_named_after_their_owner(name: str, want: str) -> None:
    rename = Names({"model.a.weight": "a.weight", "model.b.0.weight": "blocks.0.weight", "alone": "alone"}).rename()
    assert rename(name) == want


def test_names_of_a_renaming_class_map_both_ways(tmp_path: Path) -> None:
    """A checkpoint whose tensors have other names than the module's: Qwen2-VL's of old."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    with torch.device("meta"):
        native = Qwen2VLForConditionalGeneration(Qwen2VLConfig())
    files = ["visual.blocks.0.attn.proj.weight", "model.layers.0.self_attn.q_proj.weight", "lm_head.weight"]
    names = Names.of(native, files)
    assert set(names.stored) <= set(native.state_dict())
    assert set(names.stored) != set(files)
    rename = names.rename()
    assert [rename(name) for name in names.stored] == files
    owner = next(name for name in names.stored if "q_proj" in name).rpartition(".")[0]
    assert rename(f"{owner}.weight_scale") == "model.layers.0.self_attn.q_proj.weight_scale"


def test_block_that_changes_before_saving_fails_the_save(source: Path, tmp_path: Path) -> None:
    model = sottovoce.load(source, host=HOST, stream=True)
    sottovoce.compress(model, "int8-weight", host=HOST)
    assert model.stream is not None
    path = model.stream.files[BLOCKS[1]]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(OutputError, match=rf"the file of block {BLOCKS[1]} changed on disk; nothing was written"):
        sottovoce.save(model, tmp_path / "out", host=HOST)
    assert not list(tmp_path.glob("*out*"))


def test_temporary_directory_is_removed_with_the_stream(source: Path) -> None:
    import gc

    model = sottovoce.load(source, host=HOST, stream=True)
    sottovoce.compress(model, "int8-weight", host=HOST)
    assert model.stream is not None
    paths = list(model.stream.files.values())
    assert len(paths) == LAYERS
    folder = paths[0].parents[1]
    assert folder.is_dir()
    del model
    gc.collect()
    assert not folder.exists()
