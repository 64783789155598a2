"""The on-disk format: a Zarr v3 group with checksummed shards and a manifest; see FORMAT.md."""
