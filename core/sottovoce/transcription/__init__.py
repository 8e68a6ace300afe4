"""Transcription of audio of any length: speech found, recognized in batches, punctuated, and words with times."""
