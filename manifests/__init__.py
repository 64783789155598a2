"""Descriptions that ship with the package: datasets."""
