"""The page: hear a model, compare it with its original, and take the text home."""
