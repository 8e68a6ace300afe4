"""Recipes: the steps of a compression and their settings."""
