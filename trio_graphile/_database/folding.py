"""Errors that begin alike, as SQL: what `_model.failure_groups.error_group` says of a text."""

from __future__ import annotations

ERROR_GROUP = """left(
        regexp_replace(
          split_part(coalesce(jobs.last_error, ''), e'\\n', 1),
          '[0-9]+',
          '#',
          'g'
        ),
        200
      )"""
