"""The metric ``nonzero_parameters``: the parameters that are not zero."""

from __future__ import annotations

from collections.abc import Iterable

import sottovoce
from sottovoce import Metric, MetricKind, Model, Run, Text

NONZERO_PARAMETERS = MetricKind(
    name="nonzero_parameters",
    unit="parameters",
    kind="cost",
    better="lower",
    label=Text(en="parameters that are not zero", zh="非零参数"),
    description=Text(en="Number of stored values that are not zero.", zh="不为零的存储值的个数。"),
)


@sottovoce.hookimpl
def sottovoce_evaluate(model: Model, run: Run, baseline: Run | None) -> Iterable[Metric]:
    """Count the values of all tensors that are not zero."""
    count = sum(int(tensor.count_nonzero()) for tensor in model.module.state_dict().values())
    return [NONZERO_PARAMETERS.measured(count)]
