"""Audio as values: formats, G.711, resampling. Pure: no clock, no socket, nothing else of ours."""
