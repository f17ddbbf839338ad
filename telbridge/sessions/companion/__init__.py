"""Napster Companion API."""
