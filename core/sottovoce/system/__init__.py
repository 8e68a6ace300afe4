"""The machine: processes, memory, devices, audio files."""
