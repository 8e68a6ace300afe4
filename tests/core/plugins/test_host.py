"""Finding, isolating and calling plugins."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click
import pytest

import sottovoce
from core.commands import host_runner
from core.distributions import install
from core.toy import ToyPlugin, architecture, make_host, make_model
from sottovoce import Metric, Recipe, Sample, Samples, Step, StepReport
from sottovoce.errors import PluginError, RecipeError, UnknownModelError, UsageError
from sottovoce.formats.format import labels
from sottovoce.metrics.kinds import metric_kinds
from sottovoce.plugins.host import Host, PluginWarning
from sottovoce.quantization.method import methods
from sottovoce.recipe.presets import PRESETS
from sottovoce.recipe.step import step_classes
from sottovoce.text.translations import Text

GOOD = """
import sottovoce
from sottovoce import Architecture, Layers, Runner
def nothing(*arguments): raise RuntimeError
@sottovoce.hookimpl
def sottovoce_architectures():
    runner = Runner(forward=nothing, predict=nothing, probe=nothing)
    return [Architecture(name="NAME", matches=("CLASS",), layers=Layers(targets=("x",)), runner=runner)]
"""


class Halve(Step):
    factor: float = 0.5


def test_hook_sottovoce_architectures() -> None:
    other = ToyPlugin(name="other", matches=("Other",))
    assert set(make_host(ToyPlugin(), other).architectures) == {"toy", "other"}


def test_hook_sottovoce_load(tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "toy"), host=make_host())
    assert type(model.module).__name__ == "Toy"


def test_hook_sottovoce_compress(tmp_path: Path) -> None:
    class Halver:
        @sottovoce.hookimpl
        def sottovoce_compress(self, step, model):
            if not isinstance(step, Halve):
                return None
            for parameter in model.module.parameters():
                parameter.data *= step.factor
            return StepReport(step=step.to_dict())

    host = make_host(ToyPlugin(), Halver())
    model = sottovoce.load(make_model(tmp_path / "toy"), host=host)
    before = model.module.head.weight.clone()
    report = sottovoce.compress(model, {"steps": [{"step": "halve", "factor": 0.25}]}, host=host)
    summary = Text(en="Applied the step halve.", zh="执行了步骤 halve。")
    assert report.to_dict()["steps"] == [StepReport(step={"step": "halve", "factor": 0.25}, summary=summary).to_dict()]
    assert model.module.head.weight.equal(before * 0.25)


def test_hook_sottovoce_export(tmp_path: Path) -> None:
    class Text:
        @sottovoce.hookimpl
        def sottovoce_export(self, model, format, directory):
            if format != "text":
                return None
            (directory / "model.txt").write_text(type(model.module).__name__)
            return directory

    host = make_host(ToyPlugin(), Text())
    written = sottovoce.export(make_model(tmp_path / "toy"), "text", tmp_path / "out", host=host)
    assert (written / "model.txt").read_text() == "Toy"
    with pytest.raises(UsageError, match="writes toy as 'braille'"):
        sottovoce.export(tmp_path / "toy", "braille", tmp_path / "out2", host=host)
    assert not (tmp_path / "out2").exists()


def test_hook_sottovoce_evaluate(tmp_path: Path) -> None:
    class Vowels:
        @sottovoce.hookimpl
        def sottovoce_evaluate(self, samples, run):
            count = sum(token in "ae" for prediction in run.predictions for token in prediction.tokens)
            return [Metric(name="vowels", value=count, unit="tokens")]

    host = make_host(ToyPlugin(), Vowels())
    samples = Samples((Sample(key="1", text="abc"),))
    report = sottovoce.evaluate(make_model(tmp_path / "toy"), samples, host=host)
    assert report.metrics["vowels"].value is not None
    assert {"cer", "size_bytes", "latency_ms"} < set(report.metrics)


def test_verb_is_called_on_owning_and_unowning_plugins_only(tmp_path: Path) -> None:
    class Greedy(ToyPlugin):
        @sottovoce.hookimpl(tryfirst=True)
        def sottovoce_load(self, source, architecture, options):
            raise AssertionError("asked for another family's model")

    host = make_host(ToyPlugin(), Greedy(name="other", matches=("Other",)))
    assert sottovoce.load(make_model(tmp_path / "toy"), host=host).architecture.name == "toy"


def test_hook_sottovoce_commands() -> None:
    host = make_host(ToyPlugin(), Commanding("count"), Commanding("list"))
    commands = host.commands(("compress",))
    assert {name: command.help for name, command in commands.items()} == {"count": "Do count.", "list": "Do list."}


class Commanding:
    """A plugin with a command of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    @sottovoce.hookimpl
    def sottovoce_commands(self) -> Iterable[click.Command]:
        return [click.Command(self.name, help=f"Do {self.name}.", callback=lambda: click.echo(f"done {self.name}"))]


def test_command_of_two_plugins_is_an_error_that_names_both() -> None:
    host = make_host(Commanding("count"), Commanding("count"))
    with pytest.raises(PluginError, match="the command 'count' is claimed by plugin-0 and plugin-1"):
        host.commands()


def test_command_with_a_core_name_is_an_error_that_names_both() -> None:
    host = make_host(Commanding("compress"))
    with pytest.raises(PluginError, match="the command 'compress' of plugin-0 is a command of sottovoce itself"):
        host.commands(("compress", "demo"))


def test_command_of_a_later_plugin_is_listed() -> None:
    host = make_host(Commanding("count"))
    assert list(host.commands()) == ["count"]
    host.register(Commanding("list"), "later")
    assert set(host.commands()) == {"count", "list"}


def test_plugin_that_is_added_again_replaces_the_earlier_one() -> None:
    host = make_host(Commanding("count"))
    for name in ("list", "show"):
        host.register(Commanding(name), "notebook")
    assert set(host.commands()) == {"count", "show"}


def test_plugin_with_the_name_of_an_installed_one_is_refused_and_takes_nothing_away() -> None:
    host = Host(allow=())
    assert not host.has_added
    with pytest.raises(PluginError, match=r"the plugin name 'sottovoce\.metrics\.cost' is taken; give another"):
        host.register(Commanding("list"), "sottovoce.metrics.cost")
    assert "list" not in host.commands()
    assert not host.has_added


def test_a_single_name_of_a_plugin_is_not_read_letter_by_letter() -> None:
    assert [plugin.name for plugin in Host("paraformer").plugins] == ["paraformer"]


@pytest.mark.parametrize("answer", ["count", print, None])
def test_result_that_is_not_a_command_skips_the_plugin(answer: object) -> None:
    class Mistaken:
        @sottovoce.hookimpl
        def sottovoce_commands(self) -> list[object]:
            return [answer]

    host = make_host(Mistaken(), Commanding("count"))
    with pytest.warns(
        PluginWarning, match="plugin-0 is skipped: TypeError: sottovoce_commands gave .*not of type Command"
    ):
        assert list(host.commands()) == ["count"]


@pytest.mark.parametrize("changes", [{"matches": ("Mine",)}, {"name": "mine"}])
def test_family_of_two_owners_is_an_error_that_names_both(changes: dict[str, object]) -> None:
    host = make_host(ToyPlugin(), ToyPlugin(**changes))
    with pytest.raises(PluginError, match=r"claimed by plugin-0 and plugin-1"):
        _ = host.architectures


def test_unknown_hook_is_an_error() -> None:
    class Misspelt:
        @sottovoce.hookimpl
        def sottovoce_architecture(self):
            return []

    with pytest.raises(PluginError, match="sottovoce_architecture"):
        make_host(Misspelt())


def test_unknown_hook_argument_is_an_error() -> None:
    class Wrong:
        @sottovoce.hookimpl
        def sottovoce_load(self, path):
            return None

    with pytest.raises(PluginError, match="path"):
        make_host(Wrong())


def test_entry_point_plugin_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "found_plugin", GOOD.replace("NAME", "found").replace("CLASS", "Found"), monkeypatch)
    host = Host(allow=["found_plugin"])
    assert list(host.architectures) == ["found"]
    assert [(plugin.distribution, plugin.version) for plugin in host.plugins] == [("found_plugin", "1.0")]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("raise SystemError('no')", "SystemError: no"),
        ("def", "SyntaxError"),
        (GOOD.replace("targets", "target"), "TypeError"),
        (GOOD.replace("def sottovoce_architectures", "def sottovoce_everything"), "PluginError"),
    ],
)
def test_broken_plugin_is_skipped_with_a_warning(
    code: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{abs(hash(code))}"
    install(tmp_path, name, code, monkeypatch)
    install(tmp_path, "sound_plugin", GOOD.replace("NAME", "sound").replace("CLASS", "Sound"), monkeypatch)
    with pytest.warns(PluginWarning, match=name):
        host = Host(allow=[name, "sound_plugin"])
        assert list(host.architectures) == ["sound"]
    broken = next(plugin for plugin in host.plugins if plugin.name == name)
    assert problem in (broken.error or "")
    with pytest.raises(UnknownModelError, match=f"{name} is installed but failed"):
        host.owner_of("Missing")


def test_environment_variable_limits_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "wanted_plugin", GOOD.replace("NAME", "wanted").replace("CLASS", "Wanted"), monkeypatch)
    install(tmp_path, "other_plugin", GOOD.replace("NAME", "other").replace("CLASS", "Other"), monkeypatch)
    monkeypatch.setenv("SOTTOVOCE_PLUGINS", " wanted_plugin ,")
    assert list(Host().architectures) == ["wanted"]
    assert "other_plugin" not in sys.modules
    monkeypatch.setenv("SOTTOVOCE_PLUGINS", "")
    assert not Host().architectures


def test_unknown_class_names_the_plugin_to_install() -> None:
    published = "Qwen3OmniMoeForConditionalGeneration"
    with pytest.raises(UnknownModelError, match=r"\. \./plugins/omni-moe in a clone of .*; known here: Toy"):
        make_host().owner_of(published)


def test_plugin_presets_are_listed() -> None:
    host = make_host(ToyPlugin(presets={"toy-tail": {"steps": [{"step": "quantize", "targets": ["blocks.1"]}]}}))
    assert set(host.presets) == {*PRESETS, "toy-tail"}
    assert host.recipe("toy-tail").steps[0].targets == ("blocks.1",)  # type: ignore[attr-defined]
    with pytest.raises(PluginError, match="int8"):
        _ = make_host(ToyPlugin(presets={"int8": {"steps": [{"step": "quantize"}]}})).presets


def test_recipe_is_a_name_file_or_mapping(tmp_path: Path) -> None:
    host = make_host()
    path = tmp_path / "mine.yaml"
    path.write_text(host.presets["int8"].to_yaml())
    expected = host.presets["int8"].steps
    forms = ("int8", path, str(path), {"steps": [{"step": "quantize", "method": "squant"}]}, Recipe(steps=expected))
    assert all(host.recipe(form).steps == expected for form in forms)
    with pytest.raises(RecipeError, match=r"unknown recipe 'int9' \(did you mean int8\?\); presets: int8"):
        host.recipe("int9")


def test_core_code_names_no_model_family() -> None:
    import re

    root = Path(sottovoce.__file__).parent
    named = [path for path in root.rglob("*.py") if re.search(r"paraformer|qwen|sanm|omni", path.read_text(), re.I)]
    assert not named
    assert architecture().name == "toy"


HALF = """
from sottovoce import Format, Method, MetricKind, Step, Text, method

class HalfStep(Step):
    pass

@method("half")
class Half(Method):
    label = description = Text(en="half")

MetricKind(name="half", label=Text(en="half"), description=Text(en="half"))

class HalfFormat(Format):
    name = "half"
    label = Text(en="half")
    def write(self, model, directory): pass
    def check(self, directory): pass

raise RuntimeError("half way")
"""


def test_skipped_plugin_leaves_nothing_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "halfway", HALF, monkeypatch)
    with pytest.warns(PluginWarning, match="halfway is skipped: RuntimeError: half way"):
        Host(allow=("halfway",))
    assert "half_step" not in step_classes()
    assert "half" not in methods()
    assert "half" not in metric_kinds()
    assert "half" not in labels()
    assert {"quantize", "prune_experts"} <= step_classes().keys()
    assert "gptq" in methods()


def test_unknown_name_in_the_allowed_plugins_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_PLUGINS", "parafomer")
    with pytest.raises(PluginError, match="SOTTOVOCE_PLUGINS: no plugin 'parafomer' is installed; installed are: .*"):
        Host()


def test_misspelt_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown recipe 'int9' \(did you mean int"):
        Host(allow=()).recipe("int9")


def test_plugin_that_ends_the_process_when_it_is_imported_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "leaving_plugin", "import sys; sys.exit(3)", monkeypatch)
    with pytest.warns(PluginWarning, match="leaving_plugin is skipped: SystemExit: 3"):
        host = Host(allow=("leaving_plugin",))
    assert host.plugins[0].error == "SystemExit: 3"


def test_error_that_a_plugin_s_code_raises_is_called_its_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sottovoce.cli.failure import explain

    install(tmp_path, "buggy_plugin", "def fail(): raise ValueError('one\\ntwo')", monkeypatch)
    import buggy_plugin  # type: ignore[import-not-found]

    with pytest.raises(ValueError) as caught:
        buggy_plugin.fail()
    assert "ValueError: one two; this is a bug of the plugin buggy_plugin" in explain(caught.value)


def test_two_plugins_with_one_command_leave_the_list_of_plugins_whole(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Commanding:
        @sottovoce.hookimpl
        def sottovoce_commands(self):
            return [click.Command("same")]

    run = host_runner(monkeypatch, capfd, make_host(ToyPlugin(), Commanding(), Commanding()))
    done = run("plugins")
    assert done.code == 0
    assert "quantize" in done.out
    assert done.err.startswith("warning: no plugin's command is listed: the command 'same' is claimed by plugin-")
    run("same").fails(1, "the command 'same' is claimed by")
