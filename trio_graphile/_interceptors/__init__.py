"""Calls what users registered in `trio_graphile.hooks`, and does with jobs what interceptors answer.

Top down: `additions`, `runs` and `recoveries` ask interceptors about jobs that are about to be added, run or
recovered, and turn their answers into values of the queue. `chains` sorts hooks by when they are called,
`calls` calls a single one, and `raised` sorts what it raises.
"""
