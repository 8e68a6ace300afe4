"""The contract with plugins, and the host that loads and calls them."""
