"""Where publishing (the card, the push, the pull) will live; there is none yet."""
