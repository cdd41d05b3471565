-- The tables, the type and the view that every worker of the schema knows, whatever it is written in.
-- Everything is named explicitly: the names are those of all installations, some of them fossils of renames.
-- The table `migrations` and its rows are there already (see schema.py).

create table {schema}._private_tasks (
  id integer
    generated always as identity (sequence name {schema}.tasks_id_seq)
    constraint tasks_pkey primary key,
  identifier text not null
    constraint tasks_identifier_key unique
    constraint tasks_identifier_check check (length(identifier) <= 128)
);

create table {schema}._private_job_queues (
  id integer
    generated always as identity (sequence name {schema}.job_queues_id_seq)
    constraint job_queues_pkey1 primary key,
  queue_name text not null
    constraint job_queues_queue_name_key unique
    constraint job_queues_queue_name_check check (length(queue_name) <= 128),
  locked_at timestamptz,
  locked_by text,
  is_available boolean not null
    generated always as (locked_at is null) stored
);

-- Tasks and queues are referred to without foreign keys; add_job and add_jobs lock the rows they refer to.
create table {schema}._private_jobs (
  id bigint
    generated always as identity (sequence name {schema}.jobs_id_seq1)
    constraint jobs_pkey1 primary key,
  job_queue_id integer,
  task_id integer not null,
  payload json not null default '{}'::json,
  priority smallint not null default 0,
  run_at timestamptz not null default now(),
  attempts smallint not null default 0,
  max_attempts smallint not null default 25
    constraint jobs_max_attempts_check check (max_attempts >= 1),
  last_error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  key text
    constraint jobs_key_key1 unique
    constraint jobs_key_check check (length(key) > 0 and length(key) <= 512),
  locked_at timestamptz,
  locked_by text,
  revision integer not null default 0,
  flags jsonb,
  is_available boolean not null
    generated always as (locked_at is null and attempts < max_attempts) stored
);

-- Workers ask with the same comparison, `is_available = true`.
create index jobs_main_index
  on {schema}._private_jobs (priority, run_at)
  include (id, task_id, job_queue_id)
  where is_available = true;

create index jobs_no_queue_index
  on {schema}._private_jobs (priority, run_at)
  include (id, task_id)
  where is_available = true and job_queue_id is null;

create table {schema}._private_known_crontabs (
  identifier text
    constraint known_crontabs_pkey primary key,
  known_since timestamptz not null,
  last_execution timestamptz
);

-- Without policies: whoever neither owns the tables nor has BYPASSRLS sees them empty.
alter table {schema}._private_tasks enable row level security;
alter table {schema}._private_job_queues enable row level security;
alter table {schema}._private_jobs enable row level security;
alter table {schema}._private_known_crontabs enable row level security;

create type {schema}.job_spec as (
  identifier text,
  payload json,
  queue_name text,
  run_at timestamptz,
  max_attempts smallint,
  job_key text,
  priority smallint,
  flags text[]
);

-- What people may read: no payload, it may hold secrets.
create view {schema}.jobs as
  select
    jobs.id,
    queues.queue_name,
    tasks.identifier as task_identifier,
    jobs.priority,
    jobs.run_at,
    jobs.attempts,
    jobs.max_attempts,
    jobs.last_error,
    jobs.created_at,
    jobs.updated_at,
    jobs.key,
    jobs.locked_at,
    jobs.locked_by,
    jobs.revision,
    jobs.flags
  from {schema}._private_jobs as jobs
  join {schema}._private_tasks as tasks on tasks.id = jobs.task_id
  left join {schema}._private_job_queues as queues on queues.id = jobs.job_queue_id;
