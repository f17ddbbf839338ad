"""WebSockets as octets: what agents' connections and carriers' have in common."""
