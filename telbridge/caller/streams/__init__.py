"""A caller who comes by media stream: does towards a bridge what a carrier does."""
