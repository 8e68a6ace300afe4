"""Every hook is documented with an example, and tested."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from sottovoce.plugins import hookspecs

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("sottovoce_"))


def test_contract_has_six_hooks() -> None:
    assert len(HOOKS) == 6


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_documented_with_an_example(name: str) -> None:
    hook = getattr(hookspecs, name)
    text = inspect.getdoc(hook) or ""
    example = text.partition("Example:")[2]
    assert "@sottovoce.hookimpl" in example
    assert f"def {name}(" in example
    given = inspect.signature(hook).parameters
    assert all(f"{argument}:" in text for argument in given)


@pytest.mark.parametrize("name", HOOKS)
def test_hook_example_has_arguments_of_the_hook(name: str) -> None:
    """The example's arguments are among the hook's."""
    import ast

    hook = getattr(hookspecs, name)
    block = (inspect.getdoc(hook) or "").partition("```python")[2].partition("```")[0]
    functions = [node for node in ast.parse(inspect.cleandoc(block)).body if isinstance(node, ast.FunctionDef)]
    example = next(function for function in functions if function.name == name)
    assert {argument.arg for argument in example.args.args} <= set(inspect.signature(hook).parameters)


@pytest.mark.parametrize("name", HOOKS)
def test_hook_has_a_test(name: str) -> None:
    assert f"def test_hook_{name}(" in Path(__file__).with_name("test_host.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_typed(name: str) -> None:
    signature = inspect.signature(getattr(hookspecs, name))
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(each.annotation is not inspect.Parameter.empty for each in signature.parameters.values())
