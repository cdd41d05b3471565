-- What workers are asked to interrupt. Only ours look here, each for its own; a row is gone once it was heard.

create table if not exists {schema}.trio_graphile_cancellations (
  job_id bigint
    constraint trio_graphile_cancellations_pkey primary key,
  worker_id text not null,
  outcome text not null
    constraint trio_graphile_cancellations_outcome_check check (outcome in ('fail', 'return')),
  reason text not null,
  requested_at timestamptz not null default clock_timestamp()
);

create index if not exists trio_graphile_cancellations_worker_index
  on {schema}.trio_graphile_cancellations (worker_id);
