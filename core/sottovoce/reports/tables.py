"""Reports as tables for people."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from sottovoce.report import EvaluationReport, Metric


def size(count: float) -> str:
    """Return a number of bytes as people read it, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise ValueError(count)


def value(number: float | None, unit: str) -> str:
    """Return a metric's value with its unit."""
    if number is None:
        return "-"
    if unit == "bytes":
        return size(number)
    if isinstance(number, int):
        return f"{number} {unit}".strip()
    return f"{number:.4f}" if not unit else f"{number:.2f} {unit}"


def change(metric: Metric) -> str:
    """Return the change from the baseline's value: a difference for shares, a factor for amounts."""
    if metric.value is None or metric.baseline is None:
        return ""
    if metric.unit == "%":
        return f"{metric.value - metric.baseline:+.2f} points"
    if by_turns := metric.details.get("by_turns"):
        low, high = by_turns["ratio"]["quartiles"]
        return f"x {by_turns['ratio']['median']:.2f} ({low:.2f} to {high:.2f})"
    return f"x {metric.value / metric.baseline:.2f}" if metric.baseline else ""


def evaluation(report: EvaluationReport) -> Table:
    """Return a table with a row per metric, and columns for the baseline if there is one."""
    seconds = report.samples["audio_seconds"]
    table = Table(
        title=f"{report.model}: {report.samples['count']} samples, {seconds:.0f} s of audio", title_justify="left"
    )
    table.add_column("metric")
    if report.baseline is not None:
        table.add_column("baseline", justify="right")
    table.add_column("model", justify="right")
    if report.baseline is not None:
        table.add_column("change", justify="right")
    for metric in report.metrics.values():
        row = [metric.name, value(metric.value, metric.unit)]
        if report.baseline is not None:
            row = [metric.name, value(metric.baseline, metric.unit), value(metric.value, metric.unit), change(metric)]
        table.add_row(*row)
    return table


def bits(before: Mapping[str, int] | None, after: Mapping[str, int]) -> str:
    """Return the numbers of parameters by bits: ``4.0 M of 16 -> 2.5 M of 4, 1.5 M of 16``."""

    def side(counts: Mapping[str, int]) -> str:
        ordered = sorted(counts.items(), key=lambda item: int(item[0]))
        return ", ".join(f"{_count(number)} of {width}" for width, number in ordered)

    return side(after) if before is None else f"{side(before)} -> {side(after)}"


def _count(number: float) -> str:
    for unit in ("", " k", " M"):
        if number < 1000:
            return f"{number:.0f}" if not unit else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.1f} G"


def inspection(facts: Mapping[str, Any]) -> Table:
    """Return a table of the parameters that are compressed, by part, and of those that are kept, by reason."""
    coverage = facts["coverage"]
    title = f"{facts['source']}: {facts['class']} ({facts['architecture']}), {facts['parameters']:,} parameters"
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
    lines = [f"{len(facts['targets'])} layers; size {sizes}", f"parameters by bits: {widths}"]
    if estimate.get("parameters", facts["parameters"]) != facts["parameters"]:
        lines.append(f"parameters left: {estimate['parameters']:,} of {facts['parameters']:,}")
    if needed := estimate.get("least_memory_bytes", facts.get("least_memory_bytes")):
        lines.append(f"least memory to run: {size(needed)}, plus what Python and the libraries take")
    lines += [f"compress would refuse this: {facts['refused']}"] if facts.get("refused") else []
    table.caption = "\n".join((*lines, *(f"note: {note}" for note in facts["notes"])))
    table.caption_justify = "left"
    return table


def compression(report: Mapping[str, Any]) -> Table:
    """Return a table of a compression's result, from the JSON form of its report."""
    table = Table(title=f"{report['output']}", title_justify="left", show_header=False)
    before, after = report["size_bytes"]["before"], report["size_bytes"]["after"]
    steps = ", ".join(str(step["step"]["step"]) for step in report["steps"])
    table.add_row("steps", steps)
    if report["coverage"]["parameters"]:
        share, count = report["coverage"]["ratio"], report["coverage"]["parameters"]
        table.add_row("compressed", f"{share:.1%} of {count:,} parameters")
    for row in _experts(report["steps"]):
        table.add_row(*row)
    table.add_row("weights", f"{size(before)} -> {size(after)} (x {after / before:.2f})")
    if counted := report.get("parameter_bits"):
        table.add_row("parameters by bits", bits(counted["before"], counted["after"]))
    targets = [target for step in report["steps"] for target in step["targets"]]
    for row in _accuracy(targets):
        table.add_row(*row)
    if gate := report.get("gate"):
        values = ", ".join(f"{name} {measured:.4g}" for name, measured in gate["found"].items())
        table.add_row("gate", f"{values}; {len(gate['raised'])} layers restored to higher precision")
    table.add_row("time", f"{report['seconds']:.1f} s")
    if report["peak_memory_bytes"]:
        table.add_row("peak memory", size(report["peak_memory_bytes"]))
    if report.get("peak_gpu_memory_bytes"):
        table.add_row("peak memory of the GPU", size(report["peak_gpu_memory_bytes"]))
    if report.get("least_memory_bytes"):
        table.add_row("least memory to run", f"{size(report['least_memory_bytes'])}, plus the libraries'")
    return table


def _experts(steps: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield rows on steps that removed or skip experts."""
    for step in steps:
        details = step.get("details") or {}
        for part, facts in (details.get("parts") or {}).items():
            yield f"experts of the {part}", f"{facts['experts']} -> {facts['kept']} in each of {facts['layers']} layers"
        if saved := details.get("saved"):
            kinds = ", ".join(f"{share:.1%} ({kind})" for kind, share in saved.items())
            yield "runs of experts saved", kinds


def _accuracy(targets: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield rows on the layers' signal-to-noise ratio and output error, as far as they were measured."""
    ratios = {target["name"]: target["snr_db"] for target in targets if target.get("snr_db") is not None}
    if ratios:
        worst = min(ratios, key=lambda name: ratios[name])
        median = statistics.median(ratios.values())
        yield "signal to noise", f"median {median:.1f} dB, least {ratios[worst]:.1f} dB ({worst})"
    errors = [target for target in targets if target.get("output_error") is not None]
    if errors:
        now = statistics.mean(target["output_error"] for target in errors)
        rounded = statistics.mean(target["rounded_output_error"] for target in errors)
        yield "output error", f"mean {now:.3%} of a layer's output power; rounded to nearest {rounded:.3%}"


def publication(form: Mapping[str, Any]) -> Table:
    """Return a table of a publication, with a row per file and its state."""
    done = {name: "uploaded" for name in form["uploaded"]}
    table = Table("file", "size", "sha256", "state", title=form["url"] or form["repository"], title_justify="left")
    for file in form["files"]:
        state = "would be there" if form["dry_run"] else done.get(file["name"], "was there")
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
