-- What the queue was like, minute by minute for seven days: charts then show the time before somebody looked.
-- Whoever comes first in a minute writes its row, which stays empty if he does not come to the end.

create table if not exists {schema}.trio_graphile_samples (
  minute timestamptz
    constraint trio_graphile_samples_pkey primary key,
  ready bigint,
  scheduled bigint,
  locked bigint,
  failed bigint,
  estimated text[] not null default '{}',
  oldest_ready float8,
  inserted bigint,
  deleted bigint,
  tasks jsonb,
  totals jsonb
);
