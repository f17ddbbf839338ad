"""Calls that a dialplan of Asterisk hands to us as to a Stasis application, over its REST interface (ARI)."""
