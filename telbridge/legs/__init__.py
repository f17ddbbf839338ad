"""The telephone side: one leg kind a peer."""
