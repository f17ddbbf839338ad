"""OpenAI Realtime (GA), from the server's side."""
