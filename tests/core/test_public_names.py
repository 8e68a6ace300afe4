"""The public names of the package: all of them, and nothing else, without importing torch."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import sottovoce


def test_dir_lists_public_names_and_no_modules() -> None:
    assert dir(sottovoce) == sorted(["__version__", *sottovoce.__all__])
    assert not [name for name in dir(sottovoce) if isinstance(getattr(sottovoce, name), ModuleType)]
    assert {"load", "compress", "evaluate", "save", "export", "Architecture", "hookimpl"} < set(dir(sottovoce))


@pytest.mark.parametrize("name", sottovoce.__all__)
def test_public_name_is_what_its_module_defines(name: str) -> None:
    value = getattr(sottovoce, name)
    assert getattr(sys.modules[f"sottovoce.{sottovoce._MODULES[name]}"], name) is value


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'sottovoce' has no attribute 'compres'"):
        _ = sottovoce.compres  # type: ignore[attr-defined]


def test_import_loads_no_other_module_of_the_package() -> None:
    names = "*(name for name in sys.modules if name.partition('.')[0] == 'sottovoce')"
    code = f"import sys, sottovoce; dir(sottovoce); print({names})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["sottovoce"]
