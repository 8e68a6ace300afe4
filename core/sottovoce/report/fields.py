"""Kinds of values in ``compression.json``, and how they are checked when it is read: nobody vouches for the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

LARGEST = 2**63
"""Bound of every number: no model has more parameters or bytes, and text of a larger one fills pages."""


class Record(Mapping[str, Any]):
    """Base of a report's dataclasses: read by attribute, or by key as in its JSON form."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore")
    """Keys of later versions are ignored."""

    def __getitem__(self, key: str) -> Any:
        """Return a field by its name."""
        if key not in self._keys():
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the fields' names."""
        return iter(self._keys())

    def __len__(self) -> int:
        """Return the number of fields."""
        return len(self._keys())

    @classmethod
    def _keys(cls) -> tuple[str, ...]:
        fields: Mapping[str, Any] = cls.__dict__["__dataclass_fields__"]
        return tuple(fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {key: to_form(self[key]) for key in self}


def to_form(value: Any) -> Any:
    """Return a report's value as JSON has it: dictionaries, lists, text, numbers."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: to_form(item) for key, item in value.items()}
    return [to_form(item) for item in value] if isinstance(value, list | tuple) else value


def to_json(form: Any, indent: int | None = None, *, ascii: bool = False) -> str:
    """Return a report's form as JSON. NaN and infinite numbers, which JSON has not, become null."""
    return json.dumps(_finite(form), indent=indent, ensure_ascii=ascii, allow_nan=False)


def _finite(form: Any) -> Any:
    if isinstance(form, Mapping):
        return {key: _finite(value) for key, value in form.items()}
    if isinstance(form, list | tuple):
        return [_finite(value) for value in form]
    return None if isinstance(form, float) and not math.isfinite(form) else form


def _measured(value: Any) -> Any:
    """Take what is not finite as not measured; JSON has no such number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number", "it should be a number")
    if not -LARGEST <= value <= LARGEST:
        raise PydanticCustomError("number", "the number is too large")
    return value


def number_or_none(value: Any) -> Any:
    """Check a number; one that is not finite was not measured."""
    number = _measured(value)
    return None if number is None else _number(number)


def _plain(value: Any, depth: int = 0) -> Any:
    """Check data whose keys are not fixed: its numbers, and how deep it is nested."""
    if depth > 12:
        raise PydanticCustomError("depth", "it is nested too deeply")
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        _plain(item, depth + 1)
    if isinstance(value, int | float) and not isinstance(value, bool) and _measured(value) is not None:
        _number(value)
    return value


# In place of pydantic's own checks, which would make an integer a float and read text as a number.
Number = Annotated[float, PlainValidator(_number)]
"""A number; a whole one stays an integer."""
Measured = Annotated[float | None, PlainValidator(number_or_none)]
"""A measured number, or that it was not measured."""
Count = Annotated[int, Field(strict=True, ge=0), AfterValidator(_number)]
"""A whole number of bytes, parameters or samples."""
Facts = Annotated[Mapping[str, Any], AfterValidator(_plain)]
"""Data whose keys are up to who wrote it."""
