"""Legs whose media comes over a WebSocket: carriers' media streams, and a generic protocol."""
