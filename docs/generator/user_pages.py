"""Pages for users: the command line, recipes, metrics, formats, errors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
import yaml
from pydantic import BaseModel

import sottovoce
from generator.fields import model_fields, submodels
from generator.markdown import WIDTH, as_markdown, filled, first_paragraph, item, paragraphs
from sottovoce import errors
from sottovoce.cli import cli
from sottovoce.cli.command import sections
from sottovoce.formats.format import labels, registered_formats
from sottovoce.metrics.kinds import metric_kinds
from sottovoce.plugins.host import default_host
from sottovoce.quantization.method import Method, methods
from sottovoce.recipe.recipe import step_classes


def cli_page() -> Iterator[str]:
    """Yield the paragraphs of the command line's page."""
    yield "# The command line"
    yield "`sottovoce COMMAND --help` shows the same in a terminal. Exit codes are in [errors](errors.md)."
    context = click.Context(cli, info_name="sottovoce", **cli.context_settings)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if command is None:
            continue
        below = click.Context(command, info_name=name, parent=context)
        yield f"## sottovoce {name}"
        yield from paragraphs(command.help)
        usage = " ".join(["sottovoce", name, *command.collect_usage_pieces(below)])
        yield f"```text\n{usage}\n```"
        for title, records in sections(command, below):
            yield f"**{title}**"
            yield "\n".join(item(f"`{form}`", text) for form, text in records)
        if examples := getattr(command, "examples", ()):
            yield "```text\n" + "\n".join(examples) + "\n```"


def recipes_page() -> Iterator[str]:
    """Yield the paragraphs of the recipes' page."""
    yield "# Recipes"
    yield (
        "A recipe is a YAML or JSON file with `steps` and, if wanted, a `gate`.\n"
        "[Write a recipe](../how-to/write-a-recipe.md) shows one."
    )
    yield "## Presets"
    yield "These are the recipes that have a name, with all defaults written out."
    for name, recipe in default_host().presets.items():
        needs = "It needs calibration samples." if recipe.needs_samples else "It needs no samples."
        yield f"### {name}"
        if recipe.description:
            yield f"Use it when {recipe.description}."
        yield needs
        yield f"```yaml\n{yaml.safe_dump(recipe.to_dict(), sort_keys=False, width=WIDTH).strip()}\n```"
    yield "## Steps"
    nested: dict[str, type[BaseModel]] = {}
    for name, kind in sorted(step_classes().items()):
        yield f"### {name}"
        yield from paragraphs(kind.__doc__)
        yield model_fields(kind)
        for field in kind.model_fields.values():
            nested |= {model.__name__: model for model in submodels(field.annotation)}
    yield "## Quantization methods"
    yield "The step `quantize` takes the name of a method, and the method's options under that name."
    yield methods_list()
    yield "## Settings inside a step"
    nested = {name: model for name, model in nested.items() if model is not Method}
    nested |= {kind.__name__: kind for kind in methods().values() if kind.model_fields}
    for name, model in sorted(nested.items()):
        yield f"### {name}"
        yield from paragraphs(model.__doc__)
        yield model_fields(model)


def methods_list() -> str:
    """Return the list of quantization methods."""
    lines = []
    for name, kind in methods().items():
        lines.append(item(f"`{name}` ({kind.label.en})", kind.description.en))
    return "\n".join(lines)


def metrics_page() -> Iterator[str]:
    """Yield the paragraphs of the metrics' page."""
    yield "# Metrics"
    yield (
        "`evaluate` prints these metrics, each for the models that it fits. A [gate](../how-to/accuracy-gate.md) may\n"
        "limit each of them."
    )
    yield (
        "Metrics that compare with a baseline appear only with `--baseline`. An utterance without a hypothesis counts\n"
        "as deletions. Details, such as counts of errors, are in `evaluation.json` (`--output`) and with `--json`."
    )
    default_host()  # Plugins declare metrics when they are imported.
    for name, kind in sorted(metric_kinds().items()):
        facts = [f"unit {kind.unit}" if kind.unit else "", f"{kind.better} is better" if kind.better else ""]
        facts.append("compares with the baseline" if kind.kind == "against_baseline" else kind.kind)
        yield f"## {name}"
        yield filled(f"{as_markdown(kind.description.en)} ({'; '.join(filter(None, facts))})")
        if kind.suffixes:
            names = ", ".join(f"`{name}_{suffix}`" for suffix in kind.suffixes)
            yield filled(f"Also for one kind of sample: {names}.")


def formats_page() -> Iterator[str]:
    """Yield the paragraphs of the page of export formats."""
    yield "# Export formats"
    yield "`sottovoce export MODEL --format FORMAT --output DIR` writes these formats:"
    yield "\n".join(item(f"`{name}`", str(label)) for name, label in labels().items())
    yield "A format is for some families or tasks. An error lists those that fit the model."
    for format in registered_formats():
        families = ", ".join(f"`{name}`" for name in (*format.architectures, *format.tasks)) or "all models"
        yield f"## {format.name}"
        yield filled(f"{inspect.cleandoc(type(format).__doc__ or '')} For: {families}.")


def errors_page() -> Iterator[str]:
    """Yield the paragraphs of the errors' page."""
    yield "# Errors and exit codes"
    yield "An error on the command line is one line on standard error: what failed, whose it is, and what to do next."
    yield "With `--debug` the traceback is shown as well."
    yield (
        "| exit code | meaning |\n| --- | --- |\n| 0 | done |\n| 1 | failed |\n| 2 | wrong use |\n| 130 | interrupted |"
    )
    yield "In Python every error that Sottovoce raises on purpose is one of these, from `sottovoce.errors`:"
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]
    yield "\n".join(
        item(f"`{kind.__name__}` (a `{kind.__base__.__name__}`, exit code {kind.exit_code})", first_paragraph(kind))
        for kind in kinds
        if issubclass(kind, sottovoce.SottovoceError) and kind.__base__ is not None
    )
