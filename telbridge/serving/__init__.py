"""Processes: supervisor, worker, agent."""
