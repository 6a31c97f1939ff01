"""CSV text → shards, every line accounted for."""
