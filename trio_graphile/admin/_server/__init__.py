"""HTTP/1.1 by h11 on Trio streams: an ASGI server that stops in a bounded time, whatever its clients do.

Nothing is shielded. A cancellation ends everything at once; a stop ends what is idle at once and gives the
requests under way their grace period.
"""
