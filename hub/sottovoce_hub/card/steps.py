"""What was done to a model, in a line a step."""

from __future__ import annotations

from collections.abc import Callable

from sottovoce_hub.card.markdown import Markdown, code, text
from sottovoce_hub.card.report import Step
from sottovoce_hub.card.wording import Wording


def describe(step: Step, wording: Wording) -> list[Markdown]:
    """The lines that tell what a step did."""
    teller = _TELLERS.get(step.name)
    return teller(step, wording) if teller else [wording("step_other", name=code(step.name))]


def _quantize(step: Step, wording: Wording) -> list[Markdown]:
    form = step.step
    method = str(form.get("method", "round_to_nearest"))
    known = method in ("round_to_nearest", "squant", "gptq", "awq", "hqq")
    line = wording(
        "step_quantize",
        layers=len(step.targets),
        weights=_weights(step, wording),
        inputs=wording(f"inputs_{_one_of(form.get('activations'), 'none', 'dynamic', 'static')}"),
        method=wording(f"method_{method}") if known else wording("method_other", method=code(method)),
    )
    return [wording("embeddings_int8", step=line) if form.get("embeddings") == "int8" else line]


def _weights(step: Step, wording: Wording) -> Markdown:
    form = step.step
    if form.get("type") == "float":
        return wording("weights_float")
    group = form.get("group_size")
    if group is None:
        scales = wording("scales_channel")
    else:
        scales = wording("scales_auto") if group == "auto" else wording("scales_group", group=group)
    if form.get("symmetric") is False:
        scales = wording("zero_points", scales=scales)
    widths = step.by_width
    if len(widths) < 2:
        return wording("weights_int", bits=form.get("bits", 8), scales=scales)
    # What a recipe's groups do not divide, its embeddings and its overrides have another width than it says.
    each = [wording("layers_of_bits", count=len(found), bits=width) for width, found in widths.items()]
    told = Markdown(wording("separator").join(each))
    return wording("weights_mixed", widths=told, bits=form.get("bits", 8), scales=scales)


def _prune_experts(step: Step, wording: Wording) -> list[Markdown]:
    return [
        wording(
            "step_prune_experts",
            part=text(name),
            layers=part.layers,
            experts=part.experts,
            kept=part.kept,
            saliency=code(part.saliency),
        )
        for name, part in step.details.parts.items()
    ] or [wording("step_prune_experts_plain")]


def _smooth(step: Step, wording: Wording) -> list[Markdown]:
    return [wording("step_smooth", alpha=step.step.get("alpha", ""))]


def _skip_experts(step: Step, wording: Wording) -> list[Markdown]:
    return [wording("step_skip_experts", threshold=step.step.get("threshold", ""))]


def _one_of(value: object, first: str, *others: str) -> str:
    return value if isinstance(value, str) and value in others else first


_TELLERS: dict[str, Callable[[Step, Wording], list[Markdown]]] = {
    "quantize": _quantize,
    "prune_experts": _prune_experts,
    "smooth": _smooth,
    "skip_experts": _skip_experts,
}
