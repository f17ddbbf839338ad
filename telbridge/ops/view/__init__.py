"""A call for people's eyes: in a terminal, and as a page."""
