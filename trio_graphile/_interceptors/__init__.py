"""Calls what users registered in `trio_graphile.hooks`, and does with jobs what interceptors answer.

Top down: `additions` and `recoveries` ask interceptors about jobs that are added or recovered, and write the
result; `chains` calls hooks in their order; `raised` sorts what they raise.
"""
