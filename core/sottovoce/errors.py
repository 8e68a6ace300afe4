"""What can go wrong, as a small tree: what failed, whose it is, what to do next."""

from __future__ import annotations

from sottovoce.plain_text import one_line


class SottovoceError(Exception):
    """Base of every error that Sottovoce raises on purpose; its message is one line that any terminal can show.

    Attributes:
        exit_code: What the command line exits with when the error reaches it.
        longest: Characters that the message is cut to, where it may quote what somebody else wrote.
    """

    exit_code = 1
    longest: int | None = None

    def __init__(self, message: object = "") -> None:
        """Keep the message without characters that would control a terminal."""
        super().__init__(one_line(message, self.longest))


class UsageError(SottovoceError):
    """The call itself is wrong: an unknown name, a bad option, an output that exists."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe does not validate; the message lists every problem at once."""


class UnknownModelError(UsageError):
    """No installed plugin describes the model."""

    longest = 300


class PluginError(SottovoceError):
    """A plugin broke the contract; the message names the distribution."""


class SourceError(SottovoceError):
    """A model's files are missing, damaged, or ask for something that is refused."""

    longest = 300


class CheckpointError(SourceError):
    """Weights do not fit the model: missing, unexpected or misshapen tensors."""


class SamplesError(SottovoceError):
    """A manifest is broken; the message names the file and the line."""


class CoverageError(SottovoceError):
    """A step changed less of the model than its recipe promised."""


class ReloadError(SottovoceError):
    """What was written, loaded again, does not give the same outputs."""


class OutputError(SottovoceError):
    """The output could not be written."""


class NotFiniteError(SottovoceError):
    """A weight or an activation is infinite or not a number; the message names the layer."""


class MemoryLimitError(UsageError):
    """The work does not fit the memory that was allowed."""


class GateError(SottovoceError):
    """The accuracy that a recipe asks for cannot be reached, however many layers stay precise."""


class PublishError(SottovoceError):
    """A hub refused, or could not be reached, or what would be published is not fit for it."""
