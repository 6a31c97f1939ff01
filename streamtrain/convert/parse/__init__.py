"""Chunks of lines → blocks of pixels and labels."""
