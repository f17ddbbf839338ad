"""The agent side: one sans-IO protocol an API, and the one WebSocket shell that carries them."""
