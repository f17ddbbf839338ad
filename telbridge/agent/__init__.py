"""The embedded agent: a voice agent of our own behind a vendor's protocol, in a process of its own.

It serves the OpenAI Realtime protocol on loopback, so that the bridge meets it as it meets the real
service. The facade is written from the vendor's pages alone, as a second reading of them: nothing of
`telbridge.sessions` is imported here.
"""
