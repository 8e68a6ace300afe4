"""A mistake in a family's description is an error that says where it is and what belongs there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import sottovoce
from core.toy import ToyPlugin, architecture, forward, make_host, predict
from sottovoce import Architecture, Layers, Model, Runner, Sample, ScalePair
from sottovoce.errors import SourceError

LAYERS = Layers(targets=("Linear",))


def runner(**changes: Any) -> Runner:
    functions = {"forward": forward, "predict": predict, "probe": lambda model: Sample(key="probe", text="a")}
    return Runner(**(functions | changes))


@pytest.mark.parametrize(
    ("describe", "message"),
    [
        (lambda: Layers(target=("Linear",)), "Layers.*unexpected keyword argument 'target'"),  # type: ignore[call-arg]
        (lambda: Layers(targets="Linear"), r"Layers.targets takes a tuple.*write \('Linear',\)"),  # type: ignore[arg-type]
        (lambda: Layers(targets=(), blocks="re:b"), r"Layers.blocks takes a tuple.*write \('re:b',\)"),  # type: ignore[arg-type]
        (lambda: Layers(targets=(), scale_pairs={"b": (("norm", ("up",)),)}), r"takes ScalePair\(source, consumers\)"),  # type: ignore[dict-item]
        (lambda: ScalePair("norm", "up"), r"ScalePair.consumers takes a tuple.*write \('up',\)"),  # type: ignore[arg-type]
        (lambda: Runner(forward=forward, predict=predict), "Runner.*missing.*'probe'"),  # type: ignore[call-arg]
        (lambda: runner(predict="module:predict"), "Runner.predict takes a function.*sottovoce.lazy"),
        (lambda: runner(rewire=len), "Runner.*unexpected keyword argument 'rewire'"),
        (
            lambda: Architecture(name="a", matches=("A",), layers={}, runner=runner()),  # type: ignore[arg-type]
            r"Architecture.layers takes sottovoce.Layers, not {}",
        ),
        (
            lambda: Architecture(name="a", matches="A", layers=LAYERS, runner=runner()),  # type: ignore[arg-type]
            r"Architecture.matches takes a tuple.*write \('A',\)",
        ),
        (lambda: Architecture(name="a", matches=("A",), layers=LAYERS), "Architecture.*missing.*'runner'"),  # type: ignore[call-arg]
    ],
)
def test_mistake_in_a_description_is_named(describe: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        describe()


def test_plugin_whose_description_fails_is_skipped_with_its_mistake() -> None:
    class Mistaken:
        @sottovoce.hookimpl
        def sottovoce_architectures(self) -> list[Architecture]:
            return [Architecture(name="a", matches=("A",), layers=LAYERS)]  # type: ignore[call-arg]

    host = make_host(ToyPlugin(), Mistaken())
    with pytest.warns(UserWarning, match="plugin-1 is skipped: TypeError.*'runner'"):
        assert set(host.architectures) == {"toy"}


def test_error_of_a_library_becomes_the_model_s_error(tmp_path: Any) -> None:
    from core.toy import make_model

    def broken(model: Model, sample: Sample) -> Any:
        raise RuntimeError("shapes do\nnot fit")

    model = sottovoce.load(make_model(tmp_path / "toy"), host=make_host(ToyPlugin(forward=broken)))
    with pytest.raises(SourceError, match="the model does not run on the sample 'a'.*shapes do not fit"):
        model.architecture.runner.forward(model, Sample(key="a", text="a"))


def test_functions_that_run_no_model_are_not_wrapped() -> None:
    def kinds(model: Model, sample: Sample, block: str) -> list[str]:
        return ["text"]

    assert architecture(modalities=kinds).runner.modalities is kinds
