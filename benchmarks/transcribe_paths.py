"""One way to transcribe, in a process of its own: answers requests, one JSON object a line.

``python benchmarks/transcribe_paths.py sottovoce|funasr|sherpa-onnx MODEL [--threads N]``. MODEL is a directory with
the model in ``model`` and a voice-activity detector in ``vad``, or for sherpa-onnx ``model_quant.onnx``.
``{"audio": FILE, "segments": FILE}`` is answered with wall time, CPU time, characters and segments.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile

Transcribe = Callable[[str, str], tuple[str, int]]
"""Audio and its segments in, the text and the number of segments out."""


def load_sottovoce(model: Path, threads: int) -> Transcribe:
    """Load a compressed model and a voice-activity detector in float."""
    import torch

    import sottovoce

    torch.set_num_threads(threads)
    transcriber = sottovoce.Transcriber(sottovoce.load(str(model / "model")), vad=sottovoce.load(str(model / "vad")))

    def run(audio: str, segments: str) -> tuple[str, int]:
        transcript = transcriber.transcribe(audio)
        return transcript.text, len(transcript.segments)

    return run


def load_funasr(model: Path, threads: int) -> Transcribe:
    """Load stock FunASR with the same models in float, as its documentation says."""
    from funasr import AutoModel

    quiet = {"disable_update": True, "disable_pbar": True, "device": "cpu", "ncpu": threads, "log_level": "ERROR"}
    asr = AutoModel(model=str(model / "model"), vad_model=str(model / "vad"), vad_kwargs={"ncpu": threads}, **quiet)
    import torch

    torch.set_num_threads(threads)

    def run(audio: str, segments: str) -> tuple[str, int]:
        # Without this option its segments are 60 s or 1 s long, by turns.
        return asr.generate(input=audio, dynamic_silence=False)[0]["text"], 0

    return run


def load_sherpa(model: Path, threads: int) -> Transcribe:
    """Load sherpa-onnx, which has no detector of FunASR's: it is given the segments, and their time is not counted."""
    import sherpa_onnx

    recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
        paraformer=str(model / "model_quant.onnx"), tokens=str(model / "tokens.txt"), num_threads=threads
    )

    def run(audio: str, segments: str) -> tuple[str, int]:
        samples, rate = soundfile.read(audio, dtype="float32")
        spans = json.loads(Path(segments).read_text(encoding="utf-8"))
        texts = []
        for start, end in spans:
            stream = recognizer.create_stream()
            stream.accept_waveform(rate, samples[round(start * rate) : round(end * rate)])
            recognizer.decode_stream(stream)
            texts.append(stream.result.text)
        return "".join(texts), len(spans)

    return run


LOADERS = {"sottovoce": load_sottovoce, "funasr": load_funasr, "sherpa-onnx": load_sherpa}


def main() -> None:
    """Answer the requests of standard input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", choices=LOADERS)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    # What libraries print goes to standard error: standard output has the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    say = functools.partial(print, file=answers, flush=True)
    begin = time.perf_counter()
    run = LOADERS[given.path](given.model, given.threads)
    say(json.dumps({"load_seconds": time.perf_counter() - begin}))
    for line in sys.stdin:
        request = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        text, count = run(request["audio"], request["segments"])
        answer: dict[str, Any] = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "characters": len(text.replace(" ", "")),
            "segments": count,
        }
        say(json.dumps(answer))


if __name__ == "__main__":
    main()
