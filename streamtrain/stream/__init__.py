"""Shards → shuffled, normalised minibatches within a memory budget."""
