"""Code that lies in a model's directory, under names that something might import or run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from attack.case import Case, Change
from attack.kinds.pickles import PYTHON
from attack.model import HonestModel
from attack.settings import both, with_value

KIND = "code"

MODULES = (
    "sottovoce",
    "sottovoce_paraformer",
    "sottovoce_forced_aligner",
    "sottovoce_omni_moe",
    "sottovoce_hub",
    "torch",
    "transformers",
    "funasr",
    "numpy",
    "soundfile",
    "random",
    "json",
    "yaml",
    "numba",
    "kernels",
    "peft",
    "accelerate",
    "torchvision",
    "librosa",
    "compressed_tensors",
    "psutil",
    "signal",
    "pickle",
    "codecs",
    "sitecustomize",
    "usercustomize",
    "model",
    "modeling",
    "modeling_qwen3_asr",
    "configuration",
    "processing",
    "tokenization",
    "setup",
    "conftest",
    "__init__",
    "__main__",
    "evil",
    "site",
    "sentencepiece",
    "kaldi_native_fbank",
    "wetext",
    "editdistance",
)

OTHERS = {
    "evil.pth": f"import os; {PYTHON}\n",
    "setup.cfg": "[options.entry_points]\nsottovoce = evil = evil\n",
    "evil-1.0.dist-info/entry_points.txt": "[sottovoce]\nevil = evil\n",
    "evil-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n",
    "requirements.txt": "evil-package\n",
    "torch/__init__.py": PYTHON,
    "encodings/__init__.py": PYTHON,
    "Makefile": "all:\n\ttouch RAN\n",
    ".env": "HF_ENDPOINT=http://example.invalid\n",
    "pyproject.toml": "[project]\nname = 'evil'\n",
}

MAPS = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "configuration.json",
    "config.yaml",
)


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield a file of code for each name, with the working directory there, and settings that name them."""
    for number, name in enumerate(MODULES):
        yield _case(model, f"module/{name}", _module(name), (), name == "sottovoce" and not model.compressed)
        if number < 12 and model.name == "paraformer":
            yield _case(model, f"evaluated/{name}", _module(name), ("evaluate",), name == "soundfile")
    for name, text in OTHERS.items():
        yield _case(model, f"file/{name}", _file(name, text), ())
    yield _case(
        model, "all", both(*(_module(name) for name in MODULES), *(_file(*item) for item in OTHERS.items())), (), True
    )
    for name in MAPS:
        if (model.directory / name).is_file():
            for what, value in (
                ("auto_map", {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}),
                ("auto_map", {"AutoTokenizer": ["evil.T", "evil.T"], "AutoProcessor": "evil.P"}),
                ("remote_code", "./evil.py"),
                ("trust_remote_code", True),
            ):
                yield _case(
                    model,
                    f"named/{name}/{what}/{len(str(value))}",
                    both(_module("evil"), with_value(name, (what,), value)),
                    (),
                )


def _module(name: str) -> Change:
    return _file(f"{name}.py", f"{PYTHON}\nraise ImportError\n")


def _file(name: str, text: str) -> Change:
    def apply(directory: Path) -> None:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")

    return apply


def _case(model: HonestModel, name: str, change: Change, operations: tuple[str, ...], reported: bool = False) -> Case:
    return Case(
        kind=KIND,
        name=name,
        model=model.name,
        change=change,
        operations=operations,
        inside=True,
        reported=reported,
        signed=False if model.compressed else None,
    )
