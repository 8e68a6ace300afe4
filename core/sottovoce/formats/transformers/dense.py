"""Float checkpoints, which transformers reads itself; whether all of it fitted is looked at before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.shards import Shards
from sottovoce.checkpoint.weights import ALLOW_HINT, Form, check_values, forms
from sottovoce.errors import CheckpointError, as_source_error
from sottovoce.formats.transformers.building import build, model_class
from sottovoce.formats.transformers.expert_weights import Names, has_conversions
from sottovoce.recipe.pattern import matches
from sottovoce.text.plain_text import one_line

if TYPE_CHECKING:
    from sottovoce.source import LoadOptions


def load_dense(config: dict[str, Any], directory: Path, options: LoadOptions) -> Any:
    """Load a float model by the library's own ``from_pretrained``.

    Raises:
        SourceError: transformers cannot read the model.
        CheckpointError: A tensor is missing, unexpected, misshapen or of another type.
    """
    from sottovoce.formats.transformers.default_dtype import thread_default_type

    # Building without memory costs little, and shows whether the files belong to one model.
    empty = build(config, directory, options)
    _check_types(empty, Shards.of(directory, options.weights), directory)
    if options.weights is not None:
        empty.config.transformers_weights = options.weights
    # transformers sets the default type while it builds the module.
    with as_source_error(directory, "transformers cannot read the model"), thread_default_type():
        native, info = model_class(config, directory).from_pretrained(
            directory,
            config=empty.config,
            dtype=options.dtype or "auto",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    _check_keys(info, directory, options)
    check_values(native, str(directory))
    return native


def _check_keys(info: dict[str, Any], directory: Path, options: LoadOptions) -> None:
    allowed = options.allow_unexpected
    unexpected = [
        name for name in info["unexpected_keys"] if not any(matches(name, "", pattern) for pattern in allowed)
    ]
    lists = {"missing": info["missing_keys"], "mismatched": info["mismatched_keys"], "unexpected": unexpected}
    problems = [
        f"{len(names)} {problem}: {', '.join(map(str, list(names)[:5]))}" for problem, names in lists.items() if names
    ]
    if problems:
        hint = "" if lists["missing"] or lists["mismatched"] else f"; {ALLOW_HINT}"
        raise CheckpointError(f"{directory}: the weights do not fit the model: {'; '.join(problems)}{hint}")


def _check_types(empty: Any, shards: Shards, directory: Path) -> None:
    """Refuse integers in the place of floats, which transformers would convert.

    Raises:
        CheckpointError: A tensor is of another type than the model's.
    """
    import torch

    known, converts = forms(empty.state_dict()), has_conversions(empty)
    for name, stored in Names.of(empty, shards.names).stored.items():
        form = Form(shards.shape(stored), shards.dtype(stored))
        if name not in known and not converts:
            continue  # It is reported as unexpected.
        # A name that the model does not have may be a part of one.
        expected = known.get(name, Form(form.shape, torch.float32))
        if not expected._replace(shape=form.shape).takes(form):
            raise CheckpointError(f"{directory}: {one_line(stored, 90)} is {form}, where the model has {expected}")
