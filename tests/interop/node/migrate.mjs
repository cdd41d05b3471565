// Installs the schema, as a program does that runs no worker.

import { runMigrations } from "graphile-worker";

await runMigrations({ connectionString: process.env.DATABASE_URL });
