"""A fresh schema has the catalog that workers of every language expect; what is ours has a prefix."""

from __future__ import annotations

import pytest

from trio_graphile._database.database import Database

NOT_OURS = "not like 'trio\\_graphile\\_%'"

COLUMNS = {
    "_private_jobs": [
        "id bigint not null identity",
        "job_queue_id integer",
        "task_id integer not null",
        "payload json not null default '{}'::json",
        "priority smallint not null default 0",
        "run_at timestamp with time zone not null default now()",
        "attempts smallint not null default 0",
        "max_attempts smallint not null default 25",
        "last_error text",
        "created_at timestamp with time zone not null default now()",
        "updated_at timestamp with time zone not null default now()",
        "key text",
        "locked_at timestamp with time zone",
        "locked_by text",
        "revision integer not null default 0",
        "flags jsonb",
        "is_available boolean not null stored ((locked_at IS NULL) AND (attempts < max_attempts))",
    ],
    "_private_job_queues": [
        "id integer not null identity",
        "queue_name text not null",
        "locked_at timestamp with time zone",
        "locked_by text",
        "is_available boolean not null stored (locked_at IS NULL)",
    ],
    "_private_tasks": ["id integer not null identity", "identifier text not null"],
    "_private_known_crontabs": [
        "identifier text not null",
        "known_since timestamp with time zone not null",
        "last_execution timestamp with time zone",
    ],
    "migrations": [
        "id integer not null",
        "ts timestamp with time zone not null default now()",
        "breaking boolean not null default false",
    ],
    "_private_workers": [
        "id text not null",
        "last_heartbeat_at timestamp with time zone not null",
        "started_at timestamp with time zone not null default now()",
        "metadata jsonb",
    ],
    "job_spec": [
        "identifier text",
        "payload json",
        "queue_name text",
        "run_at timestamp with time zone",
        "max_attempts smallint",
        "job_key text",
        "priority smallint",
        "flags text[]",
    ],
    "jobs": [
        "id bigint",
        "queue_name text",
        "task_identifier text",
        "priority smallint",
        "run_at timestamp with time zone",
        "attempts smallint",
        "max_attempts smallint",
        "last_error text",
        "created_at timestamp with time zone",
        "updated_at timestamp with time zone",
        "key text",
        "locked_at timestamp with time zone",
        "locked_by text",
        "revision integer",
        "flags jsonb",
    ],
}

RELATIONS = {
    # name: (kind, row level security)
    "_private_jobs": ("r", True),
    "_private_job_queues": ("r", True),
    "_private_tasks": ("r", True),
    "_private_known_crontabs": ("r", True),
    "migrations": ("r", False),
    "_private_workers": ("r", False),
    "jobs": ("v", False),
    "job_spec": ("c", False),
}

CONSTRAINTS = {
    ("_private_jobs", "jobs_pkey1", "PRIMARY KEY (id)"),
    ("_private_jobs", "jobs_key_key1", "UNIQUE (key)"),
    ("_private_jobs", "jobs_key_check", "CHECK (((length(key) > 0) AND (length(key) <= 512)))"),
    ("_private_jobs", "jobs_max_attempts_check", "CHECK ((max_attempts >= 1))"),
    ("_private_job_queues", "job_queues_pkey1", "PRIMARY KEY (id)"),
    ("_private_job_queues", "job_queues_queue_name_key", "UNIQUE (queue_name)"),
    ("_private_job_queues", "job_queues_queue_name_check", "CHECK ((length(queue_name) <= 128))"),
    ("_private_tasks", "tasks_pkey", "PRIMARY KEY (id)"),
    ("_private_tasks", "tasks_identifier_key", "UNIQUE (identifier)"),
    ("_private_tasks", "tasks_identifier_check", "CHECK ((length(identifier) <= 128))"),
    ("_private_known_crontabs", "known_crontabs_pkey", "PRIMARY KEY (identifier)"),
    ("migrations", "migrations_pkey", "PRIMARY KEY (id)"),
    ("_private_workers", "_private_workers_pkey", "PRIMARY KEY (id)"),
}

INDEXES = {
    "jobs_main_index": "btree (priority, run_at) INCLUDE (id, task_id, job_queue_id) "
    "WHERE (is_available = true)",
    "jobs_no_queue_index": "btree (priority, run_at) INCLUDE (id, task_id) "
    "WHERE ((is_available = true) AND (job_queue_id IS NULL))",
    "_private_workers_last_heartbeat_at_idx": "btree (last_heartbeat_at)",
}
OUR_INDEXES = {
    "trio_graphile_failed_index": "btree (task_id, run_at, id) WHERE (attempts >= max_attempts)",
    "trio_graphile_queue_index": "btree (job_queue_id, priority, run_at, id) "
    "WHERE ((is_available = true) AND (job_queue_id IS NOT NULL))",
    "trio_graphile_queued_index": "btree (priority, run_at, id) "
    "WHERE ((is_available = true) AND (job_queue_id IS NOT NULL))",
    "trio_graphile_task_index": "btree (task_id, priority, run_at, id) "
    "WHERE ((is_available = true) AND (job_queue_id IS NULL))",
}

SEQUENCES = {
    "jobs_id_seq1": ("_private_jobs", "bigint", 2**63 - 1),
    "job_queues_id_seq": ("_private_job_queues", "integer", 2**31 - 1),
    "tasks_id_seq": ("_private_tasks", "integer", 2**31 - 1),
}

JOB = "graphile_worker._private_jobs"
FUNCTIONS = {
    # name: (arguments, result, language, strict, estimated rows)
    "add_job": (
        (
            "identifier text, payload json DEFAULT NULL::json, queue_name text DEFAULT NULL::text, "
            "run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, "
            "max_attempts integer DEFAULT NULL::integer, job_key text DEFAULT NULL::text, "
            "priority integer DEFAULT NULL::integer, flags text[] DEFAULT NULL::text[], "
            "job_key_mode text DEFAULT 'replace'::text"
        ),
        JOB,
        "plpgsql",
        False,
        0,
    ),
    "add_jobs": (
        "specs graphile_worker.job_spec[], job_key_preserve_run_at boolean DEFAULT false",
        f"SETOF {JOB}",
        "plpgsql",
        False,
        1000,
    ),
    "remove_job": ("job_key text", JOB, "plpgsql", True, 0),
    "complete_jobs": ("job_ids bigint[]", f"SETOF {JOB}", "sql", False, 1000),
    "permanently_fail_jobs": (
        "job_ids bigint[], error_message text DEFAULT NULL::text",
        f"SETOF {JOB}",
        "sql",
        False,
        1000,
    ),
    "reschedule_jobs": (
        (
            "job_ids bigint[], run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, "
            "priority integer DEFAULT NULL::integer, attempts integer DEFAULT NULL::integer, "
            "max_attempts integer DEFAULT NULL::integer"
        ),
        f"SETOF {JOB}",
        "sql",
        False,
        1000,
    ),
    "force_unlock_workers": ("worker_ids text[]", "void", "sql", False, 0),
    "worker_heartbeat": (
        "worker_id text, metadata json DEFAULT NULL::json",
        "void",
        "sql",
        False,
        0,
    ),
    "worker_deregister": ("worker_id text", "void", "sql", False, 0),
    "list_stale_workers": ("stale_threshold interval", "TABLE(worker_id text)", "sql", False, 1000),
    "list_orphan_locked_workers": ("stale_threshold interval", "TABLE(worker_id text)", "sql", False, 1000),
    "recover_dead_worker_jobs": (
        "worker_ids text[], recovery_delay interval DEFAULT '00:00:00'::interval",
        "integer",
        "plpgsql",
        False,
        0,
    ),
    "delete_stale_workers": ("worker_ids text[]", "void", "sql", False, 0),
}


async def test_there_are_exactly_these_relations(database: Database) -> None:
    rows = await database.fetch(f"""
        select relname, relkind::text, relrowsecurity, relforcerowsecurity, relpersistence::text, reloptions,
          reltablespace, relacl::text, obj_description(oid, 'pg_class') as comment
        from pg_class
        where relnamespace = 'graphile_worker'::regnamespace
          and relkind not in ('i', 'S')
          and relname {NOT_OURS}
    """)
    assert {row["relname"]: (row["relkind"], row["relrowsecurity"]) for row in rows} == RELATIONS
    for row in rows:
        assert not row["relforcerowsecurity"]
        assert row["relpersistence"] == "p"
        assert row["reltablespace"] == 0
        assert row["reloptions"] is None
        assert row["relacl"] is None
        assert row["comment"] is None


@pytest.mark.parametrize("relation", COLUMNS)
async def test_columns_have_their_order_type_and_default(database: Database, relation: str) -> None:
    rows = await database.fetch(
        """
        select concat_ws(' ',
          attname,
          format_type(atttypid, atttypmod),
          case when attnotnull then 'not null' end,
          case when attidentity = 'a' then 'identity' end,
          case attgenerated when 's' then 'stored' else case when atthasdef then 'default' end end,
          pg_get_expr(adbin, adrelid)
        ) as definition
        from pg_attribute
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attrelid = $1::text::regclass and attnum > 0
        order by attnum
        """,
        f"graphile_worker.{relation}",
    )
    assert [row["definition"] for row in rows] == COLUMNS[relation]


async def test_constraints_have_the_names_that_clients_see_and_there_is_no_foreign_key(
    database: Database,
) -> None:
    rows = await database.fetch(f"""
        select conrelid::regclass::text as relation, conname, condeferrable, convalidated,
          pg_get_constraintdef(oid) as definition
        from pg_constraint
        where connamespace = 'graphile_worker'::regnamespace
          and contype <> 'n'
          and conname {NOT_OURS}
    """)
    found = {
        (row["relation"].removeprefix("graphile_worker."), row["conname"], row["definition"]) for row in rows
    }
    assert found == CONSTRAINTS
    assert all(row["convalidated"] and not row["condeferrable"] for row in rows)


async def test_indexes_are_these_and_some_of_ours(database: Database) -> None:
    rows = await database.fetch("""
        select indexname, substring(indexdef from 'USING (.*)') as definition
        from pg_indexes
        where schemaname = 'graphile_worker'
    """)
    found = {row["indexname"]: row["definition"] for row in rows}
    unique = {name for _, name, definition in CONSTRAINTS if not definition.startswith("CHECK")}
    assert found.keys() >= unique
    assert {
        name: definition
        for name, definition in found.items()
        if name not in unique and not name.startswith("trio_graphile_")
    } == INDEXES
    assert {name: found[name] for name in OUR_INDEXES} == OUR_INDEXES


async def test_sequences_belong_to_their_identity_columns(database: Database) -> None:
    rows = await database.fetch("""
        select pg_class.relname, owner.relname as owner, format_type(seqtypid, null) as type, seqmin, seqmax,
          seqstart, seqincrement, seqcache, seqcycle
        from pg_sequence
        join pg_class on pg_class.oid = seqrelid
        join pg_depend on pg_depend.objid = seqrelid and deptype = 'i'
        join pg_class as owner on owner.oid = refobjid
        where pg_class.relnamespace = 'graphile_worker'::regnamespace
    """)
    assert {row["relname"]: (row["owner"], row["type"], row["seqmax"]) for row in rows} == SEQUENCES
    for row in rows:
        assert (row["seqmin"], row["seqstart"], row["seqincrement"], row["seqcache"]) == (1, 1, 1, 1)
        assert not row["seqcycle"]


async def test_functions_have_every_attribute_that_callers_rely_on(database: Database) -> None:
    rows = await database.fetch(f"""
        select proname, pg_get_function_arguments(pg_proc.oid) as arguments,
          pg_get_function_result(pg_proc.oid) as result, lanname, proisstrict, prorows::integer
        from pg_proc
        join pg_language on pg_language.oid = prolang
        where pronamespace = 'graphile_worker'::regnamespace
          and proname {NOT_OURS}
    """)
    assert len(rows) == len(FUNCTIONS)  # one overload each
    assert {row["proname"]: tuple(row.values())[1:] for row in rows} == FUNCTIONS


LOOKING_JOBS_UP = {
    "add_job",
    "add_jobs",
    "remove_job",
    "complete_jobs",
    "permanently_fail_jobs",
    "reschedule_jobs",
}
"""By key or id: their plans must not depend on how large the table was when they were made."""


async def test_functions_have_plain_bodies_and_nothing_unusual(database: Database) -> None:
    rows = await database.fetch(f"""
        select proname, provolatile::text, prosecdef, proparallel::text, proleakproof, procost::integer,
          proconfig, proacl::text, prokind::text, prosrc <> '' as plain,
          obj_description(oid, 'pg_proc') as comment
        from pg_proc
        where pronamespace = 'graphile_worker'::regnamespace
          and proname {NOT_OURS}
    """)
    for row in rows:
        settings = ["enable_seqscan=off"] if row["proname"] in LOOKING_JOBS_UP else None
        assert tuple(row.values())[1:] == ("v", False, "u", False, 100, settings, None, "f", True, None), row


async def test_there_is_nothing_else(database: Database) -> None:
    """No triggers, rules, policies, grants, comments, or types of other kinds."""
    row = await database.fetch_row("""
        with relations as (
          select oid
          from pg_class
          where relnamespace = 'graphile_worker'::regnamespace
        )
        select
          (select count(*) from pg_trigger where tgrelid in (select oid from relations)) as triggers,
          (select count(*) from pg_policy where polrelid in (select oid from relations)) as policies,
          (select count(*) from pg_rewrite
            where ev_class in (select oid from relations) and rulename <> '_RETURN') as rules,
          (select count(*) from pg_statistic_ext
            where stxnamespace = 'graphile_worker'::regnamespace) as statistics,
          (select count(*) from pg_type
            where typnamespace = 'graphile_worker'::regnamespace and typtype not in ('c', 'b')) as types,
          (select count(*) from pg_description where objoid in (select oid from relations)) as comments,
          (select count(*) from pg_namespace
            where nspname = 'graphile_worker' and nspacl is not null) as grants
    """)
    assert row is not None
    assert set(row.values()) == {0}


async def test_the_shared_table_has_every_revision_and_the_breaking_ones_marked(database: Database) -> None:
    rows = await database.fetch("select id, breaking from graphile_worker.migrations order by id")
    assert [row["id"] for row in rows] == list(range(1, 21))
    assert [row["id"] for row in rows if row["breaking"]] == [1, 3, 11, 13, 14, 16, 19]


async def test_our_table_has_our_migrations(database: Database) -> None:
    rows = await database.fetch("select id from graphile_worker.trio_graphile_migrations order by id")
    assert [row["id"] for row in rows] == list(range(1, 11))


async def test_the_view_shows_jobs_without_queue_but_not_without_task(database: Database) -> None:
    await database.execute("""
        select graphile_worker.add_job('a', queue_name => 'q', job_key => 'whole');
        select graphile_worker.add_job('a', queue_name => 'gone', job_key => 'without queue');
        select graphile_worker.add_job('gone', job_key => 'without task');
        delete from graphile_worker._private_tasks where identifier = 'gone';
        delete from graphile_worker._private_job_queues where queue_name = 'gone';
    """)
    rows = await database.fetch(
        "select key, task_identifier, queue_name from graphile_worker.jobs order by id"
    )
    assert [tuple(row.values()) for row in rows] == [("whole", "a", "q"), ("without queue", "a", None)]
