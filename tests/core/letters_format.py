"""A third party's export format, declared in one file: the toy's head as a table of letters."""

from __future__ import annotations

import json
from pathlib import Path

from core.toy import LETTERS
from sottovoce import Model
from sottovoce.errors import OutputError
from sottovoce.formats import Format
from sottovoce.text.translations import Text


class Letters(Format):
    """A JSON object with the bias of every letter."""

    name = "letters"
    label = Text(en="a table of letters", zh="字母表")
    architectures = ("lettered",)
    usage = 'import json\nprint(json.load(open("{directory}/letters.json")))\n'

    def write(self, model: Model, directory: Path) -> None:
        biases = dict(zip(LETTERS, model.module.head.bias.tolist(), strict=True))
        (directory / "letters.json").write_text(json.dumps(biases))

    def check(self, directory: Path) -> None:
        biases = json.loads((directory / "letters.json").read_text())
        if set(biases) != set(LETTERS) or not all(abs(bias) < 1000 for bias in biases.values()):
            raise OutputError("letters.json: a letter is missing or too large")
