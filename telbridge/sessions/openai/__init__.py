"""OpenAI Realtime (GA)."""
