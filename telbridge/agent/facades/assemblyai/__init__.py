"""AssemblyAI Voice Agent, from the server's side."""
