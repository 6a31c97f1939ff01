"""What the columns mean: options, presets, detection with reasons."""
