"""Mixtures of transformers' own class through load, compress and save: the stock library reads what is written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sottovoce
from core.qwen3_moe import (
    BLOCKS,
    EXPERTS,
    HOST,
    INNER,
    LAYERS,
    MIXTURES,
    SAMPLES,
    TOP_K,
    WIDTH,
    Qwen3MoePlugin,
    ids_of,
    load_stock,
    logits,
    make_model,
    make_native,
    same_tensors,
    stored,
)
from core.toy import make_host
from sottovoce import Model, Samples
from sottovoce.calibration.held_out import held_out_keys
from sottovoce.entrypoints.save import probe
from sottovoce.errors import RecipeError, SamplesError, SourceError
from sottovoce.experts.saliency import Saliency, read_saliency
from sottovoce.experts.selection import ranking
from sottovoce.runtime.experts import Experts
from sottovoce.runtime.layers import QUANTIZED

pytestmark = [
    # torch's own, of compressed-tensors' copy of a scripted function
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]

RECIPES = ("int8", "int8-weight", "int4", "fp8", "reap50", "reap50-int4")
BOUND = {"int8": 0.05, "int4": 0.05, "reap50-int4": 0.05, "int8-weight": 1e-5, "fp8": 1e-5, "reap50": 1e-5}
"""How far the library's logits may lie from ours, as a share of their deviation: it does not round inputs, and makes
the weights of a float32 model's layers of 4 bits bfloat16, as their scales are."""
PRUNED = ("reap50", "reap50-int4")
PROMPT = torch.tensor([[5, 6, 7, 8, 9]])


def samples_for(recipe: str) -> Samples | None:
    return SAMPLES if recipe.startswith(("int4", "reap")) else None


@dataclass(frozen=True)
class Made:
    """One recipe applied twice: in memory, and from disk."""

    recipe: str
    source: Path
    memory: Path
    streamed: Path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("source") / "mixture", max_shard_size="100KB")


@pytest.fixture(scope="module", params=RECIPES)
def made(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, recipe = tmp_path_factory.mktemp("made"), request.param
    for stream in (False, True):
        model = sottovoce.load(source, host=HOST, stream=stream)
        assert (model.stream is not None) == stream
        sottovoce.compress(model, recipe, samples_for(recipe), host=HOST)
        sottovoce.save(model, folder / str(stream), host=HOST)
    return Made(recipe, source, folder / "False", folder / "True")


def config(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return found


def test_the_experts_compute_what_the_library_s_compute(source: Path) -> None:
    model, (stock, info) = sottovoce.load(source, host=HOST), load_stock(source)
    assert info == {}
    for sample in list(SAMPLES)[:3]:
        assert torch.allclose(logits(model.native, ids_of(sample)), logits(stock, ids_of(sample)), atol=1e-5, rtol=0)
    assert isinstance(model.module.get_submodule(MIXTURES[0]), Experts)
    assert type(stock.get_submodule(MIXTURES[0])).__name__ == "Qwen3MoeExperts"


def test_the_module_s_names_are_the_checkpoint_s(source: Path) -> None:
    model, found = sottovoce.load(source, host=HOST), stored(source)
    assert len(list(source.glob("*.safetensors"))) > 5
    assert same_tensors(model.module.state_dict(), found)


def test_a_model_that_was_not_compressed_is_written_as_it_was(source: Path, tmp_path: Path) -> None:
    for stream in (False, True):
        model = sottovoce.load(source, host=HOST, stream=stream)
        saved = sottovoce.save(model, tmp_path / str(stream), host=HOST)
        assert same_tensors(stored(saved), stored(source))
        assert load_stock(saved)[1] == {}
        assert "quantization_config" not in config(saved)


def test_from_disk_gives_the_bytes_that_memory_gives(made: Made) -> None:
    memory, streamed = stored(made.memory), stored(made.streamed)
    assert same_tensors(memory, streamed)
    assert not same_tensors(memory, stored(made.source))
    assert config(made.memory) == config(made.streamed)
    reports = [json.loads((one / "compression.json").read_text()) for one in (made.memory, made.streamed)]
    for key in ("recipe", "coverage", "size_bytes", "samples"):
        assert reports[0][key] == reports[1][key]
    for one, other in zip(*(report["steps"] for report in reports), strict=True):
        assert {**one, "seconds": 0, "timing": 0} == {**other, "seconds": 0, "timing": 0}


def test_both_are_loaded_to_the_same_outputs(made: Made) -> None:
    memory, streamed = (sottovoce.load(one, host=HOST) for one in (made.memory, made.streamed))
    assert probe(memory).equal(probe(streamed))
    assert not probe(memory).equal(probe(sottovoce.load(made.source, host=HOST)))


def test_the_library_loads_what_was_written(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    stock, info = load_stock(made.streamed)
    assert info == {}
    own = sottovoce.load(made.streamed, host=HOST)
    options = {"max_new_tokens": 12, "do_sample": False}
    assert stock.generate(PROMPT, **options).tolist() == own.native.generate(PROMPT, **options).tolist()
    for sample in list(SAMPLES)[:2]:
        found, want = logits(stock, ids_of(sample)), logits(own.native, ids_of(sample))
        gap = (found - want).abs()
        # Where inputs are rounded, a token near the border may go to another expert.
        assert float(gap.median() if made.recipe == "int8" else gap.max()) < BOUND[made.recipe] * float(want.std())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("recipe", ["int4", "int8-weight"])
def test_a_half_precision_mixture_stays_one_in_the_library(recipe: str, dtype: str, tmp_path: Path) -> None:
    source = make_model(tmp_path / "mixture", dtype=dtype)
    model = sottovoce.load(source, host=HOST, stream=True)
    sottovoce.compress(model, recipe, samples_for(recipe), host=HOST)
    saved = sottovoce.save(model, tmp_path / "small", host=HOST)
    stock, info = load_stock(saved, cast=False)
    assert info == {}
    kinds = {parameter.dtype for parameter in stock.parameters() if parameter.is_floating_point()}
    assert kinds == {getattr(torch, dtype)}
    own = sottovoce.load(saved, host=HOST)
    found, want = logits(stock, PROMPT), logits(own.native, PROMPT)
    assert float((found - want).abs().max()) < 0.05 * float(want.std())


def test_the_configuration_counts_the_experts_that_stay(made: Made) -> None:
    from transformers import AutoConfig

    count = EXPERTS // 2 if made.recipe in PRUNED else EXPERTS
    for directory in (made.memory, made.streamed):
        assert AutoConfig.from_pretrained(directory).num_experts == count
    names = {name for name in stored(made.streamed) if re.search(r"experts\.\d+\.gate_proj\.weight", name)}
    assert len({name.partition(".gate_proj")[0] for name in names}) == LAYERS * count
    assert stored(made.streamed)[f"{BLOCKS[0]}.mlp.gate.weight"].shape == (count, WIDTH)


def test_all_layers_of_experts_have_one_scheme(made: Made) -> None:
    model = sottovoce.load(made.streamed, host=HOST)
    schemes = {
        child.scheme
        for name, child in model.module.named_modules()
        if isinstance(child, QUANTIZED) and ".experts." in name
    }
    if made.recipe == "reap50":
        assert not schemes
        return
    (scheme,) = schemes
    assert scheme.activations == "none"
    if "int4" in made.recipe:
        assert (scheme.bits, scheme.group_size) == (4, 32)
        assert WIDTH % 64 == 0
        assert INNER % 64
        query = model.module.get_submodule(f"{BLOCKS[0]}.self_attn.q_proj")
        assert query.scheme.group_size == 64  # type: ignore[union-attr]


def test_generation_settings_are_kept(made: Made) -> None:
    for directory in (made.memory, made.streamed):
        assert json.loads((directory / "generation_config.json").read_text())["max_new_tokens"] == 7
        assert sottovoce.load(directory, host=HOST).native.generation_config.max_new_tokens == 7


def test_a_compressed_mixture_is_as_small_as_its_report_says(made: Made) -> None:
    report = json.loads((made.streamed / "compression.json").read_text())
    assert report["size_bytes"]["after"] == sum(tensor.nbytes for tensor in stored(made.streamed).values())
    assert report["size_bytes"]["before"] == sum(tensor.nbytes for tensor in stored(made.source).values())
    assert report["size_bytes"]["after"] < report["size_bytes"]["before"]


def test_a_streamed_one_is_compressed_again_as_from_memory(source: Path, tmp_path: Path) -> None:
    """Pruned and saved, then loaded and quantized."""
    found = []
    for stream in (False, True):
        model = sottovoce.load(source, host=HOST, stream=stream)
        sottovoce.compress(model, "reap50", SAMPLES, host=HOST)
        sottovoce.save(model, tmp_path / f"pruned-{stream}", host=HOST)
        model = sottovoce.load(tmp_path / f"pruned-{stream}", host=HOST, stream=stream)
        report = sottovoce.compress(model, "int8-weight", host=HOST)
        assert [step["step"]["step"] for step in report.to_dict()["steps"]] == ["prune_experts", "quantize"]
        found.append(stored(sottovoce.save(model, tmp_path / f"both-{stream}", host=HOST)))
    assert same_tensors(*found)


# Pruning on the real class.


@pytest.fixture(scope="module")
def reap(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = sottovoce.load(source, host=HOST)
    sottovoce.compress(model, {"steps": [{"step": "prune_experts", "keep": 5}]}, SAMPLES, host=HOST)
    return sottovoce.save(model, tmp_path_factory.mktemp("reap") / "pruned", host=HOST)


class Seen:
    """What the first mixture of the stock model is given."""

    def __init__(self, native: Any, samples: Samples) -> None:
        given: list[Tensor] = []
        self.mixture = native.model.layers[0].mlp
        hook = self.mixture.register_forward_hook(lambda module, arguments, output: given.append(arguments[0][0]))
        for sample in samples:
            logits(native, ids_of(sample))
        hook.remove()
        self.hidden = torch.cat(given)
        values = self.hidden @ self.mixture.gate.weight.detach().t()
        self.gate, self.index = torch.softmax(values.double(), -1).topk(TOP_K)
        self.gate /= self.gate.sum(-1, keepdim=True)

    @torch.no_grad()
    def outputs(self) -> Tensor:
        """Every expert on every token ``[experts, tokens, width]``."""
        fused, x = self.mixture.experts, self.hidden.double()
        made = []
        for together, down in zip(fused.gate_up_proj.double(), fused.down_proj.double(), strict=True):
            gate, up = together.chunk(2)
            made.append((nn.functional.silu(x @ gate.t()) * (x @ up.t())) @ down.t())
        return torch.stack(made)


def test_the_saliency_is_that_of_all_experts_run_on_all_tokens(source: Path, reap: Path) -> None:
    held_out = held_out_keys([sample.key for sample in SAMPLES], 0.1)
    assert len(held_out) == 1
    seen = Seen(load_stock(source)[0], Samples(tuple(one for one in SAMPLES if one.key not in held_out)))
    norms = seen.outputs().norm(dim=-1)
    found = read_saliency(reap / "saliency.json")[MIXTURES[0]]
    for expert in range(EXPERTS):
        chosen = seen.index == expert
        tokens = chosen.any(-1)
        gates = seen.gate[chosen]
        assert float(found.score("frequency")[expert]) == float(tokens.sum()) > 0
        wanted = {
            "reap": (gates * norms[expert, tokens]).mean(),
            "mean-norm": norms[expert, tokens].mean(),
            "ean": norms[expert, tokens].sum(),
        }
        for metric, value in wanted.items():
            assert float(found.score(metric)[expert]) == pytest.approx(float(value), rel=1e-5)  # type: ignore[arg-type]
        assert float(found.gate.sum(0)[expert]) == pytest.approx(float(gates.sum()), rel=1e-5)


def test_the_experts_with_the_highest_scores_stay(reap: Path) -> None:
    layers = json.loads((reap / "compression.json").read_text())["steps"][0]["details"]["layers"]
    measured = read_saliency(reap / "saliency.json")
    for name in MIXTURES:
        assert layers[name]["kept"] == sorted(ranking(measured[name].score("reap"))[:5])
        assert layers[name]["super_experts"] == []


def test_a_pruned_model_is_the_whole_with_the_other_experts_masked(source: Path, reap: Path) -> None:
    whole, pruned = load_stock(source)[0], load_stock(reap)[0]
    layers = json.loads((reap / "compression.json").read_text())["steps"][0]["details"]["layers"]
    ids = ids_of(SAMPLES[0])
    before = logits(whole, ids)
    for layer, name in zip(whole.model.layers, MIXTURES, strict=True):
        gone = [number for number in range(EXPERTS) if number not in layers[name]["kept"]]

        def masked(gate: Any, arguments: Any, output: Any, gone: list[int] = gone) -> Any:
            found = output[0].index_fill(1, torch.tensor(gone), -torch.inf)
            values, index = torch.softmax(found, -1).topk(TOP_K)
            return found, values / values.sum(-1, keepdim=True), index

        layer.mlp.gate.register_forward_hook(masked)
    expected = logits(whole, ids)
    assert torch.allclose(logits(pruned, ids), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(before, expected, atol=1e-2, rtol=0)


def test_pruned_layers_are_measured_as_what_is_pruned_before_them_makes_them(source: Path, reap: Path) -> None:
    """The first layer is measured on the whole model; later ones on what earlier ones became."""
    model = sottovoce.load(source, host=HOST)
    sottovoce.compress(model, {"steps": [{"step": "prune_experts", "keep": EXPERTS}]}, SAMPLES, host=HOST)
    path = reap.parent / "whole.json"
    model.attachments["saliency.json"](path)
    whole, pruned = read_saliency(path), read_saliency(reap / "saliency.json")
    assert whole[MIXTURES[0]].to_dict() == pruned[MIXTURES[0]].to_dict()
    assert whole[MIXTURES[1]].to_dict() != pruned[MIXTURES[1]].to_dict()


def test_the_measures_choose_different_experts(source: Path) -> None:
    kept, scores = {}, {}
    for metric in ("reap", "mean-norm", "ean", "frequency"):
        model = sottovoce.load(source, host=HOST)
        step = {"step": "prune_experts", "keep": 4, "saliency": metric}
        report = sottovoce.compress(model, {"steps": [step]}, SAMPLES, host=HOST)
        layer = report.steps[0].to_dict()["details"]["layers"][MIXTURES[0]]
        kept[metric], scores[metric] = tuple(layer["kept"]), layer["scores"]["all"]
        assert kept[metric] == tuple(sorted(ranking(torch.tensor(scores[metric]))[:4]))
    assert len(set(kept.values())) >= 3, kept
    assert scores["frequency"] == [round(count) for count in scores["frequency"]]
    # The sum of the norms is their mean times their number.
    product = [mean * count for mean, count in zip(scores["mean-norm"], scores["frequency"], strict=True)]
    assert scores["ean"] == pytest.approx(product, rel=1e-3)
    # The gate is at most one.
    assert all(one < other for one, other in zip(scores["reap"], scores["mean-norm"], strict=True))


def test_gates_that_are_not_divided_are_made_up_for_in_the_library_too(tmp_path: Path) -> None:
    source = make_model(tmp_path / "mixture", norm_topk_prob=False)
    saved, found = [], []
    for stream in (False, True):
        model = sottovoce.load(source, host=HOST, stream=stream)
        report = sottovoce.compress(model, "reap50", SAMPLES, host=HOST)
        saved.append(sottovoce.save(model, tmp_path / f"pruned-{stream}", host=HOST))
        found.append(report.steps[0].to_dict()["details"]["layers"])
    assert found[0] == found[1]
    assert all(layer["gate_growth"] is None or layer["gate_growth"] > 1 for layer in found[0].values())
    assert any(layer["gate_growth"] for layer in found[0].values())
    assert same_tensors(*map(stored, saved))
    stock, info = load_stock(saved[0])
    assert info == {}
    own = sottovoce.load(saved[0], host=HOST)
    assert torch.allclose(logits(stock, PROMPT), logits(own.native, PROMPT), atol=1e-5, rtol=0)


@pytest.mark.parametrize("keep", [1, 9, 0.1])
@pytest.mark.parametrize("stream", [False, True])
def test_a_number_that_cannot_stay_is_refused_before_any_work(
    keep: float, stream: bool, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sottovoce.load(source, host=HOST, stream=stream)
    before = {name: tensor.shape for name, tensor in model.module.state_dict().items()}
    monkeypatch.setattr("sottovoce.calibration.runner.run_blocks", None)
    recipe = {"steps": [{"step": "prune_experts", "keep": keep}, {"step": "quantize", "bits": 8}]}
    with pytest.raises(RecipeError, match=r"keep: .*a token is routed to 2, so keep between 2 and 8"):
        sottovoce.compress(model, recipe, SAMPLES, host=HOST)
    assert {name: tensor.shape for name, tensor in model.module.state_dict().items()} == before
    assert model.native.config.num_experts == EXPERTS


def test_a_kind_of_token_that_no_sample_has_cannot_be_protected(source: Path) -> None:
    def kinds(model: Model, sample: Any, block: str) -> list[str]:
        return ["text"] * len(sample.text)

    host = make_host(Qwen3MoePlugin(modalities=kinds))
    recipe = {"steps": [{"step": "prune_experts", "keep": 4, "protect": {"audio": 0.25}}]}
    with pytest.raises(RecipeError, match="decoder: experts for 'audio' are protected, and no sample has such tokens"):
        sottovoce.compress(sottovoce.load(source, host=host), recipe, SAMPLES, host=host)


@pytest.mark.parametrize("stream", [False, True])
def test_without_samples_and_scores_nothing_is_pruned(stream: bool, source: Path) -> None:
    with pytest.raises(SamplesError, match="reap50 calibrates on real samples: give them"):
        sottovoce.compress(sottovoce.load(source, host=HOST, stream=stream), "reap50", host=HOST)


class TestScores:
    """Pruning by what was measured before."""

    def recipe(self, path: Path) -> dict[str, Any]:
        return {"steps": [{"step": "prune_experts", "keep": 5, "scores": str(path)}]}

    @pytest.mark.parametrize("stream", [False, True])
    def test_they_give_the_same_experts_without_samples(self, stream: bool, source: Path, tmp_path: Path) -> None:
        measured = sottovoce.load(source, host=HOST)
        sottovoce.compress(measured, {"steps": [{"step": "prune_experts", "keep": 8}]}, SAMPLES, host=HOST)
        measured.attachments["saliency.json"](tmp_path / "scores.json")
        model = sottovoce.load(source, host=HOST, stream=stream)
        sottovoce.compress(model, self.recipe(tmp_path / "scores.json"), host=HOST)
        again = stored(sottovoce.save(model, tmp_path / "out", host=HOST))
        scores, whole = read_saliency(tmp_path / "scores.json"), stored(source)
        for name in MIXTURES:
            for place, number in enumerate(sorted(ranking(scores[name].score("reap"))[:5])):
                for layer in ("gate_proj", "up_proj", "down_proj"):
                    assert again[f"{name}.{place}.{layer}.weight"].equal(whole[f"{name}.{number}.{layer}.weight"])

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "cannot be read"),
            ("", "not a saliency file"),
            ("{}", "not a saliency file of the format"),
            ('{"format": "sottovoce-saliency-1", "layers": {"a": {}}}', "a: not valid saliency"),
            ('{"format": "sottovoce-saliency-1", "layers": {}}', r"has nothing on 'model\.layers\.0\.mlp\.experts'"),
        ],
        ids=["missing", "empty", "other", "damaged", "nothing"],
    )
    def test_a_file_that_is_none_is_refused_before_any_work(
        self, content: str | None, problem: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "scores.json"
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr("sottovoce.calibration.runner.run_blocks", None)
        with pytest.raises(SourceError, match=problem) as caught:
            sottovoce.compress(sottovoce.load(source, host=HOST), self.recipe(path), host=HOST)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_those_of_another_model_are_refused(self, source: Path, reap: Path, tmp_path: Path) -> None:
        other = make_model(tmp_path / "other", num_experts=6)
        with pytest.raises(SourceError, match=r"has 8 experts of 'model\.layers\.0\.mlp\.experts', which has 6"):
            sottovoce.compress(sottovoce.load(other, host=HOST), self.recipe(reap / "saliency.json"), host=HOST)


def test_the_written_saliency_is_what_was_measured(reap: Path) -> None:
    measured = read_saliency(reap / "saliency.json")
    assert list(measured) == MIXTURES
    assert all(isinstance(one, Saliency) and one.experts == EXPERTS for one in measured.values())
    per_token = {one.tokens / TOP_K for one in measured.values()}
    assert per_token == {7 * 40}


def test_a_model_of_another_layout_is_refused() -> None:
    from sottovoce.errors import CoverageError
    from sottovoce.runtime.experts import unfuse_

    native = make_native()
    mixture = native.get_submodule(MIXTURES[1])
    mixture.down_proj = nn.Parameter(mixture.down_proj.detach().transpose(1, 2).contiguous())
    facts = Qwen3MoePlugin().facts
    with pytest.raises(CoverageError, match=r"the experts 'model\.layers\.1\.mlp\.experts' \(Qwen3MoeExperts\)"):
        unfuse_(native, facts.experts)
