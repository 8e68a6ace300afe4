"""Reports as tables for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sottovoce.report import Comparison, CompressionReport, EvaluationReport, Explanation, Output
from sottovoce.report.number_format import bits, counted, size
from sottovoce.reports.html.rows import model_rows, shown_costs


def of_report(report: CompressionReport | EvaluationReport) -> Table:
    """Return the table of a report."""
    content = report.table()
    table = Table(title=content.title, title_justify="left", show_header=bool(content.header))
    for number, name in enumerate(content.header):
        table.add_column(name, justify="right" if number else "left")
    for row in content.rows:
        table.add_row(*row)
    return table


def inspection(facts: Mapping[str, Any]) -> Table:
    """Return a table of the parameters that are compressed, by part, and of those that are kept, by reason."""
    coverage = facts["coverage"]
    title = (
        f"{facts['source']}: {facts['class']} ({facts['architecture']}), {counted(facts['parameters'], 'parameter')}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("part or reason")
    table.add_column("parameters", justify="right")
    table.add_column("compressed", justify="right")
    for name, part in coverage["parts"].items():
        share = part["compressed_parameters"] / part["parameters"] if part["parameters"] else 0
        table.add_row(name, f"{part['parameters']:,}", f"{share:.1%}")
    table.add_section()
    reasons: dict[str, int] = defaultdict(int)
    for kept in facts["kept"]:
        reasons[kept["reason"]] += kept["parameters"]
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        table.add_row(f"kept: {reason}", f"{count:,}", "0.0%")
    table.add_section()
    table.add_row("all", f"{coverage['parameters']:,}", f"{coverage['ratio']:.1%}")
    before, after = facts["size_bytes"], facts.get("estimate", {}).get("size_bytes")
    sizes = size(before) if after is None else f"{size(before)} -> {size(after)} (x {after / before:.2f})"
    estimate = facts.get("estimate", {})
    after_bits = estimate.get("parameter_bits")
    widths = bits(facts["parameter_bits"] if after_bits else None, after_bits or facts["parameter_bits"])
    lines = [f"{counted(len(facts['targets']), 'layer')}; size {sizes}", f"parameters by bits: {widths}"]
    if estimate.get("parameters", facts["parameters"]) != facts["parameters"]:
        lines.append(f"parameters left: {estimate['parameters']:,} of {facts['parameters']:,}")
    if needed := estimate.get("least_memory_bytes", facts.get("least_memory_bytes")):
        lines.append(f"minimum memory to run: {size(needed)}, without Python and the libraries")
    lines += [f"compress would refuse this: {facts['refused']}"] if facts.get("refused") else []
    table.caption = "\n".join((*lines, *(f"note: {note}" for note in facts["notes"])))
    table.caption_justify = "left"
    return table


def publication(form: Mapping[str, Any]) -> Table:
    """Return a table of a publication, with a row per file and its state."""
    done = {name: "uploaded" for name in form["uploaded"]}
    table = Table("file", "size", "sha256", "state", title=form["url"] or form["repository"], title_justify="left")
    for file in form["files"]:
        state = "to upload" if form["dry_run"] else done.get(file["name"], "unchanged")
        table.add_row(file["name"], size(file["size_bytes"]), file["sha256"][:12], state)
    for state, names in (("removed", form["deleted"]), ("stays here", form["left_out"])):
        for name in names:
            table.add_row(name, "", "", state)
    if form["pull_request"]:
        table.caption = f"pull request: {form['pull_request']}"
    return table


def publications(form: Mapping[str, Any]) -> Group:
    """Return the tables of the published variants, and their collection."""
    tables = [publication(variant) for variant in form["variants"].values()]
    return Group(*tables, *([f"collection: {form['collection']}"] if form["collection"] else []))


def retrieval(form: Mapping[str, Any]) -> Table:
    """Return a table of a fetched model, with a row per file."""
    state = "as published" if form["verified"] else "no digests"
    table = Table("file", "state", title=f"{form['repository']} at {form['revision']}", title_justify="left")
    for name in form["files"]:
        table.add_row(name, state)
    table.caption = form["directory"]
    return table


def comparison(result: Comparison, directory: Path) -> Table:
    """Return a table of a comparison, with a row per model, and the one to take below."""
    metric = result.reference.metrics.get(result.metric or "") or result.models[-1].metrics.get(result.metric or "")
    costs = shown_costs(result)
    table = Table(title=result.title, title_justify="left", caption_justify="left")
    table.add_column("model")
    for name in ("size", *([str(metric.label or metric.name)] if metric else []), "difference", "p"):
        table.add_column(name, justify="right")
    for cost in costs:
        table.add_column(f"{cost['label']}{' †' if cost['timed'] and result.machine.busy else ''}", justify="right")
    for row in model_rows(result):
        measured = [f"{row['shown']}\n{row['interval']}".strip()] if metric else []
        times = [f"{cell['shown']}\n{cell['detail']}".strip() for cell in row["costs"]]
        name = f"{row['name']}{' *' if row['name'] == result.winner else ''}"
        difference = f"{row['difference']}\n{row['difference_interval']}".strip()
        table.add_row(name, f"{row['size']}\n{row['ratio']}".strip(), *measured, difference, row["p"], *times)
    lines = [f"{entry.name}: not tried, {entry.reason}" for entry in result.left_out]
    lines += [result.verdict, *([f"† {result.machine.busy}"] if result.machine.busy else [])]
    if result.winner and (command := result.model(result.winner).command):
        lines.append(f"* {command}")
        lines.append(f"* is in {directory / result.winner}")
    table.caption = "\n".join((*lines, f"page: {directory / 'comparison.html'}"))
    return table


_STYLES = {"substitute": "yellow underline", "insert": "green underline", "delete": "red strike"}


def explanation(result: Explanation, top: int) -> Group:
    """Return what both models give, aligned with the reference, and a table of the layers that account for it."""
    lines = [Text(f"reference  {result.reference}")] if result.reference is not None else []
    lines += [_aligned(f"{name:10} ", output) for name, output in result.outputs.items()]
    lines += [Text(line) for line in _moved_words(result)]
    table = Table(title=f"{result.key}: layers of {result.model} made those of {result.baseline} again, one at a time")
    for name in ("layers", "bits", "divergence left", "output"):
        table.add_column(name, justify="right" if name in ("bits", "divergence left") else "left")
    for unit in result.units[:top]:
        name = unit.name if unit.layers == 1 else f"{unit.name} ({unit.layers} layers)"
        share = "does not run" if unit.divergence is None else _share(unit.divergence, result.divergence)
        back = "as the baseline" if unit.is_back else (unit.text or "")
        if not unit.is_back and unit.text is not None and unit.text == result.outputs["baseline"].text:
            back = "other times"
        table.add_row(name, "" if unit.bits is None else f"{unit.bits:g}", share, back)
    caption = [f"divergence: {result.divergence:.4g} nats per token, mean of {counted(result.positions, 'token')}"]
    run = sum(unit.is_back or unit.text is not None for unit in result.units)
    if run < sum(unit.divergence is not None for unit in result.units[:top]):
        caption.append(f"the output was asked of the first {counted(run, 'row')} alone")
    if result.is_same:
        caption.append("both outputs are the same")
    elif result.together is not None:
        subject = "this alone brings" if len(result.together) == 1 else "together these bring"
        caption.append(f"{subject} the baseline's output back: {', '.join(result.together)}")
    else:
        caption.append("no choice of layers that was tried brings the baseline's output back")
    table.caption, table.caption_justify, table.title_justify = "\n".join(caption), "left", "left"
    return Group(*lines, table)


def _share(left: float, whole: float) -> str:
    return f"{left:.4g} ({left / whole - 1:+.0%})" if whole > 0 else f"{left:.4g}"


def _aligned(label: str, output: Output) -> Text:
    """Return a text with its differences from the reference, readable without colors too: [-deleted-]{+inserted+}."""
    line = Text(label)
    for name, before, after in output.edits:
        if name == "=":
            line.append(after)
        else:
            removed, added = f"[-{before}-]" if before else "", f"{{+{after}+}}" if after else ""
            line.append(removed + added, style=_STYLES.get(name, ""))
    return line if output.edits else line.append(output.text or "")


def _moved_words(result: Explanation) -> list[str]:
    """Return a line for every word whose times differ."""
    base, other = (result.outputs[name].times for name in ("baseline", "model"))
    words = result.words or tuple(str(number) for number in range(1, len(base) + 1))
    return [
        f"{word}: {before[0]:.3f} to {before[1]:.3f} s, now {after[0]:.3f} to {after[1]:.3f} s"
        for word, before, after in zip(words, base, other, strict=False)
        if tuple(before) != tuple(after)
    ]
