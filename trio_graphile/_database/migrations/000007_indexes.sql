-- Jobs of one task, and jobs of any queue, in the order in which they are taken: for claims that would otherwise
-- meet a crowd of jobs first that they have to leave alone.

create index if not exists trio_graphile_task_index
  on {schema}._private_jobs (task_id, priority, run_at, id)
  where is_available = true and job_queue_id is null;

create index if not exists trio_graphile_queued_index
  on {schema}._private_jobs (priority, run_at, id)
  where is_available = true and job_queue_id is not null;
