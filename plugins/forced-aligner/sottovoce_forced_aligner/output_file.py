"""The file that an alignment is written to."""

from __future__ import annotations

import re

from sottovoce.system.output_file import OutputKind

FORMATS = ("json", "srt", "textgrid")
"""Names of the formats, which are the names' endings too."""
ALIGNMENT = OutputKind(
    name="an alignment",
    verb="aligned",
    endings=FORMATS,
    # Subtitles, a TextGrid, JSON.
    beginning=re.compile(r'1\n\d\d:\d\d:\d\d,\d{3} --> |File type = "ooTextFile"|\{"language": '),
)
