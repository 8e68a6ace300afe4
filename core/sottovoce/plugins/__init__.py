"""The contract with plugins, and the host that finds and calls them."""
