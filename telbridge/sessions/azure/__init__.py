"""Azure Voice Live."""
