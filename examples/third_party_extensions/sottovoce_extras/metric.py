"""The metric ``empty_transcripts``: utterances of which a model says nothing."""

import sottovoce
from sottovoce import MetricKind, Text

EMPTY = MetricKind(
    name="empty_transcripts",
    unit="%",
    better="lower",
    label=Text(en="empty transcripts", zh="空转写"),
    description=Text(en="Share of the utterances without any text.", zh="没有任何文本的语句所占的比例。"),
)


@sottovoce.hookimpl
def sottovoce_evaluate(architecture, samples, run):
    """Count the predictions without text, for models that transcribe."""
    if architecture.task != "transcription":
        return []
    empty = sum(not (prediction.text or "").strip() for prediction in run.predictions)
    return [EMPTY.measured(100 * empty / len(samples), details={"utterances": len(samples)})]
