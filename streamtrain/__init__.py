"""Digit CSV of any size → Parquet shards → shuffled minibatches → an MLP with hand-written gradients."""

__version__ = "0.1.0"
