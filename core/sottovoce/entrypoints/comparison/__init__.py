"""Parts of a comparison: variants to compare, what was measured of them, which one to take, the files."""
