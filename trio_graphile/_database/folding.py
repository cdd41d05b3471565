"""Errors that begin alike, as SQL: what `_model.failure_groups.error_group` says of a text."""

from __future__ import annotations

ERROR_GROUP = """left(
        regexp_replace(
          split_part(substring(coalesce(jobs.last_error, '') from 1 for 4000), e'\\n', 1),
          '[0-9]+',
          '#',
          'g'
        ),
        200
      )"""
# Of a long error no more than its beginning is fetched: so much as `failure_groups.LONGEST_START`.
