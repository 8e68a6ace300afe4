"""Ways to write and to run weights, one file each."""
