"""What is compiled is tested where it can be compiled."""

from __future__ import annotations

from sottovoce.runtime.kernels import availability

FILES = ["activation", "normalization", "rotary", "rows", "weights"]

collect_ignore = [] if availability.available() else [f"test_{name}.py" for name in FILES]
