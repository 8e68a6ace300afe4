"""AWQ on the bundled mixture is no rounding to nearest, and errs less."""

from __future__ import annotations

from pathlib import Path

import sottovoce
from sottovoce import Samples, read_samples

EXAMPLES = Path(__file__).parents[2] / "examples"
TASKS = Samples(tuple(read_samples(EXAMPLES / "data/omni-tasks/calibration.jsonl"))[::3])


def test_awq_changes_what_rounding_gives_and_lowers_the_error_of_outputs() -> None:
    model = sottovoce.load(EXAMPLES / "models" / "tiny-omni")
    report = sottovoce.compress(model, "int4-awq", TASKS).to_dict()
    targets = [target for target in report["steps"][0]["targets"] if "output_error" in target]
    assert len(targets) > 100
    assert sum(one["output_error"] != one["rounded_output_error"] for one in targets) > len(targets) / 4
    assert sum(one["output_error"] for one in targets) < sum(one["rounded_output_error"] for one in targets)
    bits = report["parameter_bits"]
    assert sum(bits["before"].values()) == sum(bits["after"].values())
    assert bits["after"]["4"] == sum(target["parameters"] for target in report["steps"][0]["targets"])
