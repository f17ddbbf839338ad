"""Azure Voice Live, from the server's side."""
