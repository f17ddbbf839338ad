"""Speech in and out: when somebody speaks (vad, turn, echo), what they say (stt), how we say it (tts).

Each piece stands behind a Protocol of a few methods. Voice activity runs on the event loop (50 µs a
frame); recognition and synthesis run in processes of their own (worker, pool).
"""
