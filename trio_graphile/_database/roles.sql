-- Roles for the queue in the schema {schema}.
--
-- Run this before the first `trio-graphile migrate` and once more after it, as a superuser or as a role that
-- may create roles:
--
--   trio-graphile roles | psql --set ON_ERROR_STOP=1 --dbname postgresql://...
--
-- It may be run again at any time, beside running workers; then it adds what is missing.
--
--   {migrator}
--     owns the schema: installs it, and brings it up to date
--   {worker}
--     runs jobs; also adds, changes, cancels, removes and lists them
--   {enqueuer}
--     adds jobs, and replaces those under a key; it cannot lock, complete or delete any
--   {observer}
--     reads everything, payloads included, and changes nothing
--
-- Nobody can log in as one of these: make the roles of your programs members, as in
--
--   grant {worker} to shop;

begin;
set local lock_timeout = '5s';

do $roles$
declare
  role_name text;
begin
  foreach role_name in array array[{migrator_text}, {worker_text}, {enqueuer_text}, {observer_text}] loop
    if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
      execute format('create role %I nologin', role_name);
    end if;
  end loop;

  -- Whoever is no superuser can act for the owner only as a member.
  if not pg_catalog.pg_has_role(
    current_user,
    {migrator_text},
    case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end
  ) then
    grant {migrator} to current_user;
  end if;
  if not exists (select from pg_catalog.pg_namespace where nspname = {schema_text}) then
    create schema {schema} authorization {migrator};
  end if;
end
$roles$;

do $roles$
declare
  foreign_owner text;
begin
  select pg_catalog.pg_get_userbyid(owned.owner)
  into foreign_owner
  from (
    select pg_namespace.nspowner as owner
    from pg_catalog.pg_namespace
    where pg_namespace.nspname = {schema_text}
    union all
    select pg_class.relowner
    from pg_catalog.pg_class
    join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
    where pg_namespace.nspname = {schema_text}
  ) as owned
  where pg_catalog.pg_get_userbyid(owned.owner) <> {migrator_text}
  limit 1;
  if found then
    raise insufficient_privilege using
      message = format(
        'the schema %I, or something in it, belongs to %I and not to %I',
        {schema_text}, foreign_owner, {migrator_text}
      ),
      hint = format('Name the owner: trio-graphile roles --migrator %I', foreign_owner);
  end if;
end
$roles$;

set local role {migrator};

grant usage on schema {schema} to {worker}, {enqueuer}, {observer};
grant execute on all functions in schema {schema} to {worker}, {enqueuer};
grant usage on all sequences in schema {schema} to {worker}, {enqueuer};
grant select, insert, update, delete on all tables in schema {schema} to {worker};
grant select on all tables in schema {schema} to {observer};

-- The same for what later versions bring.
alter default privileges in schema {schema} grant execute on functions to {worker}, {enqueuer};
alter default privileges in schema {schema} grant usage on sequences to {worker}, {enqueuer};
alter default privileges in schema {schema} grant select, insert, update, delete on tables to {worker};
alter default privileges in schema {schema} grant select on tables to {observer};

do $roles$
declare
  wanted record;
begin
  if to_regclass({tasks_text}) is null then
    raise notice 'there are no tables yet: run `trio-graphile migrate` as a member of %, then this script again',
      {migrator_text};
    return;
  end if;

  -- Which revisions are installed is the migrator's to write.
  revoke insert, update, delete on {schema}.migrations from {worker};
  revoke insert, update, delete on {schema}.trio_graphile_migrations from {worker};

  -- Whoever adds a job locks the rows of its task and its queue. For a lock PostgreSQL wants the right to update
  -- a column; the policies below allow the lock, and no update.
  grant select, insert, update (identifier) on {schema}._private_tasks to {enqueuer};
  grant select, insert, update (queue_name) on {schema}._private_job_queues to {enqueuer};
  grant
    select,
    insert,
    update (
      task_id, job_queue_id, payload, run_at, max_attempts, key, priority, flags, attempts, last_error, revision,
      updated_at
    )
    on {schema}._private_jobs to {enqueuer};
  if to_regclass({retirements_text}) is not null then  -- of Rust's functions, for jobs replaced while they run
    execute format('grant select, insert, update on %s to %I', {retirements_text}::regclass, {enqueuer_text});
  end if;

  -- Tables with row level security show no row without a policy. One that exists stays as it is: to make it
  -- anew, all who use the table would have to wait.
  for wanted in
    select relations.oid::regclass as relation, policies.name, policies.role, policies.command, policies.rows
    from (
      select pg_class.oid
      from pg_catalog.pg_class
      join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
      where pg_namespace.nspname = {schema_text}
        and pg_class.relrowsecurity
    ) as relations
    join (
      values
        (null, {worker_text}, {worker_text}, 'all', 'using (true) with check (true)'),
        (null, {observer_text}, {observer_text}, 'select', 'using (true)'),
        ({jobs_text}, {enqueuer_text}, {enqueuer_text}, 'all', 'using (true) with check (true)'),
        ({tasks_text}, {enqueuer_text} || ' reads', {enqueuer_text}, 'select', 'using (true)'),
        ({tasks_text}, {enqueuer_text} || ' adds', {enqueuer_text}, 'insert', 'with check (true)'),
        ({tasks_text}, {enqueuer_text} || ' locks', {enqueuer_text}, 'update', 'using (true) with check (false)'),
        ({queues_text}, {enqueuer_text} || ' reads', {enqueuer_text}, 'select', 'using (true)'),
        ({queues_text}, {enqueuer_text} || ' adds', {enqueuer_text}, 'insert', 'with check (true)'),
        ({queues_text}, {enqueuer_text} || ' locks', {enqueuer_text}, 'update', 'using (true) with check (false)'),
        ({retirements_text}, {enqueuer_text}, {enqueuer_text}, 'all', 'using (true) with check (true)')
    ) as policies(relation, name, role, command, rows)
      on policies.relation is null or to_regclass(policies.relation) = relations.oid
    where not exists (
      select
      from pg_catalog.pg_policy
      where pg_policy.polrelid = relations.oid
        and pg_policy.polname = policies.name
    )
    order by relations.oid, policies.name
  loop
    execute format(
      'create policy %I on %s for %s to %I %s',
      wanted.name, wanted.relation, wanted.command, wanted.role, wanted.rows
    );
  end loop;
end
$roles$;

commit;
