"""What operators see: logs and records."""
