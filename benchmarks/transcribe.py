"""Ten minutes of speech through voice activity and Paraformer-large in int8, and the time to the first word.

``python benchmarks/transcribe.py [--json FILE] [--threads N] [--work DIRECTORY] [--rounds N] [--minutes N]``

The peers are stock FunASR in float32 with the same detector, and sherpa-onnx with the int8 ONNX export. The models have
their real configurations. Paraformer's weights are random, and the detector follows loudness, so that all find the same
segments. sherpa-onnx has no such detector: it is given the segments, and their time is not counted. Paths take turns,
each in a process of its own. The first word is that of a clip of 1 s, from the start of a process to its output.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy
import soundfile

from workers import HERE, Worker, machine, measured, note

BUNDLED = HERE.parent / "examples" / "data" / "mandarin-commands"
RATE = 16000
SPREAD = 0.15
"""Part of the median by which the rounds may differ: more, and other work ran on the machine."""
GAP, PAUSE = 0.15, (0.9, 1.6)
"""Seconds between the clips of a sentence, and between sentences."""
CLIPS = (1, 2, 3, 4)
"""Numbers of clips in a sentence: 2 to 12 s."""
OURS, FUNASR, SHERPA = "Sottovoce int8", "FunASR float32", "sherpa-onnx int8"
LIBRARIES = ("sottovoce", "torch", "funasr", "sherpa-onnx", "onnxruntime")
FUNASR_FIRST = """\
import sys
from funasr import AutoModel
asr = AutoModel(model=sys.argv[1], disable_update=True, disable_pbar=True, device="cpu", ncpu=int(sys.argv[3]))
print("text:", asr.generate(input=sys.argv[2])[0]["text"], flush=True)
"""
"""Shortest program of FunASR's documentation."""


def write_speech(path: Path, minutes: float) -> None:
    """Write the bundled clips as sentences with pauses."""
    rows = [json.loads(line) for line in (BUNDLED / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    random = numpy.random.default_rng(0)
    parts: list[Any] = []
    count = number = 0
    while count < minutes * 60 * RATE:
        for _ in range(random.choice(CLIPS)):
            clip = soundfile.read(BUNDLED / rows[number % len(rows)]["source"], dtype="float32")[0]
            parts += [clip, numpy.zeros(round(GAP * RATE), numpy.float32)]
            number += 1
        parts.append(numpy.zeros(round(random.uniform(*PAUSE) * RATE), numpy.float32))
        count = sum(map(len, parts))
    soundfile.write(path, numpy.concatenate(parts)[: round(minutes * 60 * RATE)], RATE)


def prepare(work: Path, threads: int, minutes: float) -> dict[str, Path]:
    """Write models and audio; what is in ``work`` already is not made again.

    Returns:
        The directory of each path.
    """
    large, small, vad, onnx = work / "large", work / "large-int8", work / "vad", work / "onnx"
    sottovoce = [sys.executable, "-m", "sottovoce"]
    for result, label, command in (
        (large / "model.safetensors", "the model", [sys.executable, str(HERE / "large_model.py"), str(large)]),
        (vad / "model.safetensors", "the detector", [sys.executable, str(HERE / "large_vad.py"), str(vad)]),
        (
            small / "compression.json",
            "the int8 model",
            [*sottovoce, "compress", str(large), "--recipe", "int8", "--output", str(small)],
        ),
        (
            onnx / "model_quant.onnx",
            "ONNX",
            [*sottovoce, "export", str(small), "--format", "onnx", "--output", str(onnx)],
        ),
    ):
        if not result.is_file():
            note(f"writing {label}")
            measured(command, threads)
    for name, model in (("ours", small), ("float", large)):
        (work / name).mkdir(exist_ok=True)
        for link, target in (("model", model), ("vad", vad)):
            if not (work / name / link).is_symlink():
                (work / name / link).symlink_to(target.resolve())
    audio = work / f"speech-{minutes:g}.wav"
    if not audio.is_file():
        write_speech(audio, minutes)
    soundfile.write(work / "clip.wav", soundfile.read(audio, frames=RATE)[0], RATE)
    return {OURS: work / "ours", FUNASR: work / "float", SHERPA: onnx}


def segments(work: Path, audio: Path) -> Path:
    """Write the segments that the detector finds, for the path that has no detector."""
    import sottovoce

    path = work / f"{audio.stem}.json"
    model = sottovoce.load(str(work / "vad"))
    spans = model.architecture.runner.detect_speech(model, sottovoce.read_audio(audio))  # type: ignore[misc]
    path.write_text(json.dumps(spans), encoding="utf-8")
    return path


def long_audio(paths: dict[str, Path], request: dict[str, str], threads: int, rounds: int) -> dict[str, Any]:
    """Let the paths take turns on the long audio."""
    kinds = {OURS: "sottovoce", FUNASR: "funasr", SHERPA: "sherpa-onnx"}
    workers = {path: Worker("transcribe_paths.py", kinds[path], model, threads) for path, model in paths.items()}
    answers: dict[str, list[dict[str, Any]]] = {path: [] for path in workers}
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        for path, worker in workers.items():
            answers[path].append(worker.run(**request))
    for worker in workers.values():
        worker.close()
    return {path: summarized(runs, answers[OURS]) for path, runs in answers.items()}


def first_word(work: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Let processes take turns, each from its start to the text of a clip of 1 s."""
    clip = str(work / "clip.wav")
    commands = {
        OURS: [sys.executable, "-m", "sottovoce", "transcribe", str(work / "large-int8"), clip, "--quiet"],
        FUNASR: [sys.executable, "-c", FUNASR_FIRST, str(work / "large"), clip, str(threads)],
    }
    runs: dict[str, list[dict[str, Any]]] = {path: [] for path in commands}
    for number in range(rounds + 1):
        note(f"first word: round {number} of {rounds}")
        for path, command in commands.items():
            runs[path].append(_until_output(command, threads))
    # The first round reads the files into the system's cache.
    return {path: summarized(times[1:], runs[OURS][1:]) for path, times in runs.items()}


def _until_output(command: list[str], threads: int) -> dict[str, Any]:
    """Return the time until a process has printed a text, and the CPU time of all of it."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    before = os.times()
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        seconds = None
        for line in process.stdout or ():
            if line.startswith("text:") or command[1] == "-m":
                seconds = seconds or time.perf_counter() - begin
    if process.returncode or seconds is None:
        raise RuntimeError(f"{' '.join(command)} failed")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": seconds, "cpu_seconds": cpu}


def summarized(runs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians and all rounds, with the ratios to Sottovoce's time of the same round."""
    ratios = [run["seconds"] / other["seconds"] for run, other in zip(runs, ours, strict=True)]
    cpu = [run["cpu_seconds"] / other["cpu_seconds"] for run, other in zip(runs, ours, strict=True)]
    return {
        **runs[-1],
        "seconds": statistics.median(run["seconds"] for run in runs),
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in runs),
        "all_seconds": [run["seconds"] for run in runs],
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "cpu_ratio": statistics.median(cpu),
    }


def run(work: Path, threads: int, rounds: int, minutes: float) -> dict[str, Any]:
    """Measure everything, and return the object that ``--json`` writes."""
    paths = prepare(work, threads, minutes)
    audio = work / f"speech-{minutes:g}.wav"
    request = {"audio": str(audio), "segments": str(segments(work, audio))}
    spans = json.loads(Path(request["segments"]).read_text(encoding="utf-8"))
    load = [os.getloadavg()[0]]
    first = first_word(work, threads, max(3, rounds))
    long = long_audio(paths, request, threads, rounds)
    load.append(os.getloadavg()[0])
    return {
        "machine": {**machine(threads, LIBRARIES), "load_average": load},
        "audio": {
            "minutes": minutes,
            "segments": len(spans),
            "speech_seconds": sum(end - start for start, end in spans),
            "longest_seconds": max(end - start for start, end in spans),
        },
        "long": long,
        "first_word": first,
    }


def busy(result: dict[str, Any]) -> str:
    """Return why the times are not to be recorded; nothing if the machine was quiet."""
    load, cores = max(result["machine"]["load_average"]), result["machine"]["cores"]
    if load > cores + result["machine"]["threads"]:
        return f"the load average was {load:.1f} on {cores} cores"
    for path, run in result["long"].items():
        extent = (max(run["all_seconds"]) - min(run["all_seconds"])) / run["seconds"]
        if extent > SPREAD:
            return f"the times of {path} differ by {extent:.0%}, more than {SPREAD:.0%}"
    return ""


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="directory that keeps the models; what it holds is not made again")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        result = run(work, given.threads, given.rounds, given.minutes)
    text = json.dumps(result, indent=2)
    print(text)
    if reason := busy(result):
        note(f"not recorded: {reason}")
    elif given.json:
        given.json.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
