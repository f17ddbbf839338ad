"""The agent APIs from the server's side, one package each."""
