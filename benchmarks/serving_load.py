"""Load test of a service: no request lost, flat memory, quick answers about health, and latency beside the library's.

``python benchmarks/serving_load.py [--minutes N] [--callers N] [--long N] [--model DIR] [--json FILE]``

Callers send clips of mixed length to ``sottovoce serve`` one after another, with garbage and closed connections among
them, while an hour of audio is decoded. Then the library and a service take turns on the same loaded model. The exit
code is 1 if a request is lost, memory grows by more than 5 % after the warm-up, answers about health take more than
50 ms, or the service takes 5 % longer.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy
import psutil
import soundfile

from workers import HERE, machine, note

BUNDLED = HERE.parent / "examples"
LIBRARIES = ("sottovoce", "torch", "funasr", "fastapi", "uvicorn", "gradio")
RATE = 16000
MOST_GROWTH = 0.05
MOST_OVERHEAD = 0.05
MOST_HEALTH = 0.05
"""Seconds within which 99 of 100 questions about health are answered."""
WARM_UP = 0.3
"""Share of the time after which memory must not grow any more."""
ROUNDS = 25
"""Rounds in which the library and the service take turns."""


@dataclass
class Log:
    """Counts of a load test, from all of its threads."""

    sent: int = 0
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: int = 0
    closed: int = 0
    audio_seconds: float = 0.0
    latency: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def write_clips(work: Path, long_minutes: float) -> tuple[list[Path], Path]:
    """Write clips of 1 to 25 s, and a long recording, of the bundled speech."""
    sources = sorted((BUNDLED / "data/mandarin-commands/test").glob("*.flac"))
    clips = [soundfile.read(path, dtype="float32")[0] for path in sources]
    random = numpy.random.default_rng(0)
    paths = []
    for number, count in enumerate((1, 1, 1, 2, 2, 3, 4, 5, 6, 8)):
        chosen = [clips[place] for place in random.integers(0, len(clips), count)]
        path = work / f"clip-{number}.{'wav' if number % 2 else 'flac'}"
        soundfile.write(path, numpy.concatenate(chosen), RATE)
        paths.append(path)
    speech = numpy.concatenate([numpy.concatenate((clip, numpy.zeros(RATE // 2, numpy.float32))) for clip in clips])
    long = work / "long.flac"
    samples = round(long_minutes * 60 * RATE)
    soundfile.write(long, numpy.resize(speech, samples), RATE)
    return paths, long


@contextmanager
def service(model: Path, threads: int) -> Iterator[tuple[str, psutil.Process]]:
    """Run ``sottovoce serve`` and give its address and its process."""
    command = [sys.executable, "-m", "sottovoce", "serve", str(model), "--port", "0", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield json.loads(line)["url"], psutil.Process(process.pid)
        finally:
            process.terminate()


def call(url: str, content: bytes, timeout: float = 600) -> httpx.Response:
    """Send audio, and return the answer."""
    return httpx.post(f"{url}/v1/audio/transcriptions", files={"file": ("a", content)}, timeout=timeout)


def caller(url: str, clips: list[bytes], expected: list[str], end: float, seed: int, log: Log) -> None:
    """Send clips until the end; now and then garbage, or a request whose answer is not awaited."""
    random = numpy.random.default_rng(seed)
    while time.monotonic() < end:
        place, dice = int(random.integers(len(clips))), random.random()
        if dice < 0.03:
            status = call(url, b"garbage" * 1000).status_code
            with log.lock:
                log.refused += 1
                log.wrong += [f"garbage got {status}"] if status != 400 else []
        elif dice < 0.06:
            try:
                call(url, clips[place], timeout=0.01)
            except httpx.TimeoutException:
                with log.lock:
                    log.closed += 1
        else:
            _checked_call(url, clips[place], expected[place], log)


def _checked_call(url: str, content: bytes, expected: str, log: Log) -> None:
    with log.lock:
        log.sent += 1
    begin = time.perf_counter()
    try:
        answer = call(url, content)
        problem = None if answer.status_code == 200 else f"status {answer.status_code}"
        if not problem and answer.json()["text"] != expected:
            problem = f"{answer.json()['text']} in place of {expected}"
    except httpx.HTTPError as error:
        problem = type(error).__name__
    with log.lock:
        log.answered += 1
        log.audio_seconds += 0 if problem else soundfile.info(io.BytesIO(content)).duration
        log.latency.append(time.perf_counter() - begin)
        log.wrong += [problem] if problem else []


def watch(url: str, process: psutil.Process, stop: threading.Event, log: Log) -> None:
    """Ask for the service's health twice a second, and note its memory."""
    begin = time.monotonic()
    with httpx.Client() as client:
        while not stop.wait(0.5):
            begun = time.perf_counter()
            client.get(f"{url}/health", timeout=60).raise_for_status()
            log.health.append(time.perf_counter() - begun)
            log.memory.append((time.monotonic() - begin, process.memory_info().rss))


def load_test(
    model: Path, work: Path, minutes: float, callers: int, long_minutes: float, threads: int
) -> dict[str, Any]:
    """Run the callers beside a long recording, and return counts, latency, health and memory."""
    paths, long = write_clips(work, long_minutes)
    clips, log, stop = [path.read_bytes() for path in paths], Log(), threading.Event()
    with service(model, threads) as (url, process):
        expected = [call(url, clip).json()["text"] for clip in clips]
        end = time.monotonic() + 60 * minutes
        watcher = threading.Thread(target=watch, args=(url, process, stop, log))
        workers = [
            threading.Thread(target=caller, args=(url, clips, expected, end, seed, log)) for seed in range(callers)
        ]
        begin = time.monotonic()
        for thread in (watcher, *workers):
            thread.start()
        note(f"{callers} callers for {minutes:g} minutes, beside {long_minutes:g} minutes of audio")
        long_answer = call(url, long.read_bytes(), timeout=3600)
        long_seconds, during_long = time.monotonic() - begin, len(log.health)
        for thread in workers:
            thread.join()
        stop.set()
        watcher.join()
    return {
        **counts(log, minutes),
        "long_audio": {
            "minutes": long_minutes,
            "seconds": long_seconds,
            "status": long_answer.status_code,
            "characters": len(long_answer.json().get("text", "")),
            "health_max_seconds": max(log.health[:during_long]),
        },
        "memory": memory_growth(log, max(WARM_UP * 60 * minutes, long_seconds)),
    }


def counts(log: Log, minutes: float) -> dict[str, Any]:
    """Return how many requests there were, and the distribution of their times in seconds."""
    return {
        "minutes": minutes,
        "requests": log.sent,
        "audio_seconds": log.audio_seconds,
        "lost": log.sent - log.answered,
        "wrong": sorted(set(log.wrong)),
        "garbage_refused": log.refused,
        "connections_closed": log.closed,
        "latency": quantiles(log.latency),
        "health": quantiles(log.health),
    }


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Return median, 95th and 99th percentile, and the largest."""
    p50, p95, p99 = (float(value) for value in numpy.percentile(seconds, (50, 95, 99)))
    return {"p50": p50, "p95": p95, "p99": p99, "max": max(seconds)}


def memory_growth(log: Log, warm: float) -> dict[str, float]:
    """Return the medians of resident memory right after the warm-up and at the end, and the growth between."""
    after = [size for when, size in log.memory if when >= warm]
    part = max(1, len(after) // 4)
    first, last = statistics.median(after[:part]), statistics.median(after[-part:])
    return {"after_warm_up_bytes": first, "end_bytes": last, "growth": last / first - 1, "samples": len(after)}


def beside_library(model: Path, clip: Path, threads: int) -> dict[str, Any]:
    """Let the library and a service take turns on one loaded model, and return their median times and ratio."""
    import torch

    from sottovoce.serving.app import build_app
    from sottovoce.serving.loading import load_models
    from sottovoce.serving.run import address_of, build_server, listening
    from sottovoce.serving.settings import Settings

    torch.set_num_threads(threads)
    models, settings = load_models(str(model)), Settings(port=0, page=False)
    transcriber, content = models.first.transcriber, clip.read_bytes()
    times: dict[str, list[Any]] = {"library": [], "service": []}
    with listening(settings) as listener, httpx.Client() as client:
        server = build_server(build_app(models, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"{address_of(listener)}/v1/audio/transcriptions"
        while not server.started:
            time.sleep(0.01)
        for number in range(ROUNDS + 3):
            begin = now()
            expected = transcriber.transcribe(clip).text  # type: ignore[union-attr]
            between = now()
            text = client.post(url, files={"file": ("a", content)}, timeout=60).json()["text"]
            end = now()
            if text != expected:
                raise RuntimeError(f"the service says {text!r}, the library {expected!r}")
            if number >= 3:  # the first are a warm-up
                times["library"].append(between - begin)
                times["service"].append(end - between)
        server.should_exit = True
        thread.join()
    library, served = (numpy.array(times[path]) for path in ("library", "service"))
    ratios, cpu_ratios = (served / library).T
    return {
        "audio_seconds": soundfile.info(clip).duration,
        "rounds": ROUNDS,
        "library_seconds": float(numpy.median(library[:, 0])),
        "service_seconds": float(numpy.median(served[:, 0])),
        "ratio": float(numpy.median(ratios)),
        "ratio_quartiles": [float(value) for value in numpy.percentile(ratios, (25, 75))],
        "cpu_ratio": float(numpy.median(cpu_ratios)),
    }


def now() -> Any:
    """Return the time, and the CPU time of all threads of this process, in seconds ``[2]``."""
    return numpy.array((time.perf_counter(), time.process_time()))


def problems(result: dict[str, Any]) -> list[str]:
    """Return what is not as it should be."""
    wrong = [f"{result['load']['lost']} requests were lost"] if result["load"]["lost"] else []
    wrong += result["load"]["wrong"]
    if result["load"]["memory"]["growth"] > MOST_GROWTH:
        wrong.append(f"memory grew by {result['load']['memory']['growth']:.1%}")
    if (health := result["load"]["health"]["p99"]) > MOST_HEALTH:
        wrong.append(f"answers about health take {1000 * health:.0f} ms")
    if "beside_library" not in result:
        return wrong
    busy = max(result["machine"]["load_average"]) > (os.cpu_count() or 1)
    # Where others use the cores too, only CPU time says what the service adds.
    ratio = result["beside_library"]["cpu_ratio" if busy else "ratio"]
    if ratio > 1 + MOST_OVERHEAD:
        wrong.append(f"the service takes {ratio:.3f} times as long as the library")
    return wrong


def main() -> None:
    """Read the command line, measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="length of the load test")
    parser.add_argument("--callers", type=int, default=4, help="callers at the same time")
    parser.add_argument("--long", type=float, default=60, help="minutes of the long recording")
    parser.add_argument("--threads", type=int, default=1, help="threads of the model")
    parser.add_argument("--model", type=Path, default=BUNDLED / "models/tiny-paraformer", help="model of the load test")
    parser.add_argument("--latency-model", type=Path, help="model beside the library; by default the same")
    parser.add_argument("--load-only", action="store_true", help="leave the turns with the library out")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    busy = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as directory:
        work, latency_model = Path(directory), arguments.latency_model or arguments.model
        sizes = (arguments.minutes, arguments.callers, arguments.long, arguments.threads)
        load = load_test(arguments.model, work, *sizes)
        latency = None
        if not arguments.load_only:
            note("the library and the service take turns")
            latency = beside_library(latency_model, work / "clip-6.flac", arguments.threads)
    busy.append(os.getloadavg()[0])
    result = {
        "machine": {**machine(arguments.threads, LIBRARIES), "load_average": busy},
        "models": {"load": arguments.model.name, **({"beside_library": latency_model.name} if latency else {})},
        "load": load,
        **({"beside_library": latency} if latency else {}),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if wrong := problems(result):
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
