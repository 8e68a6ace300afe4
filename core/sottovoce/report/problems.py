"""Check of a report before it is written: a plugin's step or metric may have put anything into it."""

from __future__ import annotations

import functools
import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sottovoce.report.fields import Record, to_json


def problem_of(record: Record) -> str | None:
    """Return why a record could not be read again once it is written; ``None`` where it could."""
    try:
        form = {"name": getattr(record, "name", None), **record.to_dict()}
        _adapter(type(record)).validate_python(json.loads(to_json(form)))
    except RecursionError:
        return "it is nested too deeply"
    except ValidationError as error:
        return validation_problem(error)
    except (TypeError, ValueError, AttributeError) as error:
        return " ".join(str(error).split())
    return None


def validation_problem(error: ValidationError) -> str:
    """Return the field that is wrong, and how: a value of another kind rather than one that is missing."""
    first = min(error.errors(), key=lambda item: (item["type"] == "missing", -len(item["loc"])))
    place = ".".join(map(str, first["loc"])) or "the whole"
    problem = "it should be an object" if first["type"] == "dataclass_type" else " ".join(first["msg"].split())
    return f"{place}: {problem}"


@functools.cache
def _adapter(kind: type[Record]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
