"""Deepgram Voice Agent (V1), from the server's side."""
