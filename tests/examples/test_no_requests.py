"""No verb on a local directory asks for a name or a connection, without any variable that forbids it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from sottovoce.samples import read_samples

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS, SAMPLES = EXAMPLES / "models", EXAMPLES / "data" / "mandarin-commands" / "test.jsonl"

RECORDER = """
import os, socket
def tell(what):
    with open(os.environ["ASKED"], "a") as file:
        print(what, file=file)
    raise OSError("no network here")
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
    setattr(socket, name, lambda *arguments, _name=name, **_: tell(f"{_name} {arguments}"))
def connect(self, address, _connect=socket.socket.connect):
    return _connect(self, address) if self.family == socket.AF_UNIX else tell(f"connect {address}")
socket.socket.connect = socket.socket.connect_ex = connect
"""
"""A ``sitecustomize`` module, which every Python process imports, those that a verb starts too."""

RUN = """
import json, os, sys
from sottovoce import cli
from sottovoce.system.interpreter import end_quickly
end_quickly()
if len(sys.argv) > 2:  # a control: does the recorder see what is asked?
    import socket
    try:
        socket.create_connection(("localhost", 9))
    except OSError:
        pass
for arguments in json.loads(sys.argv[1]):
    cli.cli(arguments, standalone_mode=False)
"""


def asked(tmp_path: Path, verbs: list[list[str]], *control: str) -> tuple[str, list[Path]]:
    """What was asked for while the verbs ran, and the files that onnxruntime keeps reports in."""
    (tmp_path / "sitecustomize.py").write_text(RECORDER)
    (tmp_path / "temporary").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_", "ORT_"))}
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    environment = kept | {
        "PYTHONPATH": path,
        "ASKED": str(tmp_path / "asked"),
        "TMPDIR": str(tmp_path / "temporary"),
        "HF_HOME": str(tmp_path / "home"),
        "MODELSCOPE_CACHE": str(tmp_path / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(verbs), *control],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    record = tmp_path / "asked"
    return (record.read_text() if record.exists() else ""), list((tmp_path / "temporary").rglob("*.ses"))


def test_no_verb_asks_for_a_name(tmp_path: Path) -> None:
    sample = read_samples(SAMPLES)[0]
    manifest = tmp_path / "one.jsonl"
    manifest.write_text(json.dumps({"source": str(sample.audio), "target": sample.text}) + "\n", encoding="utf-8")
    verbs = []
    for model in ("tiny-paraformer", "tiny-aligner"):
        source, out = str(MODELS / model), str(tmp_path / model)
        verbs += [["inspect", source, "--recipe", "int8"], ["compress", source, "--recipe", "int8", "--output", out]]
        if model == "tiny-paraformer":
            verbs += [["evaluate", out, "--data", str(manifest)]]
            verbs += [["export", source, "--format", "onnx", "--output", str(tmp_path / "onnx")]]
        else:
            verbs += [["align", out, str(sample.audio), "--text", str(sample.text)]]
    requests, reports = asked(tmp_path, verbs)
    assert requests == ""
    assert reports == []


def test_the_recorder_sees_what_is_asked(tmp_path: Path) -> None:
    requests, _ = asked(tmp_path, [], "control")
    assert "localhost" in requests
