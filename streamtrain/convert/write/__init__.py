"""Chunks in parallel → shards, the journal of a resume, the manifest."""
