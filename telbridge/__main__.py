"""`python -m telbridge`."""

from telbridge.cli import main

main()
