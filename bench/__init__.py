"""What telbridge promises in figures, measured on this machine: `python -m bench` (see README.md)."""
