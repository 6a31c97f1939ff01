"""Text sources → decompressed bytes → chunks of whole lines."""
