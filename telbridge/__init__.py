"""telbridge puts a hosted voice agent on the phone."""

__version__ = "0.1.0"
