"""The divergence of a changed model from the one before, at the reference's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sottovoce
from core.toy import ToyPlugin, forward, make_host, make_model
from sottovoce import Model, Sample
from sottovoce.calibration.reference import Reference
from sottovoce.errors import SamplesError

SAMPLES = (Sample(key="a", text="abcabc"), Sample(key="b", text="hgfedcba"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("toy"))


def changed(source: Path, by: float = 0.1) -> Model:
    model = sottovoce.load(source, host=make_host())
    with torch.no_grad():
        model.module.get_submodule("head").weight.add_(by * torch.eye(8, 32))  # type: ignore[operator, arg-type]
    return model


def test_divergence_of_the_same_model_is_zero(source: Path) -> None:
    model = sottovoce.load(source, host=make_host())
    assert Reference(model, SAMPLES).divergence(model)["all"] == pytest.approx(0.0, abs=1e-6)


def test_divergence_is_the_mean_over_all_tokens(source: Path) -> None:
    model, other = sottovoce.load(source, host=make_host()), changed(source)
    total = 0.0
    with torch.inference_mode():
        for sample in SAMPLES:
            before, after = (forward(side, sample).log_softmax(-1) for side in (model, other))
            total += float((before.exp() * (before - after)).sum())
    reference = Reference(model, SAMPLES)
    assert (len(reference), reference.positions) == (2, 14)
    assert reference.divergence(other) == {"all": pytest.approx(total / 14, rel=1e-4)}


def test_kinds_of_conversations_are_kept_apart(source: Path) -> None:
    def answer(model: Model, sample: Sample) -> torch.Tensor:
        return forward(model, Sample(key="x", text=str(sample.messages[0]["content"])))

    host = make_host(ToyPlugin(answer_logits=answer))
    model = sottovoce.load(source, host=host)
    other = changed(source)
    other.architecture = model.architecture
    talks = [
        Sample(key=kind, messages=({"role": "user", "content": text},), modality=kind)
        for kind, text in (("text", "abc"), ("audio", "hg"))
    ]
    means = Reference(model, talks).divergence(other)
    assert means.keys() == {"all", "text", "audio"}
    assert means["all"] == pytest.approx((3 * means["text"] + 2 * means["audio"]) / 5)


def test_changed_model_is_asked_for_as_many_positions_as_the_reference_counts(source: Path) -> None:
    asked: list[int | None] = []

    def counted(model: Model, sample: Sample, positions: int | None) -> torch.Tensor:
        asked.append(positions)
        return forward(model, sample)[:positions]

    host = make_host(ToyPlugin(counted_logits=counted))
    model = sottovoce.load(source, host=host)
    Reference(model, SAMPLES).divergence(model)
    assert asked == [None, None, 6, 8]


def test_samples_without_an_output_are_refused(source: Path) -> None:
    host = make_host(ToyPlugin(answer_logits=lambda model, sample: None))
    model = sottovoce.load(source, host=host)
    with pytest.raises(SamplesError, match="has no output on any of the samples"):
        Reference(model, SAMPLES)
