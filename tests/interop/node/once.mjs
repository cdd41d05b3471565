// Runs what is due, and ends.

import { runOnce } from "graphile-worker";
import { taskList } from "./tasks.mjs";

await runOnce({ connectionString: process.env.DATABASE_URL, taskList, ...JSON.parse(process.argv[2]) });
