"""What a call gets, and what keys and events do to it. Pure."""
