"""A stand-in for the package ``kernels``, which fetches code from a hub: this one leaves a marker instead."""

from __future__ import annotations

from pathlib import Path

from attack.scratch import MARKER, VARIABLE

_PACKAGE = f"""
import os


def _ran(*arguments, **named):
    open(os.path.join(os.environ[{VARIABLE!r}], {MARKER!r}), "w").close()
    raise RuntimeError("a kernel was asked for")


class _Anything:
    def __init__(self, *arguments, **named):
        pass


def _nothing(*arguments, **named):
    return lambda target: target


use_kernel_forward_from_hub = use_kernelized_func = use_kernel_func_from_hub = _nothing
get_kernel = get_local_kernel = get_locked_kernel = load_kernel = install_kernel = _ran
kernelize = replace_kernel_forward_from_hub = register_kernel_mapping = lambda *arguments, **named: None
use_kernel_mapping = _Anything


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Anything
"""


def install(directory: Path) -> None:
    """Write the package where ``sys.path`` will find it, of a version that transformers takes."""
    from transformers.utils import import_utils

    (directory / "kernels").mkdir(parents=True)
    (directory / "kernels" / "__init__.py").write_text(_PACKAGE, encoding="utf-8")
    about = directory / f"kernels-{import_utils.KERNELS_MIN_VERSION}.dist-info"
    about.mkdir()
    text = f"Metadata-Version: 2.1\nName: kernels\nVersion: {import_utils.KERNELS_MIN_VERSION}\n"
    (about / "METADATA").write_text(text, encoding="utf-8")
    (about / "RECORD").write_text("kernels/__init__.py,,\n", encoding="utf-8")
