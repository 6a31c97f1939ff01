"""Into other tools."""
