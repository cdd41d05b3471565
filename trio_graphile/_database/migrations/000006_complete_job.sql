-- Completes one job in the transaction of its handler, whose session plans as its user likes. A plan that was
-- made while the table was empty would read all of it, each time, later on: hence the setting.

create or replace function {schema}.trio_graphile_complete_job(
  worker_id text,
  job_id bigint,
  attempts smallint,
  had_key boolean
)
returns boolean
language plpgsql
set enable_seqscan = off
as $trio_graphile$
declare
  queue_id integer;
begin
  delete from {schema}._private_jobs as jobs
  where jobs.id = trio_graphile_complete_job.job_id
    and jobs.locked_by = trio_graphile_complete_job.worker_id
    and (
      jobs.attempts = trio_graphile_complete_job.attempts
      or trio_graphile_complete_job.had_key and jobs.key is null and jobs.attempts = jobs.max_attempts
    )
  returning jobs.job_queue_id into queue_id;
  if not found then
    return false;
  end if;

  update {schema}._private_job_queues as queues
  set locked_by = null, locked_at = null
  where queues.id = queue_id
    and queues.locked_by = trio_graphile_complete_job.worker_id;
  return true;
end
$trio_graphile$;
