"""oneDNN keeps fewer compiled operations than by itself, unless the user says how many."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sottovoce.runtime import CACHE_CAPACITY, CACHE_VARIABLE


@pytest.mark.parametrize(("given", "expected"), [(None, str(CACHE_CAPACITY)), ("7", "7")])
def test_capacity_is_set_before_the_first_operation_unless_the_user_set_it(given: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != CACHE_VARIABLE}
    environment |= {CACHE_VARIABLE: given} if given else {}
    code = f"import sottovoce.runtime.int8_linear, os; print(os.environ[{CACHE_VARIABLE!r}])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
