"""Aggregates that add up, divided once, at the end."""
