"""Publishing compressed models: the card, the push, the pull."""
