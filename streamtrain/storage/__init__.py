"""Where bytes lie: files and folders that appear whole or not at all."""
