"""Deepgram Voice Agent (V1)."""
