"""How the models of a whole library are loaded and saved, for plugins that have nothing to add; one file a library."""
