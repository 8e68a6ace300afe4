"""Communication with hubs: time limits, interruption, and safe display of their messages."""
