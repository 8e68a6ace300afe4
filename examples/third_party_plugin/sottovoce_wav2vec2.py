"""Sottovoce's plugin for wav2vec 2.0 with a CTC head, in one file: core loads and saves any transformers class."""

import sottovoce
from sottovoce import Architecture, CardFacts, Layers, Prediction, Runner, Sample


def forward(model, sample):
    import torch

    audio = sottovoce.read_audio(sample.audio, 16000)
    with torch.inference_mode():
        return model.native(**model.processor(audio, sampling_rate=16000, return_tensors="pt")).logits[0]


def predict(model, sample):
    ids = forward(model, sample).argmax(-1)
    text = model.processor.decode(ids) or None
    return Prediction(text=text, tokens=tuple(text or ""))


def probe(model):
    import numpy

    return Sample(key="probe", audio=numpy.sin(numpy.arange(16000, dtype="float32") ** 1.3), text="a")


@sottovoce.hookimpl
def sottovoce_architectures():
    layer = r"re:wav2vec2\.encoder\.layers\.\d+"
    yield Architecture(
        name="wav2vec2-ctc",
        matches=("Wav2Vec2ForCTC",),
        layers=Layers(
            targets=(rf"{layer}\.(attention\.(q|k|v|out)_proj|feed_forward\.(intermediate|output)_dense)",),
            ignore={"lm_head": "output layer", r"re:wav2vec2\.feature_\w+(\..*)?": "feature encoder: convolutions"},
            blocks=(layer,),
        ),
        task="transcription",
        card=CardFacts(pipeline_tag="automatic-speech-recognition", library_name="transformers", languages=("en",)),
        runner=Runner(forward=forward, predict=predict, probe=probe),
    )
