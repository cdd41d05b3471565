"""Groups of errors that begin alike, as SQL: the same as `_model.failure_groups.error_group`."""

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
# Only the beginning of a long error is fetched: `failure_groups.LONGEST_START` characters.
