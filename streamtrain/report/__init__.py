"""Data sets and runs shown to people: as text, pictures and an HTML page."""
