"""Text for people: one line, in English and Chinese."""
