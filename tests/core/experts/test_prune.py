"""The pruning step on a small mixture of two parts, block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core import toy
from core.drawn import normal
from core.mixtures import Mixture, make_mixture
from sottovoce import Model, Sample, Source
from sottovoce.architecture import ExpertLayout
from sottovoce.calibration.blocks import Block
from sottovoce.calibration.held_out import held_out_keys
from sottovoce.errors import CoverageError, PluginError, RecipeError, SamplesError, SourceError
from sottovoce.experts.prune import PruneExpertsRunner
from sottovoce.experts.saliency import Saliency, write_saliency
from sottovoce.experts.selection import choose_experts
from sottovoce.experts.step import PruneExperts

LAYOUTS = (
    ExpertLayout(part="reader", experts=r"re:reader\.\d+\.mlp\.experts", count="reader_config.num_experts"),
    ExpertLayout(
        part="speaker", experts=r"re:speaker\.\d+\.mlp\.experts", count="speaker_config.num_experts", pruned=False
    ),
)


class Layer(nn.Module):
    def __init__(self, seed: int, experts: int, norm_topk_prob: bool) -> None:
        super().__init__()
        self.mlp = make_mixture(experts, seed=seed, norm_topk_prob=norm_topk_prob)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(x) / 50  # type: ignore[no-any-return]


class Reader(nn.ModuleList):
    num_experts = 8

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__(layers)
        self.num_experts = 8


class Two(nn.Module):
    """A part of eight experts a layer, and one of six whose gates are not divided by their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = Reader([Layer(seed, 8, True) for seed in range(3)])
        self.speaker = nn.ModuleList(Layer(seed, 6, False) for seed in (7, 8))


def kinds(model: Model, sample: Sample, block: str) -> list[str]:
    return ["audio" if place % 3 == 0 else "text" for place in range(20)]


def make_model(**changes: Any) -> Model:
    facts: dict[str, Any] = {"experts": LAYOUTS, "modalities": kinds, "parts": {"reader": r"re:reader\..*"}}
    architecture = toy.architecture(**(facts | changes))
    config = SimpleNamespace(
        reader_config=SimpleNamespace(num_experts=8), speaker_config=SimpleNamespace(num_experts=6)
    )
    source = Source(name="two", directory=Path())
    return Model(module=Two().eval(), native=SimpleNamespace(config=config), architecture=architecture, source=source)


class SampleThread:
    """A sample thread that waits at a block."""

    def __init__(self, number: int) -> None:
        self.sample = Sample(key=f"sample-{number}", text="a")
        self.x = normal(1, 20, 16, seed=number)

    @contextmanager
    def computed(self, module: nn.Module) -> Iterator[Tensor]:
        with torch.inference_mode():
            yield module(self.x)


def block_of(model: Model, name: str, sample_threads: Sequence[SampleThread]) -> Block:
    return Block(name, model.module, sample_threads)  # type: ignore[arg-type]


def prune(
    model: Model, step: PruneExperts, sample_threads: int = 10, speakers: int = 10
) -> tuple[PruneExpertsRunner, dict[str, Any]]:
    """Process all blocks as the runner does; facts are kept as JSON."""
    work = PruneExpertsRunner(model, model.architecture, step)
    work.on_start()
    facts: dict[str, Any] = {}
    for part, count in (("reader", sample_threads), ("speaker", speakers)):
        waiting = [SampleThread(number) for number in range(count)]
        for number in range(len(model.module.get_submodule(part))):  # type: ignore[arg-type]
            name = f"{part}.{number}"
            facts[name] = json.loads(json.dumps(work.process_block(block_of(model, name, waiting)), allow_nan=False))
            for sample_thread in waiting:
                with sample_thread.computed(model.module.get_submodule(name)) as output:
                    sample_thread.x = output.clone()
    return work, facts


def mixture(model: Model, name: str) -> Mixture:
    found = model.module.get_submodule(f"{name}.mlp")
    assert isinstance(found, Mixture)
    return found


def test_every_layer_of_a_part_keeps_the_same_number() -> None:
    model = make_model()
    work, facts = prune(model, PruneExperts(keep=0.5))
    report = work.on_end()
    for number in range(3):
        fact = facts[f"reader.{number}"]["layers"][f"reader.{number}.mlp.experts"]
        assert len(fact["kept"]) == len(mixture(model, f"reader.{number}").experts) == 4
        assert mixture(model, f"reader.{number}").gate.weight.shape == (4, 16)
        assert 0 < fact["routed_share"]["all"] < 1
        assert fact["damage"]["error"] > 0
        assert fact["damage"]["held_out"]
        assert fact["gate_growth"] is None
    assert facts["speaker.0"] == {"layers": {}}
    assert len(mixture(model, "speaker.0").experts) == 6
    assert [target.name for target in report.targets] == [f"reader.{number}.mlp.experts" for number in range(3)]
    assert report.targets[0].parameters == 4 * (3 * 16 * 12 + 16)
    assert [kept.name for kept in report.kept] == [f"speaker.{number}.mlp.experts" for number in range(2)]
    assert report.coverage is not None
    assert 0 < report.coverage.ratio < 0.5
    json.dumps(report.to_dict(), allow_nan=False)


def test_configuration_and_modules_get_the_new_number_of_experts() -> None:
    model = make_model()
    work, _ = prune(model, PruneExperts(keep=3, parts={"speaker": {"keep": 5}}))  # type: ignore[dict-item]
    assert model.native.config.reader_config.num_experts == 8
    work.on_end()
    assert model.native.config.reader_config.num_experts == model.module.reader.num_experts == 3
    assert model.native.config.speaker_config.num_experts == 5
    assert mixture(model, "reader.1").num_experts == mixture(model, "reader.1").gate.num_experts == 3
    assert mixture(model, "speaker.1").num_experts == 5


def test_report_details_every_layer() -> None:
    model = make_model(experts=tuple(replace(layout, protect={"audio": 0.25}) for layout in LAYOUTS))
    work, _ = prune(model, PruneExperts(keep=0.5))
    details = work.on_end().details
    assert details["parts"] == {"reader": {"experts": 8, "kept": 4, "saliency": "reap", "layers": 3}}
    layer = details["layers"]["reader.1.mlp.experts"]
    assert set(layer["scores"]) == set(layer["routed_share"]) == {"all", "text", "audio"}
    assert len(layer["scores"]["audio"]) == 8
    assert len(layer["protected"]["audio"]) == 2
    assert set(layer["protected"]["audio"]) <= set(layer["kept"])
    assert "saliency" not in layer
    assert "held_out" in layer["damage"]


def test_later_layers_are_measured_on_pruned_earlier_ones() -> None:
    pruned, whole = make_model(), make_model()
    work, _ = prune(pruned, PruneExperts(keep=2))
    other, _ = prune(whole, PruneExperts(keep=8))
    first, second = "reader.0.mlp.experts", "reader.1.mlp.experts"
    assert work.saliency[first].to_dict() == other.saliency[first].to_dict()
    assert work.saliency[second].to_dict() != other.saliency[second].to_dict()
    assert other.on_end().details["layers"][second]["damage"]["error"] == 0


def test_part_with_its_own_budget_keeps_it() -> None:
    model = make_model()
    step = PruneExperts.model_validate({"keep": 0.5, "reader": False, "speaker": {"keep": 4, "saliency": "frequency"}})
    work, facts = prune(model, step)
    assert len(mixture(model, "reader.0").experts) == 8
    for number in range(2):
        name = f"speaker.{number}.mlp.experts"
        assert work.kept[name] == choose_experts(work.saliency[name], 4, "frequency").kept
        assert facts[f"speaker.{number}"]["layers"][name]["gate_growth"] > 1


def test_grown_gate_values_are_rescaled() -> None:
    model, whole = make_model(), make_model()
    work, facts = prune(model, PruneExperts.model_validate({"reader": False, "speaker": {"keep": 3}}))
    layer = "speaker.0.mlp.experts"
    old = mixture(whole, "speaker.0").experts[work.kept[layer][0]].down_proj.weight
    new = mixture(model, "speaker.0").experts[0].down_proj.weight
    factor = float((new / old).mean())
    assert factor < 1
    assert torch.allclose(new, old * factor)
    assert facts["speaker.0"]["layers"][layer]["gate_growth"] > 1


def test_merge_averages_removed_experts() -> None:
    model, whole = make_model(), make_model()
    work, facts = prune(model, PruneExperts(keep=3, merge=True))
    fact = facts["reader.0"]["layers"]["reader.0.mlp.experts"]
    assert sorted({*map(int, fact["merged_into"]), *fact["kept"]}) == list(range(8))
    assert set(fact["merged_into"].values()) <= set(fact["kept"])
    homes = set(fact["merged_into"].values())
    for place, number in enumerate(work.kept["reader.0.mlp.experts"]):
        new, old = (one.experts for one in (mixture(model, "reader.0"), mixture(whole, "reader.0")))
        assert new[place].gate_proj.weight.equal(old[number].gate_proj.weight) == (number not in homes)


@pytest.mark.parametrize("sample_threads", [2, 10])
def test_block_is_restored_from_its_facts(sample_threads: int) -> None:
    step = PruneExperts.model_validate({"keep": 3, "speaker": {"keep": 4}})
    done, again = make_model(), make_model().module.to("meta")
    work, facts = prune(done, step, sample_threads)
    model = make_model()
    model.module = again
    taken = PruneExpertsRunner(model, model.architecture, step)
    for name, fact in facts.items():
        taken.restore_block(name, fact)
        again.get_submodule(name).load_state_dict(done.module.get_submodule(name).state_dict(), assign=True)
    assert taken.kept == work.kept
    assert taken.on_end().details == work.on_end().details
    assert model.native.config == done.native.config
    x = normal(1, 20, 16)
    assert mixture(model, "reader.2")(x).equal(mixture(done, "reader.2")(x))


def test_interrupted_work_resumes_with_the_same_result(tmp_path: Path) -> None:
    done = make_model()
    work, facts = prune(done, PruneExperts(keep=4))
    model = make_model()
    taken = PruneExpertsRunner(model, model.architecture, PruneExperts(keep=4))
    waiting = [SampleThread(number) for number in range(10)]
    for number in range(3):
        name = f"reader.{number}"
        if number < 2:
            taken.restore_block(name, facts[name])
            model.module.get_submodule(name).load_state_dict(done.module.get_submodule(name).state_dict())
        else:
            assert json.loads(json.dumps(taken.process_block(block_of(model, name, waiting)))) == facts[name]
        for sample_thread in waiting:
            with sample_thread.computed(model.module.get_submodule(name)) as output:
                sample_thread.x = output.clone()
    assert taken.kept == work.kept


def test_scores_file_replaces_samples(tmp_path: Path) -> None:
    # Nothing is pruned while it is measured, as a file for several budgets is made.
    measured, _ = prune(make_model(), PruneExperts.model_validate({"keep": 8, "speaker": {"keep": 6}}))
    path = tmp_path / "saliency.json"
    write_saliency(path, measured.saliency)
    step = PruneExperts.model_validate({"keep": 4, "scores": str(path), "speaker": {"keep": 3}, "merge": True})
    assert not step.needs_samples
    model = make_model()
    work, facts = prune(model, step, sample_threads=0, speakers=0)
    for name, found in measured.saliency.items():
        assert work.kept[name] == choose_experts(found, 4 if "reader" in name else 3).kept
    report = work.on_end()
    assert facts["reader.0"]["layers"]["reader.0.mlp.experts"]["damage"] is None
    growth = "the gate values of the remaining experts have grown; rescaling them needs samples"
    assert report.notes == tuple(f"speaker.{number}.mlp.experts: {growth}" for number in range(2))


def test_scores_file_without_a_layer_is_refused(tmp_path: Path) -> None:
    measured, _ = prune(make_model(), PruneExperts(keep=8))
    path = tmp_path / "saliency.json"
    found: dict[str, Saliency] = measured.saliency
    step = PruneExperts(keep=4, scores=str(path))
    found["reader.1.mlp.experts"] = Saliency.from_dict(
        {"modalities": ["text"], "largest": [1, 1]} | dict.fromkeys(("count", "gate", "norm", "gated_norm"), [[1, 1]])
    )
    write_saliency(path, found)
    model = make_model()
    with pytest.raises(SourceError, match=r"has 2 experts of 'reader.1.mlp.experts', which has 8"):
        PruneExpertsRunner(model, model.architecture, step)
    del found["reader.1.mlp.experts"]
    write_saliency(path, found)
    with pytest.raises(SourceError, match=r"has nothing on 'reader.1.mlp.experts'"):
        PruneExpertsRunner(model, model.architecture, step)


def test_meta_model_is_pruned_to_its_size() -> None:
    model = make_model()
    model.module.to("meta")
    work, _ = prune(model, PruneExperts(keep=0.25), sample_threads=0, speakers=0)
    report = work.on_end()
    assert len(mixture(model, "reader.0").experts) == 2
    assert report.targets[0].parameters == 6 * (3 * 16 * 12 + 16)
    assert report.details["layers"]["reader.0.mlp.experts"]["kept"] == [0, 1]


def test_experts_without_samples_are_refused() -> None:
    with pytest.raises(
        SamplesError, match=r"no sample reaches the experts 'speaker.0.mlp.experts'.*\(speaker: false\)"
    ):
        prune(make_model(), PruneExperts.model_validate({"speaker": {"keep": 3}}), speakers=0)


def test_single_sample_is_used_for_choice_and_evaluation() -> None:
    work, facts = prune(make_model(), PruneExperts(keep=0.5), sample_threads=1)
    damage = facts["reader.0"]["layers"]["reader.0.mlp.experts"]["damage"]
    assert damage["error"] > 0
    assert not damage["held_out"]
    work, facts = prune(make_model(), PruneExperts(keep=0.5, held_out=0))
    assert facts["reader.0"]["layers"]["reader.0.mlp.experts"]["damage"] is None


def test_model_without_modalities_is_pruned() -> None:
    work, facts = prune(make_model(modalities=None), PruneExperts(keep=0.5))
    assert list(facts["reader.0"]["layers"]["reader.0.mlp.experts"]["routed_share"]) == ["all"]


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"keep": 1}, "keep between 2 and 8"),
        ({"keep": 9}, "keep between 2 and 8"),
        ({"keep": 8, "speaker": {"keep": 7}}, "keep between 2 and 6"),
        ({"speker": {"keep": 4}}, "no part 'speker' has experts; those that have are reader, speaker"),
        ({"speker": False}, "no part 'speker' has experts"),
    ],
)
def test_impossible_step_is_refused_before_any_change(step: dict[str, Any], problem: str) -> None:
    model = make_model()
    with pytest.raises(RecipeError, match=problem):
        PruneExpertsRunner(model, model.architecture, PruneExperts.model_validate(step))
    assert model.native.config.reader_config.num_experts == 8


def test_model_without_the_part_is_refused() -> None:
    model = make_model()
    del model.module.speaker
    with pytest.raises(RecipeError, match="the part 'speaker' of this model has no experts"):
        PruneExpertsRunner(model, model.architecture, PruneExperts.model_validate({"speaker": {"keep": 3}}))
    PruneExpertsRunner(model, model.architecture, PruneExperts.model_validate({"speaker": False}))
    del model.module.reader
    with pytest.raises(RecipeError, match="toy has no experts; leave the step out"):
        PruneExpertsRunner(model, model.architecture, PruneExperts())


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        ({"count": "reader_config.experts"}, "the configuration has no 'reader_config.experts'"),
        ({"count": "no_config.num_experts"}, "the configuration has no 'no_config.num_experts'"),
        ({"count": "speaker_config.num_experts"}, "speaker_config.num_experts is 6, and 'reader.0.mlp.experts' has 8"),
        ({"router": "router"}, "'reader.0.mlp.experts' has no router 'router'"),
    ],
)
def test_layout_that_does_not_fit_is_refused(layout: dict[str, str], problem: str) -> None:
    facts: dict[str, Any] = {"part": "reader", "experts": LAYOUTS[0].experts, "count": LAYOUTS[0].count, **layout}
    model = make_model(experts=(ExpertLayout(**facts),))
    with pytest.raises(PluginError, match=problem):
        PruneExpertsRunner(model, model.architecture, PruneExperts())


def test_pruning_a_layer_twice_is_refused() -> None:
    model = make_model()
    two = [PruneExpertsRunner(model, model.architecture, PruneExperts(keep=keep)) for keep in (6, 4)]
    block = block_of(model, "reader.0", [SampleThread(0)])
    two[0].process_block(block)
    with pytest.raises(CoverageError, match="an earlier step removed experts from 'reader.0.mlp.experts'"):
        two[1].process_block(block)


@pytest.mark.parametrize(
    ("count", "share", "want"),
    [(0, 0.1, []), (1, 0.5, []), (2, 0.1, [1]), (10, 0.1, [5]), (10, 0.3, [1, 5, 8]), (9, 0, [])],
)
def test_held_out_samples_are_evenly_spread(count: int, share: float, want: list[int]) -> None:
    keys = [str(number) for number in range(count)]
    assert held_out_keys(keys, share) == {str(number) for number in want}
