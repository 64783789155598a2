"""Helpers for tests of programs that use ssl_data: image folders and tiny stores."""

from ssl_data.testing.stores import repeated_store, synthetic_image, tiny_store, write_images

__all__ = ["repeated_store", "synthetic_image", "tiny_store", "write_images"]
