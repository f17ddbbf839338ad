"""AssemblyAI Voice Agent."""
