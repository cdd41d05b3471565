-- The functions that SQL callers and workers of every language call by name. Signatures are contract, bodies
-- are ours.
--
-- Arguments bear the names of columns: they are always written with the function's name, columns with their
-- table's. No search path is assumed, so everything is written with its schema.
--
-- Locks are taken in one order by everybody: tasks by id, queues by id, jobs by key.
--
-- Those that look up jobs by key or id do without sequential scans: a plan that a session made and kept while
-- the table was empty would read all of it, each time, later on.


-- Two arrays of JSON are joined as text: through jsonb their items would lose duplicate keys, order and
-- spelling. Anything else is replaced. Simple enough to be inlined by the planner.
create or replace function {schema}.trio_graphile_merge_payloads(
  stored json,
  added json
)
returns json
language sql
immutable
as $trio_graphile$
  select case
    when json_typeof(stored) <> 'array' or json_typeof(added) <> 'array' then added
    when json_array_length(stored) = 0 then added
    when json_array_length(added) = 0 then stored
    else (
      left(rtrim(stored::text, E' \t\n\r'), -1) || ', ' || substr(ltrim(added::text, E' \t\n\r'), 2)
    )::json
  end
$trio_graphile$;


-- One spec is left to add_job. Without keys, one insert does it. With keys, rows that stand under them are
-- locked first, so that a worker that is claiming one is waited for, and its job detached, instead of the new
-- payload being lost.
create or replace function {schema}.add_jobs(
  specs {schema}.job_spec[],
  job_key_preserve_run_at boolean default false
)
returns setof {schema}._private_jobs
language plpgsql
set enable_seqscan = off
as $trio_graphile$
declare
  identifiers text[];
  queue_names text[];
  keys text[];
  repeated_key text;
  sequence regclass;
  ids bigint[];
  missing_ids bigint[];
  unavailable_ids bigint[];
  affected integer;
begin
  if coalesce(cardinality(add_jobs.specs), 0) = 0 then
    notify "jobs:insert";
    return;
  end if;

  if cardinality(add_jobs.specs) = 1 then
    return query
      select job.*
      from unnest(add_jobs.specs) as spec
      cross join lateral {schema}.add_job(
        spec.identifier,
        spec.payload,
        spec.queue_name,
        spec.run_at,
        spec.max_attempts,
        spec.job_key,
        spec.priority,
        spec.flags,
        case when add_jobs.job_key_preserve_run_at then 'preserve_run_at' else 'replace' end
      ) as job;
    return;
  end if;

  keys := array(
    select spec.job_key
    from unnest(add_jobs.specs) as spec
    where spec.job_key is not null
    order by spec.job_key
  );
  select key.name
  into repeated_key
  from unnest(keys) as key(name)
  group by key.name
  having count(*) > 1
  limit 1;
  if found then
    raise cardinality_violation using
      message = format('The job key "%s" stands twice in one call', repeated_key),
      hint = 'Add the jobs one after the other.';
  end if;

  -- Only missing names are inserted: an insert that conflicts would burn one of 2^31 ids each time. The lock
  -- keeps the rows from being collected as garbage before our jobs are there for all to see; a row that just
  -- went is made anew.
  identifiers := array(
    select distinct spec.identifier
    from unnest(add_jobs.specs) as spec
  );
  loop
    perform
    from {schema}._private_tasks as tasks
    join unnest(identifiers) as wanted(identifier) on wanted.identifier = tasks.identifier
    order by tasks.id
    for key share of tasks;
    get diagnostics affected = row_count;
    exit when affected = cardinality(identifiers);

    insert into {schema}._private_tasks (identifier)
    select wanted.identifier
    from unnest(identifiers) as wanted(identifier)
    where not exists (
      select
      from {schema}._private_tasks as tasks
      where tasks.identifier = wanted.identifier
    )
    order by wanted.identifier
    on conflict (identifier) do nothing;
  end loop;

  queue_names := array(
    select distinct spec.queue_name
    from unnest(add_jobs.specs) as spec
    where spec.queue_name is not null
  );
  loop
    exit when cardinality(queue_names) = 0;
    perform
    from {schema}._private_job_queues as queues
    join unnest(queue_names) as wanted(queue_name) on wanted.queue_name = queues.queue_name
    order by queues.id
    for key share of queues;
    get diagnostics affected = row_count;
    exit when affected = cardinality(queue_names);

    insert into {schema}._private_job_queues (queue_name)
    select wanted.queue_name
    from unnest(queue_names) as wanted(queue_name)
    where not exists (
      select
      from {schema}._private_job_queues as queues
      where queues.queue_name = wanted.queue_name
    )
    order by wanted.queue_name
    on conflict (queue_name) do nothing;
  end loop;

  -- The random number keeps PostgreSQL from folding the notifications of one transaction into one.
  perform pg_notify(
    'jobs:insert',
    json_build_object('r', random(), 'count', cardinality(add_jobs.specs))::text
  );

  if cardinality(keys) = 0 then
    return query
      insert into {schema}._private_jobs as jobs
        (task_id, job_queue_id, payload, run_at, max_attempts, priority, flags)
      select
        tasks.id,
        queues.id,
        coalesce(spec.payload, '{}'::json),
        coalesce(spec.run_at, now()),
        coalesce(spec.max_attempts, 25::smallint),
        coalesce(spec.priority, 0::smallint),
        case
          when spec.flags is not null
          then (select jsonb_object_agg(flag.name, true) from unnest(spec.flags) as flag(name))
        end
      from unnest(add_jobs.specs) with ordinality as spec
        (identifier, payload, queue_name, run_at, max_attempts, job_key, priority, flags, position)
      join {schema}._private_tasks as tasks on tasks.identifier = spec.identifier
      left join {schema}._private_job_queues as queues on queues.queue_name = spec.queue_name
      order by spec.position
      returning jobs.*;
    return;
  end if;

  -- Ids are drawn in the order of the specs and rows written in the order of the keys: two calls that add the
  -- same new keys then wait for one another instead of dying in a deadlock.
  sequence := pg_get_serial_sequence(pg_typeof(null::{schema}._private_jobs)::text, 'id');
  ids := array(
    select nextval(sequence)
    from generate_series(1, cardinality(add_jobs.specs))
  );
  missing_ids := ids;
  for attempt in 1 .. 10 loop
    -- Each key is looked up by itself, here and below: a plan made for all while the table was small would
    -- read all of it after it has grown.
    unavailable_ids := array(
      select existing.id
      from unnest(keys) as wanted(key)
      cross join lateral (
        select jobs.id, jobs.is_available
        from {schema}._private_jobs as jobs
        where jobs.key = wanted.key
        limit 1
        for update
      ) as existing
      where existing.is_available = false
    );

    -- Detach what is running or exhausted. A worker that lost track of its claims tells a detached job from
    -- others by `updated_at` being no less than `locked_at`, and now() may be older than the claim we just
    -- waited for.
    if cardinality(unavailable_ids) > 0 then
      update {schema}._private_jobs as jobs
      set key = null,
        attempts = jobs.max_attempts,
        updated_at = greatest(now(), jobs.locked_at)
      where jobs.id = any(unavailable_ids);
    end if;

    insert into {schema}._private_jobs as jobs
      (id, task_id, job_queue_id, payload, run_at, max_attempts, priority, flags, key)
    overriding system value
    select
      spec.missing_id,
      tasks.id,
      queues.id,
      coalesce(spec.payload, '{}'::json),
      coalesce(spec.run_at, now()),
      coalesce(spec.max_attempts, 25::smallint),
      coalesce(spec.priority, 0::smallint),
      case
        when spec.flags is not null
        then (select jsonb_object_agg(flag.name, true) from unnest(spec.flags) as flag(name))
      end,
      spec.job_key
    from rows from (unnest(add_jobs.specs), unnest(missing_ids)) as spec
      (identifier, payload, queue_name, run_at, max_attempts, job_key, priority, flags, missing_id)
    join {schema}._private_tasks as tasks on tasks.identifier = spec.identifier
    left join {schema}._private_job_queues as queues on queues.queue_name = spec.queue_name
    where spec.missing_id is not null
    order by spec.job_key, spec.missing_id
    on conflict (key) do update
    set task_id = excluded.task_id,
      job_queue_id = excluded.job_queue_id,
      payload = {schema}.trio_graphile_merge_payloads(jobs.payload, excluded.payload),
      run_at = case
          when add_jobs.job_key_preserve_run_at and jobs.attempts = 0
          then jobs.run_at
          else excluded.run_at
        end,
      max_attempts = excluded.max_attempts,
      priority = excluded.priority,
      flags = excluded.flags,
      attempts = 0,
      last_error = null,
      revision = jobs.revision + 1,
      updated_at = now()
    where jobs.is_available = true;
    get diagnostics affected = row_count;

    if affected = (select count(placed.id) from unnest(missing_ids) as placed(id)) then
      return query
        select jobs.*
        from rows from (unnest(add_jobs.specs), unnest(ids)) with ordinality as spec
          (identifier, payload, queue_name, run_at, max_attempts, job_key, priority, flags, id, position)
        cross join lateral (
          select keyed.*
          from {schema}._private_jobs as keyed
          where keyed.key = spec.job_key
          union all
          select plain.*
          from {schema}._private_jobs as plain
          where plain.id = spec.id
            and spec.job_key is null
        ) as jobs
        order by spec.position;
      return;
    end if;

    -- A key was free when we looked; before we used it, somebody added a job under it and a worker claimed
    -- that. Our insert locked its row, so next time it is detached.
    missing_ids := array(
      select case when keyed.is_available = false then spec.missing_id end
      from rows from (unnest(add_jobs.specs), unnest(missing_ids)) with ordinality as spec
        (
          identifier, payload, queue_name, run_at, max_attempts, job_key, priority, flags,
          missing_id, position
        )
      left join {schema}._private_jobs as keyed on keyed.key = spec.job_key
      order by spec.position
    );
  end loop;
  raise exception using
    errcode = 'GWNOR',
    message = format(
      'Unable to schedule job for key "%s"',
      (
        select spec.job_key
        from rows from (unnest(add_jobs.specs), unnest(missing_ids)) as spec
          (identifier, payload, queue_name, run_at, max_attempts, job_key, priority, flags, missing_id)
        where spec.missing_id is not null
        limit 1
      )
    );
end
$trio_graphile$;


-- What add_jobs does for many specs, in statements for one: those are planned once, not in each call. Being
-- alone, it can look before it writes, so it draws no id for a job that exists.
create or replace function {schema}.add_job(
  identifier text,
  payload json default null,
  queue_name text default null,
  run_at timestamptz default null,
  max_attempts integer default null,
  job_key text default null,
  priority integer default null,
  flags text[] default null,
  job_key_mode text default 'replace'
)
returns {schema}._private_jobs
language plpgsql
set enable_seqscan = off
as $trio_graphile$
declare
  task integer;
  queue integer;
  flag_set jsonb;
  job {schema}._private_jobs;
begin
  if add_job.job_key is not null
    and add_job.job_key_mode not in ('replace', 'preserve_run_at', 'unsafe_dedupe')
  then
    raise exception using
      errcode = 'GWBKM',
      message = 'Invalid job_key_mode value, expected ''replace'', ''preserve_run_at'' or ''unsafe_dedupe''.';
  end if;

  loop
    select tasks.id
    into task
    from {schema}._private_tasks as tasks
    where tasks.identifier = add_job.identifier
    for key share;
    exit when found;

    insert into {schema}._private_tasks (identifier)
    values (add_job.identifier)
    on conflict do nothing;
  end loop;

  loop
    exit when add_job.queue_name is null;
    select queues.id
    into queue
    from {schema}._private_job_queues as queues
    where queues.queue_name = add_job.queue_name
    for key share;
    exit when found;

    insert into {schema}._private_job_queues (queue_name)
    values (add_job.queue_name)
    on conflict do nothing;
  end loop;

  if add_job.flags is not null then
    flag_set := (select jsonb_object_agg(flag.name, true) from unnest(add_job.flags) as flag(name));
  end if;
  add_job.payload := coalesce(add_job.payload, '{}'::json);
  add_job.run_at := coalesce(add_job.run_at, now());
  add_job.max_attempts := coalesce(add_job.max_attempts, 25);
  add_job.priority := coalesce(add_job.priority, 0);

  for attempt in 1 .. 10 loop
    if add_job.job_key is not null and add_job.job_key_mode is distinct from 'unsafe_dedupe' then
      select jobs.*
      into job
      from {schema}._private_jobs as jobs
      where jobs.key = add_job.job_key
      for update;
    end if;

    if job.is_available then
      update {schema}._private_jobs as jobs
      set task_id = task,
        job_queue_id = queue,
        payload = {schema}.trio_graphile_merge_payloads(jobs.payload, add_job.payload),
        run_at = case
            when add_job.job_key_mode = 'preserve_run_at' and jobs.attempts = 0
            then jobs.run_at
            else add_job.run_at
          end,
        max_attempts = add_job.max_attempts::smallint,
        priority = add_job.priority::smallint,
        flags = flag_set,
        attempts = 0,
        last_error = null,
        revision = jobs.revision + 1,
        updated_at = now()
      where jobs.id = job.id
      returning jobs.*
      into job;
    else
      if job.id is not null then
        update {schema}._private_jobs as jobs
        set key = null,
          attempts = jobs.max_attempts,
          updated_at = greatest(now(), jobs.locked_at)
        where jobs.id = job.id;
      end if;

      insert into {schema}._private_jobs as jobs
        (task_id, job_queue_id, payload, run_at, max_attempts, key, priority, flags)
      values (
        task,
        queue,
        add_job.payload,
        add_job.run_at,
        add_job.max_attempts::smallint,
        add_job.job_key,
        add_job.priority::smallint,
        flag_set
      )
      on conflict (key) do update
      set revision = jobs.revision + 1, updated_at = now()
      where add_job.job_key_mode = 'unsafe_dedupe'
      returning jobs.*
      into job;
    end if;

    -- No row: somebody else added a job under the key after we had looked.
    continue when job.id is null;
    if job.revision = 0 or add_job.job_key_mode is distinct from 'unsafe_dedupe' then
      perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', 1)::text);
    end if;
    return job;
  end loop;
  raise exception using
    errcode = 'GWNOR',
    message = format('Unable to schedule job for key "%s"', add_job.job_key);
end
$trio_graphile$;


-- Delete the job under a key; one that is running is detached instead: it ends its run, and is not tried
-- again.
create or replace function {schema}.remove_job(
  job_key text
)
returns {schema}._private_jobs
language plpgsql
strict
set enable_seqscan = off
as $trio_graphile$
declare
  job {schema}._private_jobs;
begin
  loop
    select jobs.*
    into job
    from {schema}._private_jobs as jobs
    where jobs.key = remove_job.job_key
    for update;
    exit when found;

    -- Nothing may also mean that while we waited for the row, its key went over to another.
    if not exists (
      select
      from {schema}._private_jobs as jobs
      where jobs.key = remove_job.job_key
    ) then
      return null;
    end if;
  end loop;

  if job.locked_at >= now() - interval '4 hours' then
    update {schema}._private_jobs as jobs
    set key = null,
      attempts = jobs.max_attempts,
      updated_at = greatest(now(), jobs.locked_at)
    where jobs.id = job.id
    returning jobs.*
    into job;
    return job;
  end if;

  delete from {schema}._private_jobs as jobs
  where jobs.id = job.id;
  update {schema}._private_job_queues as queues
  set locked_at = null, locked_by = null
  where queues.id = job.job_queue_id
    and queues.locked_by = job.locked_by
    and queues.locked_at < now() - interval '4 hours';
  perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', -1)::text);
  return job;
end
$trio_graphile$;


-- What the next three change are jobs that nobody runs: unlocked, or locked for over four hours. With such a
-- lock goes that of the job's queue, if it is the same worker's and as old; otherwise the queue would be
-- stuck.

create or replace function {schema}.complete_jobs(
  job_ids bigint[]
)
returns setof {schema}._private_jobs
language sql
set enable_seqscan = off
as $trio_graphile$
  with completed as (
    delete from {schema}._private_jobs as jobs
    where jobs.id = any(complete_jobs.job_ids)
      and (jobs.locked_at is null or jobs.locked_at < now() - interval '4 hours')
    returning jobs.*
  ),
  freed_queues as (
    update {schema}._private_job_queues as queues
    set locked_at = null, locked_by = null
    from completed
    where queues.id = completed.job_queue_id
      and queues.locked_by = completed.locked_by
      and queues.locked_at < now() - interval '4 hours'
  )
  select completed.*
  from completed
$trio_graphile$;


create or replace function {schema}.permanently_fail_jobs(
  job_ids bigint[],
  error_message text default null
)
returns setof {schema}._private_jobs
language sql
set enable_seqscan = off
as $trio_graphile$
  with chosen as (
    select jobs.id, jobs.job_queue_id, jobs.locked_by
    from {schema}._private_jobs as jobs
    where jobs.id = any(permanently_fail_jobs.job_ids)
      and (jobs.locked_at is null or jobs.locked_at < now() - interval '4 hours')
    order by jobs.id
    for update
  ),
  freed_queues as (
    update {schema}._private_job_queues as queues
    set locked_at = null, locked_by = null
    from chosen
    where queues.id = chosen.job_queue_id
      and queues.locked_by = chosen.locked_by
      and queues.locked_at < now() - interval '4 hours'
  )
  update {schema}._private_jobs as jobs
  set attempts = jobs.max_attempts,
    last_error = coalesce(permanently_fail_jobs.error_message, 'Manually marked as failed'),
    locked_at = null,
    locked_by = null,
    updated_at = now()
  from chosen
  where jobs.id = chosen.id
  returning jobs.*
$trio_graphile$;


create or replace function {schema}.reschedule_jobs(
  job_ids bigint[],
  run_at timestamptz default null,
  priority integer default null,
  attempts integer default null,
  max_attempts integer default null
)
returns setof {schema}._private_jobs
language sql
set enable_seqscan = off
as $trio_graphile$
  with chosen as (
    select jobs.id, jobs.job_queue_id, jobs.locked_by
    from {schema}._private_jobs as jobs
    where jobs.id = any(reschedule_jobs.job_ids)
      and (jobs.locked_at is null or jobs.locked_at < now() - interval '4 hours')
    order by jobs.id
    for update
  ),
  freed_queues as (
    update {schema}._private_job_queues as queues
    set locked_at = null, locked_by = null
    from chosen
    where queues.id = chosen.job_queue_id
      and queues.locked_by = chosen.locked_by
      and queues.locked_at < now() - interval '4 hours'
  )
  update {schema}._private_jobs as jobs
  set run_at = coalesce(reschedule_jobs.run_at, jobs.run_at),
    priority = coalesce(reschedule_jobs.priority, jobs.priority)::smallint,
    attempts = coalesce(reschedule_jobs.attempts, jobs.attempts)::smallint,
    max_attempts = coalesce(reschedule_jobs.max_attempts, jobs.max_attempts)::smallint,
    locked_at = null,
    locked_by = null,
    updated_at = now()
  from chosen
  where jobs.id = chosen.id
  returning jobs.*
$trio_graphile$;


-- The attempts that the workers were making stay spent.
create or replace function {schema}.force_unlock_workers(
  worker_ids text[]
)
returns void
language sql
as $trio_graphile$
  update {schema}._private_jobs as jobs
  set locked_at = null, locked_by = null
  where jobs.locked_by = any(force_unlock_workers.worker_ids);

  update {schema}._private_job_queues as queues
  set locked_at = null, locked_by = null
  where queues.locked_by = any(force_unlock_workers.worker_ids);
$trio_graphile$;
