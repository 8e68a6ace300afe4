"""A step, a quantization method, a metric and an export format, one file each."""
