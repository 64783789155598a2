"""Descriptions that ship with the package: datasets, and recipes of published models."""
