-- Jobs that have no attempt left, of each task the latest: for lists and groups of failures. A job that succeeds is
-- never in it.

create index if not exists trio_graphile_failed_index
  on {schema}._private_jobs (task_id, run_at, id)
  where attempts >= max_attempts;
