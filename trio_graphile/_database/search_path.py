"""Checks that the server is one for us, and that no functions precede PostgreSQL's own in the search path."""

from __future__ import annotations

from trio_graphile._database.connection import Executor
from trio_graphile._database.schema_plan import check_server
from trio_graphile._exceptions import DatabaseRefused
from trio_graphile._model.json import decode

SHADOWS = """
    select found.name
    from (
      select pg_catalog.format('%s.%s', schemas.nspname, functions.proname) as name
      from pg_catalog.pg_namespace as schemas
      join pg_catalog.pg_proc as functions on functions.pronamespace operator(pg_catalog.=) schemas.oid
      join pg_catalog.pg_proc as builtin
        on builtin.proname operator(pg_catalog.=) functions.proname
        and builtin.proargtypes operator(pg_catalog.=) functions.proargtypes
        and builtin.pronamespace operator(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
      where schemas.nspname operator(pg_catalog.=) any($1::pg_catalog.name[])
      union all
      select pg_catalog.format('%s.%s', schemas.nspname, operators.oprname)
      from pg_catalog.pg_namespace as schemas
      join pg_catalog.pg_operator as operators on operators.oprnamespace operator(pg_catalog.=) schemas.oid
      join pg_catalog.pg_operator as builtin
        on builtin.oprname operator(pg_catalog.=) operators.oprname
        and builtin.oprleft operator(pg_catalog.=) operators.oprleft
        and builtin.oprright operator(pg_catalog.=) operators.oprright
        and builtin.oprnamespace operator(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
      where schemas.nspname operator(pg_catalog.=) any($1::pg_catalog.name[])
    ) as found
    order by found.name
    limit 5
"""  # $1 schemas

SEARCH_PATH = """
    select pg_catalog.array_to_json(pg_catalog.current_schemas(true))::text as schemas, current_user as role,
      pg_catalog.current_setting('server_version_num')::pg_catalog.int4 as version
"""


async def check_server_and_path(executor: Executor) -> None:
    """Raise `PostgresTooOld`, or `DatabaseRefused` if PostgreSQL's own names have another meaning here.

    That takes a search path that names pg_catalog, and before it a function with the same name and parameters
    as one of PostgreSQL's. Our statements would call it by mistake.
    """
    [row] = await executor.fetch(SEARCH_PATH)
    check_server(row["version"])
    schemas = decode(row["schemas"])  # as text: asyncpg would have to ask for the type of an array of names
    before = schemas[: schemas.index("pg_catalog")]
    if not before:
        return
    shadows = [found["name"] for found in await executor.fetch(SHADOWS, before)]
    if shadows:
        role = row["role"]
        raise DatabaseRefused(
            f"the search path of the role {role} has {', '.join(before)} before pg_catalog, and there "
            f"{', '.join(shadows)}, which would be called instead of PostgreSQL's own: leave pg_catalog out "
            f"of the path (alter role {role} set search_path = ...), then it comes first"
        )
