"""Machine and operating system: processes, memory, devices, audio files."""
