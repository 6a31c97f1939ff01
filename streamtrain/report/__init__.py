"""Data sets and runs as people look at them: text, pictures, an HTML page."""
