"""What is measured, one file a metric; each is a plugin of the host's own."""
