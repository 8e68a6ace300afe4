"""Layers that run compressed weights, and the engines and kernels under them; public for plugins."""

import os

CACHE_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
CACHE_CAPACITY = 128
"""Compiled operations that oneDNN keeps: a dozen lengths of inputs. With its own 1,024 a model that hears audio of many
lengths takes more memory in int8 than in float."""

# oneDNN reads it at its first operation; what the user has set stays.
os.environ.setdefault(CACHE_VARIABLE, str(CACHE_CAPACITY))
