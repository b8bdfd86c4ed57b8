"""Takes in what exporters send."""
