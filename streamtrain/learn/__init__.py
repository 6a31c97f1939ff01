"""Minibatches → a model."""
