"""Napster Companion API, from the server's side."""
