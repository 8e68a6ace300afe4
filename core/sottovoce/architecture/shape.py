"""Structure of a family that may be pruned: widths, heads and layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sottovoce.architecture.fields import check_tuple


@dataclass(frozen=True, kw_only=True)
class Width:
    """Hidden units of the feed-forward layers of one part, which ``prune_width`` may remove."""

    part: str
    """Name of the part in recipes and reports, such as ``encoder``."""
    modules: str
    """Pattern of the modules that hold the layers, such as ``re:encoder\\.layers\\.\\d+\\.mlp``."""
    inputs: tuple[str, ...]
    """Names, in such a module, of the linear layers with a row for each unit."""
    output: str
    """Name of the linear layer with a column for each unit."""
    norm: str | None = None
    """Name of a normalization over the units, if there is one between the two."""
    keys: tuple[str, ...]
    """Settings of the configuration that hold the number of units, as paths such as ``text_config.intermediate_size``.
    The family's own class has one number for all layers of the part, so all keep as many units."""
    is_last: bool = False
    """If true, what the output layer gives is added to the hidden states last in a block. Then it is fitted to make up
    for what earlier layers changed in these. Otherwise it makes up for what they changed in its own outputs."""
    pruned: bool = True
    """If true, a recipe that does not name the part prunes it too."""

    def __post_init__(self) -> None:
        """Refuse a string in place of several names.

        Raises:
            TypeError: The inputs or the keys are a string.
        """
        check_tuple("Width.inputs", self.inputs)
        check_tuple("Width.keys", self.keys)


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Attention heads of one part, which ``prune_heads`` may remove.

    A group is what can be removed at once: a head, or the query heads that share a head of keys and values with it.
    """

    part: str
    """Name of the part in recipes and reports."""
    modules: str
    """Pattern of the attention modules."""
    output: str
    """Name, in such a module, of the output projection. Its columns belong to the groups in their order."""
    groups: Callable[..., int]
    """Function ``groups(attention)`` that returns the number of groups of a module."""
    rows: tuple[str, ...] = ()
    """Names of the projections that have as many rows for every group, in the groups' order."""
    remove: Callable[..., None] | None = None
    """Function ``remove(model, name, kept)`` that removes all groups but those of the numbers ``kept`` from the
    attention of that name, in place, where ``rows`` and the columns of ``output`` alone do not do it. The output
    projection then has the columns of the kept groups. It must work on tensors without data too."""
    keys: tuple[str, ...] = ()
    """Settings of the configuration that count heads or groups; all shrink by the same factor."""
    own_class: str = ""
    """Reason why the model's own library does not load the result, if it does not."""
    pruned: bool = True
    """If true, a recipe that does not name the part prunes it too."""

    def __post_init__(self) -> None:
        """Refuse a string in place of several names.

        Raises:
            TypeError: The rows or the keys are a string.
        """
        check_tuple("Heads.rows", self.rows)
        check_tuple("Heads.keys", self.keys)


@dataclass(frozen=True, kw_only=True)
class Depth:
    """Layers of one part, which ``prune_layers`` may remove."""

    part: str
    """Name of the part in recipes and reports."""
    layers: str
    """Name of the module that holds the layers in order, such as ``encoder.layers``."""
    output: str
    """Name, in a layer, of a linear layer whose output is added to the hidden states, best the last one: in the layer
    before a removed one it is fitted to what the removed layer gave."""
    before: str | None = None
    """Name of the layer that runs before the first of them, if there is one; it is never removed."""
    keys: tuple[str, ...]
    """Settings of the configuration that count the layers; all fall by the number of removed ones."""
    lists: tuple[str, ...] = ()
    """Settings that are a list with an item for each layer."""
    positions: tuple[str, ...] = ()
    """Settings that are the number of a layer, or a list of such; each falls by the removed layers before it."""
    number_attributes: tuple[str, ...] = ()
    """Attributes of the modules in a layer that hold its number, such as ``layer_idx``."""
    keep: Mapping[int, str] | Callable[..., Mapping[int, str]] = field(default_factory=dict)
    """By number of a layer (``-1`` is the last), the reason why it is never removed; or a function ``keep(model)`` that
    returns this."""
    pruned: bool = True
    """If true, a recipe that does not name the part prunes it too."""

    def __post_init__(self) -> None:
        """Refuse a string in place of several names.

        Raises:
            TypeError: The keys, lists, positions or attributes are a string.
        """
        for name in ("keys", "lists", "positions", "number_attributes"):
            check_tuple(f"Depth.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Structure of a family that may be pruned, and the settings that describe it to the family's own class."""

    widths: tuple[Width, ...] = ()
    heads: tuple[Heads, ...] = ()
    depths: tuple[Depth, ...] = ()
