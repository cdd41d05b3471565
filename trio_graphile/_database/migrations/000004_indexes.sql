-- The best job of one queue, found without looking at the jobs of the others.

create index if not exists trio_graphile_queue_index
  on {schema}._private_jobs (job_queue_id, priority, run_at, id)
  where is_available = true and job_queue_id is not null;
