-- The registry of live workers, shared with the Rust worker, which may have made it before us.

create table if not exists {schema}._private_workers (
  id text
    constraint _private_workers_pkey primary key,
  last_heartbeat_at timestamptz not null,
  started_at timestamptz not null default now(),
  metadata jsonb
);

create index if not exists _private_workers_last_heartbeat_at_idx
  on {schema}._private_workers (last_heartbeat_at);

create or replace function {schema}.worker_heartbeat(
  worker_id text,
  metadata json default null
)
returns void
language sql
as $trio_graphile$
  insert into {schema}._private_workers as workers (id, last_heartbeat_at, metadata)
  values (worker_heartbeat.worker_id, now(), worker_heartbeat.metadata::jsonb)
  on conflict (id) do update
  set last_heartbeat_at = excluded.last_heartbeat_at,
    metadata = coalesce(excluded.metadata, workers.metadata)
$trio_graphile$;

create or replace function {schema}.worker_deregister(
  worker_id text
)
returns void
language sql
as $trio_graphile$
  delete from {schema}._private_workers as workers
  where workers.id = worker_deregister.worker_id
$trio_graphile$;

create or replace function {schema}.list_stale_workers(
  stale_threshold interval
)
returns table (worker_id text)
language sql
as $trio_graphile$
  select workers.id
  from {schema}._private_workers as workers
  where workers.last_heartbeat_at < now() - list_stale_workers.stale_threshold
$trio_graphile$;

create or replace function {schema}.list_orphan_locked_workers(
  stale_threshold interval
)
returns table (worker_id text)
language sql
as $trio_graphile$
  with locks as (
    select jobs.locked_by, jobs.locked_at
    from {schema}._private_jobs as jobs
    where jobs.locked_by is not null
    union all
    select queues.locked_by, queues.locked_at
    from {schema}._private_job_queues as queues
    where queues.locked_by is not null
  )
  select distinct locks.locked_by
  from locks
  where locks.locked_at < now() - list_orphan_locked_workers.stale_threshold
    and not exists (
      select
      from {schema}._private_workers as workers
      where workers.id = locks.locked_by
    )
$trio_graphile$;

-- A job that lost its key while it ran was replaced or removed: it must not run again, so it gets no attempt
-- back. Detaching sets `updated_at` to no less than `locked_at`; claiming leaves it behind.
create or replace function {schema}.recover_dead_worker_jobs(
  worker_ids text[],
  recovery_delay interval default '00:00:00'::interval
)
returns integer
language plpgsql
as $trio_graphile$
declare
  recovered integer;
begin
  update {schema}._private_jobs as jobs
  set attempts = case
      when jobs.key is null and jobs.attempts >= jobs.max_attempts and jobs.updated_at >= jobs.locked_at
      then jobs.attempts
      else greatest(jobs.attempts - 1, 0)
    end,
    run_at = greatest(jobs.run_at, now() + recover_dead_worker_jobs.recovery_delay),
    last_error = 'Job recovered after worker interruption',
    locked_at = null,
    locked_by = null,
    updated_at = now()
  where jobs.locked_by = any(recover_dead_worker_jobs.worker_ids);
  get diagnostics recovered = row_count;

  update {schema}._private_job_queues as queues
  set locked_at = null, locked_by = null
  where queues.locked_by = any(recover_dead_worker_jobs.worker_ids);

  return recovered;
end
$trio_graphile$;

create or replace function {schema}.delete_stale_workers(
  worker_ids text[]
)
returns void
language sql
as $trio_graphile$
  delete from {schema}._private_workers as workers
  where workers.id = any(delete_stale_workers.worker_ids)
$trio_graphile$;
