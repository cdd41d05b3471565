"""HTTP/1.1 by h11 on Trio streams: an ASGI server that stops in a bounded time, whatever its clients do.

Nothing is shielded. A cancellation ends everything at once; a stop ends idle connections at once and gives
current requests their grace period.
"""
