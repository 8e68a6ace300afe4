"""Pages of one file: numbers, pictures as SVG, and the data inside; nothing is fetched from anywhere."""
