"""Running a two-stack model block by block: order, the inputs of later blocks, and that no thread or file remains."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sottovoce
from core.drawn import normal
from core.toy import LETTERS, make_host, make_model
from sottovoce import Architecture, Layers, Model, Prediction, Runner, Sample, Source
from sottovoce.calibration.activation_cache import ActivationCache
from sottovoce.calibration.blocks import Block, blocks_of, room_for_activations, run_blocks
from sottovoce.errors import MemoryLimitError, SamplesError, SourceError

WIDTH = 16


class EncoderBlock(nn.Module):
    """Gives a tuple, with the mask as it came."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return x + torch.relu(self.linear(x)) * mask, mask


class DecoderBlock(nn.Module):
    """Reads the encoder's output, which it takes by name."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.cross = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, *, memory: Tensor, positions: dict[str, Tensor]) -> Tensor:
        return x + torch.tanh(self.own(x + positions["sine"][: len(x)])) + self.cross(memory).mean(0)


class TwoStacks(nn.Module):
    """Encoder blocks, a linear layer as a block of its own, decoder blocks of which the first runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(LETTERS), WIDTH)
        self.encoder = nn.ModuleList(EncoderBlock() for _ in range(2))
        self.bridge = nn.Linear(WIDTH, WIDTH)
        self.decoder = nn.ModuleList(DecoderBlock() for _ in range(2))
        self.spare = nn.ModuleList([nn.Linear(WIDTH, WIDTH)])
        self.head = nn.Linear(WIDTH, len(LETTERS))
        self.register_buffer("sine", normal(64, WIDTH, seed=4))

    def forward(self, ids: Tensor, encode_only: bool = False) -> Tensor:
        x, mask = self.embed(ids), (ids > 0)[:, None].float()
        for block in self.encoder:
            x, mask = block(x, mask)
        if encode_only:
            return self.head(x)  # type: ignore[no-any-return]
        memory, y = self.bridge(x), self.embed(ids.flip(0))
        for number in (0, 0, 1):
            y = self.decoder[number](y, memory=memory, positions={"sine": self.sine})
        return self.head(y + x)  # type: ignore[no-any-return]


BLOCKS = ["encoder.0", "encoder.1", "bridge", "decoder.0", "decoder.1"]


def forward(model: Model, sample: Sample) -> Tensor:
    text = sample.text or ""
    if "?" in text:
        raise RuntimeError("a letter that\nnobody knows")
    ids = torch.tensor([LETTERS.index(letter) for letter in text.rstrip("!")])
    return model.module(ids, text.endswith("!"))  # type: ignore[no-any-return]


ARCHITECTURE = Architecture(
    name="two-stacks",
    matches=("TwoStacks",),
    layers=Layers(targets=("Linear",), blocks=(r"re:(encoder|decoder|spare)\.\d+",)),
    runner=Runner(
        forward=forward,
        predict=lambda model, sample: Prediction(),
        probe=lambda model: Sample(key="probe"),
    ),
)


def make() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = TwoStacks().eval()
    return Model(module=module, native=module, architecture=ARCHITECTURE, source=Source(name="two", directory=Path()))


SAMPLES = [Sample(key=text, text=text) for text in ("abcd", "hgfedcba", "b", "ddeeff")]


def outputs(model: Model, samples: list[Sample] = SAMPLES) -> list[Tensor]:
    with torch.inference_mode():
        return [forward(model, sample) for sample in samples]


def seen(model: Model, name: str, samples: list[Sample] = SAMPLES) -> list[Any]:
    """What a block gives in ordinary runs of the model, the first time that it runs in each."""
    found: list[Any] = []
    for sample in samples:
        given: list[Any] = []
        hook = model.module.get_submodule(name).register_forward_hook(lambda *call, to=given: to.append(call[2]))
        outputs(model, [sample])
        hook.remove()
        found += given[:1]
    return found


def same(one: list[Any], other: list[Any]) -> bool:
    from torch.utils import _pytree

    leaves = [_pytree.tree_leaves(each) for each in (one, other)]
    return len(leaves[0]) == len(leaves[1]) and all(a.equal(b) for a, b in zip(*leaves, strict=True))


def copied(block: Block) -> list[Any]:
    """The block's outputs, copied while they are there."""
    from torch.utils import _pytree

    return [_pytree.tree_map(torch.clone, output) for output in block.run()]


def untouched(model: Model) -> bool:
    return not any("forward" in key for child in model.module.modules() for key in vars(child) if "hook" not in key)


@pytest.fixture(autouse=True)
def no_threads_or_files_remain(tmp_path: Path) -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
    assert not list(tmp_path.iterdir())


@pytest.fixture(params=[None, 0, 1500], ids=["in memory", "on disk", "some on disk"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> ActivationCache:
    return ActivationCache(request.param, tmp_path)


class TestRunBlocks:
    def test_run_blocks_processes_blocks_once_in_forward_order(self, held: ActivationCache) -> None:
        model, names = make(), []

        def visit(block: Block) -> None:
            names.append(block.name)
            assert block.module is model.module.get_submodule(block.name)

        assert run_blocks(model, SAMPLES, BLOCKS, visit, cache=held).unreached == ()
        assert names == BLOCKS

    def test_block_run_repeatedly_equals_the_model_s_own_pass(self, held: ActivationCache) -> None:
        model = make()
        want = {name: seen(model, name) for name in BLOCKS}

        def visit(block: Block) -> None:
            for _ in range(3):
                assert same(copied(block), want[block.name])

        run_blocks(model, SAMPLES, BLOCKS, visit, cache=held)
        assert untouched(model)

    def test_outputs_are_readable_while_they_are_yielded(self, held: ActivationCache) -> None:
        model = make()
        want = {name: seen(model, name) for name in BLOCKS}

        def visit(block: Block) -> None:
            # An encoder block gives the mask that it was given.
            for output, expected in zip(block.run(), want[block.name], strict=True):
                assert same([output], [expected])

        run_blocks(model, SAMPLES, BLOCKS, visit, cache=held)

    def test_later_blocks_get_outputs_of_changed_blocks(self, held: ActivationCache) -> None:
        model, changed = make(), make()

        def change_(module: nn.Module) -> None:
            for parameter in module.parameters():
                parameter.mul_(0.5)

        found: dict[str, list[Any]] = {}

        def visit(block: Block) -> None:
            found[block.name] = copied(block)
            with torch.no_grad():
                change_(block.module)

        run_blocks(model, SAMPLES, BLOCKS, visit, cache=held)
        for name in BLOCKS:
            assert same(found[name], seen(changed, name))
            with torch.no_grad():
                change_(changed.module.get_submodule(name))
        assert same(outputs(model), outputs(changed))

    def test_replaced_block_computes_the_outputs(self, held: ActivationCache) -> None:
        model, changed = make(), make()
        replacements = {"bridge": nn.Linear(WIDTH, WIDTH), "decoder.0": DecoderBlock()}
        for name, replacement in replacements.items():
            parent, _, child = name.rpartition(".")
            setattr(changed.module.get_submodule(parent), child, replacement)
        last: list[Any] = []

        def visit(block: Block) -> None:
            if block.name in replacements:
                parent, _, child = block.name.rpartition(".")
                setattr(block.root.get_submodule(parent), child, replacements[block.name])
                assert block.module is replacements[block.name]
            if block.name == "decoder.1":
                last.extend(copied(block))

        run_blocks(model, SAMPLES, BLOCKS, visit, cache=held)
        assert same(last, seen(changed, "decoder.1"))
        assert same(outputs(model), outputs(changed))
        assert untouched(model)

    def test_run_blocks_without_changes_keeps_outputs(self, held: ActivationCache) -> None:
        model = make()
        before = outputs(model)
        run_blocks(model, SAMPLES, BLOCKS, lambda block: None, cache=held)
        assert same(outputs(model), before)
        assert untouched(model)

    def test_samples_with_different_paths_reach_different_blocks(self, held: ActivationCache) -> None:
        model, samples = make(), [*SAMPLES, Sample(key="short", text="abc!")]
        counts: dict[str, int] = {}

        def visit(block: Block) -> None:
            counts[block.name] = len(copied(block))

        assert run_blocks(model, samples, BLOCKS, visit, cache=held).unreached == ()
        assert counts == {"encoder.0": 5, "encoder.1": 5, "bridge": 4, "decoder.0": 4, "decoder.1": 4}

    def test_unreached_blocks_are_returned(self, held: ActivationCache) -> None:
        model, names = make(), []
        samples = [Sample(key="short", text="abc!")]
        blocks = [*BLOCKS, "spare.0"]
        unreached = run_blocks(model, samples, blocks, lambda block: names.append(block.name), cache=held).unreached
        assert names == ["encoder.0", "encoder.1"]
        assert unreached == ("bridge", "decoder.0", "decoder.1", "spare.0")
        assert untouched(model)

    def test_run_blocks_without_samples_reaches_no_block(self) -> None:
        assert run_blocks(make(), [], BLOCKS, lambda block: None).unreached == tuple(BLOCKS)

    @pytest.mark.parametrize("place", [0, 2])
    def test_sample_that_fails_is_named_in_the_error(self, place: int, held: ActivationCache) -> None:
        model, samples = make(), list(SAMPLES)
        samples.insert(place, Sample(key="odd", text="ab?"))
        with pytest.raises(
            SourceError, match=r"not run on the sample 'odd' \(RuntimeError: a letter that nobody knows"
        ):
            run_blocks(model, samples, BLOCKS, lambda block: None, cache=held)
        assert untouched(model)

    @pytest.mark.parametrize("error", [SamplesError("odd words"), MemoryError("no more")], ids=repr)
    def test_error_of_sottovoce_is_raised_unchanged(self, error: Exception) -> None:
        model = make()

        def fail(*_: Any) -> None:
            raise error

        model.module.head.register_forward_hook(fail)
        with pytest.raises(type(error)) as caught:
            run_blocks(model, SAMPLES, BLOCKS, lambda block: None)
        assert caught.value is error
        assert untouched(model)

    @pytest.mark.parametrize("name", BLOCKS)
    @pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()], ids=repr)
    def test_error_while_processing_restores_the_model(
        self, name: str, error: BaseException, held: ActivationCache
    ) -> None:
        model = make()
        before = outputs(model)

        def visit(block: Block) -> None:
            if block.name == name:
                next(block.run())
                raise error

        with pytest.raises(type(error)) as caught:
            run_blocks(model, SAMPLES, BLOCKS, visit, cache=held)
        assert caught.value is error
        assert untouched(model)
        assert same(outputs(model), before)

    @pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals go to the process as a whole here")
    def test_interrupt_while_a_sample_runs_restores_the_model(self, held: ActivationCache) -> None:
        model = make()

        def interrupt(*_: Any) -> None:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        hook = model.module.head.register_forward_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_blocks(model, SAMPLES, BLOCKS, lambda block: None, cache=held)
        hook.remove()
        assert untouched(model)

    def test_error_of_a_changed_block_is_raised_unchanged(self, held: ActivationCache) -> None:
        model = make()

        def visit(block: Block) -> None:
            block.module.linear = nn.Linear(3, 3)

        with pytest.raises(RuntimeError, match="shapes"):
            run_blocks(model, SAMPLES, BLOCKS, visit, cache=held)
        assert untouched(model)

    def test_unknown_block_restores_the_model(self) -> None:
        model = make()
        with pytest.raises(AttributeError):
            run_blocks(model, SAMPLES, ["encoder.0", "encoder.7"], lambda block: None)
        assert untouched(model)

    def test_patched_forward_of_a_module_is_kept(self) -> None:
        model = make()
        bridge = model.module.bridge
        bridge.forward = lambda x: nn.functional.linear(x, bridge.weight) * 2  # type: ignore[assignment, union-attr, arg-type]
        before = outputs(model)
        run_blocks(model, SAMPLES, BLOCKS, lambda block: None)
        assert same(outputs(model), before)

    def test_second_pass_gives_the_same_outputs(self, tmp_path: Path) -> None:
        model, found = make(), []
        for limit in (None, 0):
            given: list[Any] = []
            run_blocks(
                model,
                SAMPLES,
                BLOCKS,
                lambda block, to=given: to.extend(copied(block)),  # type: ignore[misc]
                cache=ActivationCache(limit, tmp_path),
            )
            found.append(given)
        assert same(*found)


def test_activations_over_the_limit_are_written_to_disk(tmp_path: Path) -> None:
    held, during = ActivationCache(0, tmp_path), []

    def visit(block: Block) -> None:
        during.append(sum(1 for path in tmp_path.rglob("*") if path.is_file()))

    run_blocks(make(), SAMPLES, BLOCKS, visit, cache=held)
    # What the first block is given is the model's own, as far as anyone can tell.
    assert during[0] == 0
    assert all(count >= len(SAMPLES) for count in during[1:2])
    assert held.spilled_bytes > 0


def test_activations_within_the_limit_stay_in_memory(tmp_path: Path) -> None:
    held = ActivationCache(10**9, tmp_path)
    run_blocks(make(), SAMPLES, BLOCKS, lambda block: None, cache=held)
    assert held.spilled_bytes == 0


class TestBlocksOf:
    @pytest.mark.parametrize(
        ("layers", "blocks"),
        [
            (["encoder.0.linear"], ["encoder.0"]),
            (["decoder.1.cross", "encoder.1.linear", "decoder.1.own"], ["encoder.1", "decoder.1"]),
            (["head", "bridge", "encoder.0.linear"], ["encoder.0", "bridge", "head"]),
            (["spare.0"], ["spare.0"]),
            ([], []),
        ],
        ids=str,
    )
    def test_blocks_of_layers_are_in_module_order(self, layers: list[str], blocks: list[str]) -> None:
        assert blocks_of(make(), layers) == blocks

    def test_block_within_a_block_is_not_a_block(self) -> None:
        model = make()
        layers = Layers(targets=("Linear",), blocks=(r"re:encoder", r"re:encoder\.\d+", "DecoderBlock"))
        model.architecture = replace(ARCHITECTURE, layers=layers)
        assert blocks_of(model, ["encoder.0.linear", "decoder.0.own"]) == ["encoder", "decoder.0"]


class TestRoom:
    @pytest.fixture(autouse=True)
    def _one_gigabyte(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sottovoce.calibration.blocks.resident_memory", lambda: 10**9)

    def test_room_without_limit_is_none(self) -> None:
        assert room_for_activations(make(), BLOCKS, None) is None

    def test_room_excludes_resident_memory(self) -> None:
        room = room_for_activations(make(), BLOCKS, 3 * 10**9)
        assert room is not None
        assert 2 * 10**9 - 10**6 < room < 2 * 10**9

    def test_too_little_memory_is_an_error_with_the_amount_needed(self) -> None:
        with pytest.raises(MemoryLimitError, match="1.1 GB are not enough: the process takes 1.0 GB") as caught:
            room_for_activations(make(), BLOCKS, 1_100_000_000)
        enough = float(str(caught.value).rpartition("allow at least ")[2].partition(" GB")[0])
        assert room_for_activations(make(), BLOCKS, int(enough * 1e9))

    def test_room_excludes_second_moments_of_wide_layers(self) -> None:
        model = make()
        with torch.device("meta"):
            model.module.bridge = nn.Linear(8192, 4)
        narrow = room_for_activations(model, ["decoder.0"], 10**10)
        wide = room_for_activations(model, ["decoder.0", "bridge"], 10**10)
        assert narrow is not None and wide is not None
        assert narrow - wide >= 2 * 4 * 8192**2

    def test_room_without_resident_memory_excludes_the_model_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sottovoce.calibration.blocks.resident_memory", lambda: None)
        model = make()
        room = room_for_activations(model, [], 10**9)
        assert room == 10**9 - model.size_bytes


def test_run_blocks_takes_a_plain_function() -> None:
    visits: list[Block] = []
    visit: Callable[[Block], None] = visits.append
    run_blocks(make(), SAMPLES[:1], BLOCKS[:1], visit)
    assert [(block.name, len(block.sample_threads)) for block in visits] == [("encoder.0", 1)]


def test_original_outputs_are_those_of_the_model_before_any_block_was_changed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    model = sottovoce.load(make_model(tmp_path_factory.mktemp("toy"), blocks=3), host=make_host())
    samples = [Sample(key="a", text="abc"), Sample(key="b", text="hgfe")]
    blocks = [f"blocks.{number}" for number in range(3)]
    expected: dict[str, list[Tensor]] = {}
    run_blocks(model, samples, blocks, lambda block: expected.update({block.name: [x.clone() for x in block.run()]}))
    originals: dict[str, list[Tensor]] = {}

    def change(block: Block) -> None:
        originals[block.name] = [block.original_outputs[thread.sample.key] for thread in block.sample_threads]
        with torch.no_grad():
            block.module.weight.mul_(2)  # type: ignore[operator, arg-type]

    run_blocks(model, samples, blocks, change, runs_original=True)
    assert originals.keys() == expected.keys()
    for name, tensors in expected.items():
        assert all(map(torch.equal, originals[name], tensors)), name


def test_outputs_of_layers_are_those_before_any_change_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = sottovoce.load(make_model(tmp_path_factory.mktemp("toy"), blocks=3), host=make_host())
    samples, layers = [Sample(key="a", text="abc"), Sample(key="b", text="hgfe")], ("blocks.0", "blocks.2")
    seen: dict[str, dict[str, Tensor]] = {}

    def change(block: Block) -> None:
        assert set(block.original_layer_outputs) == {block.name} & set(layers)
        for name, outputs in block.original_layer_outputs.items():
            seen[name] = dict(outputs)
            assert all(torch.equal(outputs[key], block.original_outputs[key]) for key in ("a", "b"))
        with torch.no_grad():
            block.module.weight.mul_(2)  # type: ignore[operator, arg-type]

    blocks = [f"blocks.{number}" for number in range(3)]
    run_blocks(model, samples, blocks, change, runs_original=True, original_layers=layers)
    assert seen.keys() == set(layers)
    assert not any(child._forward_hooks for child in model.module.modules())


def test_original_outputs_are_missing_where_nobody_asks(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = sottovoce.load(make_model(tmp_path_factory.mktemp("toy")), host=make_host())
    seen: list[int] = []
    run_blocks(
        model, [Sample(key="a", text="abc")], ["blocks.0"], lambda block: seen.append(len(block.original_outputs))
    )
    assert seen == [0]
