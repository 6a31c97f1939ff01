"""Shards and models in other tools: torch's DataLoader, scikit-learn, ONNX."""
