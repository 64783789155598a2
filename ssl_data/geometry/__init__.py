"""Integers only: where patches, search positions and rows lie. No pixels, no files."""
