"""``python -m sottovoce``."""

# Before anything else is imported: the working directory may be a model's.
from sottovoce.system.interpreter import leave_working_directory_out

leave_working_directory_out()

from sottovoce.cli import main  # noqa: E402

main()
