"""Parquet shards and the manifest that describes them."""
