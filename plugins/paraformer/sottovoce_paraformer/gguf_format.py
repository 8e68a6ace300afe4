"""The format ``gguf`` of Paraformers: one file for FunASR's runtime on ggml, which needs no Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.errors import OutputError, SourceError
from sottovoce.formats import Format
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce import Model

_NOISE_SECONDS = 2
_TOKENS = "tokens.json"


class Gguf(Format):
    """``model.gguf`` with weights, features' statistics and tokens, for ``llama-funasr-paraformer``.

    A compressed model's values of int8 are written as ``Q8_0``, those of int4 as ``Q4_0`` or ``Q4_1``. What
    was cast to float16 stays so, and all other weights are float32. The runtime has Paraformer-large's width and heads
    in its source, and takes no others. Classes with hotwords are not for it, and times of words are left out.
    """

    name = "gguf"
    label = Text(
        en="GGUF for FunASR's runtime on ggml, in float, int8 or int4",
        zh="GGUF，供 FunASR 的 ggml 运行时使用（浮点、int8 或 int4）",
    )
    architectures = ("paraformer",)
    usage = """\
import subprocess
command = ["llama-funasr-paraformer", "-m", "{directory}/model.gguf", "-a", "{audio}"]
print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
"""

    def refuse(self, model: Model) -> None:
        """Refuse what the runtime was not built for."""
        from sottovoce_paraformer.gguf_model import refuse_unsupported
        from sottovoce_paraformer.gguf_runtime import PROGRAM

        refuse_unsupported(model.module, model.native.kwargs["frontend"], PROGRAM)

    def write(self, model: Model, directory: Path) -> None:
        """Write the file, and read it back."""
        from sottovoce.formats.gguf import write_gguf
        from sottovoce_paraformer.gguf_model import metadata, tensors
        from sottovoce_paraformer.gguf_runtime import FILE

        self.refuse(model)
        frontend = model.native.kwargs["frontend"]
        source = model.source.directory / _TOKENS
        if not source.is_file():
            raise SourceError(f"{model.source.directory}: no {_TOKENS}; take it from the original model")
        tokens = [str(token) for token in json.loads(source.read_text(encoding="utf-8"))]
        facts = metadata(model.module, tokens)
        write_gguf(directory / FILE, "paraformer", facts, tensors(model.module, frontend.cmvn))

    def check(self, directory: Path) -> None:
        """Run two seconds of noise in the runtime; where it is not installed, read the file and its tensors."""
        import numpy

        from sottovoce.formats.gguf import GGUFFile
        from sottovoce_paraformer.gguf_runtime import FILE, find, recognize

        file = GGUFFile(directory / FILE)
        for name in file.names:
            if not numpy.isfinite(file.floats(name)).all():
                raise OutputError(f"{FILE}: {name} has numbers that are not finite; is a weight damaged?")
        if find() is not None:
            noise = numpy.random.default_rng(0).normal(0, 0.1, 16000 * _NOISE_SECONDS).astype(numpy.float32)
            recognize(directory / FILE, noise)

    def unchecked(self) -> str:
        """Return that the runtime is not installed, where it is not."""
        from sottovoce_paraformer.gguf_runtime import ADVICE, PROGRAM, find

        return "" if find() else f"the file was read, not run: {PROGRAM} is not installed; {ADVICE}"
