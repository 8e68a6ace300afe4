"""Command ``sottovoce env``."""

from __future__ import annotations

import os
from typing import Any

import click

import sottovoce
from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.output import Output, verb


@click.command(cls=Command, section="Begin", examples=("sottovoce env", "sottovoce env --probe --json"))
@options.option("--probe", is_flag=True, help="Import PyTorch, and run a small product by each engine.")
@verb
def env(out: Output, probe: bool) -> None:
    """Show what a bug report needs: machine, instruction sets, memory, versions, engines, plugins, missing extras."""
    from rich.table import Table

    from sottovoce.plugins.host import default_host
    from sottovoce.system.environment import describe_surroundings, missing_extras
    from sottovoce.system.machine import describe_machine

    facts: dict[str, Any] = {
        "sottovoce": sottovoce.__version__,
        **(_probed() if probe else {}),
        **describe_machine(),
        **describe_surroundings(),
        "plugins": {plugin.name: plugin.error or plugin.version for plugin in default_host().plugins},
        "missing_extras": missing_extras("sottovoce"),
    }
    if not probe:
        facts |= _expected(facts["instructions"])

    def table() -> Table:
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for key, entry in facts.items():
            if entry is not None:
                table.add_row(key.replace("_", " "), _text(key, entry))
        return table

    out.result(facts, table)


def _probed() -> dict[str, Any]:
    """Return the engines that work here, by trying them."""
    from sottovoce.runtime.backends.int8_engine import engine, gpu_engines
    from sottovoce.runtime.kernels import availability

    reason = availability.obstacle()
    gpus = gpu_engines()
    return {
        "int8_engine": engine(),
        "kernels": f"torch ({reason})" if reason else "numba",
        **({"gpus": gpus} if gpus else {}),
        "probed": True,
    }


def _expected(instructions: list[str]) -> dict[str, Any]:
    """Return the engines that are to be expected of the instruction sets and the installed libraries."""
    from importlib.util import find_spec

    from sottovoce.system.environment import ENGINE_VARIABLE, INT8

    chosen = os.environ.get(ENGINE_VARIABLE)
    return {
        "int8_engine": chosen or ("onednn" if INT8 & set(instructions) else "linear_dynamic"),
        "kernels": "numba" if find_spec("numba") else "torch (numba is not installed)",
        "probed": False,
    }


def _text(key: str, entry: Any) -> str:
    from sottovoce.report.number_format import size

    if key.endswith("_bytes"):
        return size(entry)
    if key == "missing_extras":
        return "; ".join(f"{name} (needs {', '.join(packages)})" for name, packages in entry.items()) or "none"
    if isinstance(entry, dict):
        return ", ".join(f"{name} {value}" for name, value in entry.items())
    if isinstance(entry, list):
        return " ".join(map(str, entry)) or "none known"
    if key == "probed":
        return "yes" if entry else "no: engines are as the processor promises; --probe tries them"
    return str(entry)
