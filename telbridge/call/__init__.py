"""A call: its events, its playout, its turns, and the actor that joins a leg and a session."""
