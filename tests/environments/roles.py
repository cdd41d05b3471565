"""A database with the roles that `trio-graphile roles` makes, and a login for each."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit

import attrs

from trio_graphile import Database
from trio_graphile._database.database import open_database
from trio_graphile._database.roles import RoleNames, roles_script
from trio_graphile._database.statement import quote_identifier
from trio_graphile._model.options import DatabaseOptions

ROLES = tuple(field.name for field in attrs.fields(RoleNames))


@attrs.frozen
class Party:
    """Roles of one test's own: they belong to the whole server."""

    admin: Database
    """The database, as a superuser."""
    url: str
    suffix: str = attrs.field(factory=lambda: secrets.token_hex(4))

    @property
    def names(self) -> RoleNames:
        # As hostile as names may be.
        return RoleNames(**{role: f'Der {role}\'s "{self.suffix}"' for role in ROLES})

    @property
    def name(self) -> str:
        """The name of the database."""
        return urlsplit(self.url).path.removeprefix("/")

    async def run_script(self, schema: str = "graphile_worker") -> None:
        async with self.admin.connection() as connection:
            await connection.execute(roles_script(schema, self.names))

    async def make_logins(self) -> None:
        for role in ROLES:
            name = quote_identifier(getattr(self.names, role))
            login = self.login(role)
            if not await self.admin.fetch("select from pg_roles where rolname = $1::text", login):
                await self.admin.execute(f"create role {login} login password 'sesame' in role {name}")

    def login(self, role: str) -> str:
        return f"{role}_{self.suffix}"

    def url_of(self, role: str) -> str:
        """The URL with the login of a member of a role; that of the migrator acts as the role itself."""
        return url_with_login(self.url, self.login(role), self.names.migrator if role == "migrator" else None)

    @contextlib.asynccontextmanager
    async def database(self, role: str, schema: str = "graphile_worker") -> AsyncIterator[Database]:
        options = DatabaseOptions(schema=schema, pool_size=2)
        async with open_database(self.url_of(role), options) as database:
            yield database

    async def drop_roles(self) -> None:
        """Drop every role with the suffix, whoever made it."""
        for row in await self.admin.fetch(OURS, self.suffix):
            await self.admin.execute(f"drop owned by {row['name']} cascade")
            await self.admin.execute(f"drop role {row['name']}")


OURS = """
    select quote_ident(rolname) as name
    from pg_roles
    where rolname like '%' || $1::text || '%'
    order by rolsuper, rolcreaterole
"""


def url_with_login(url: str, name: str, role: str | None = None) -> str:
    """Return the URL of a database with another login, for which tests have one password."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    query = "&".join(filter(None, [parts.query, role and f"role={quote(role, safe='')}"]))
    return parts._replace(netloc=f"{quote(name)}:sesame@{place}", query=query).geturl()
