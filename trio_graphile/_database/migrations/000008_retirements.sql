-- From revision 22 on, Rust's functions mark jobs that were replaced, removed or failed while they ran. Those
-- must not run again, whatever becomes of their workers. Before that there is no such table.
--
-- Volatile, so that it sees what was committed while its caller waited for the row of the job.

create or replace function {schema}.trio_graphile_is_retired(
  job_id bigint
)
returns boolean
language plpgsql
as $trio_graphile$
begin
  if to_regclass($trio_graphile_name${schema}._private_job_retirements$trio_graphile_name$) is null then
    return false;
  end if;
  return exists (
    select
    from {schema}._private_job_retirements as retirements
    where retirements.id = trio_graphile_is_retired.job_id
  );
end
$trio_graphile$;
