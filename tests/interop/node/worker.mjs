// A worker that runs until its standard input is closed. Says "listening" once it would hear of a new job.

import { EventEmitter } from "node:events";
import { run } from "graphile-worker";
import { taskList } from "./tasks.mjs";

const options = JSON.parse(process.argv[2]);
const events = new EventEmitter();
events.on("pool:listen:success", () => console.log("listening"));

const runner = await run({
  connectionString: process.env.DATABASE_URL,
  noHandleSignals: true,
  events,
  taskList,
  ...options,
});
process.stdin.on("end", () => runner.stop()).resume();
await runner.promise;
