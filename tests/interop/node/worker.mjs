// A worker that runs until its standard input is closed. Says "listening" once it would hear of a new job and, with
// a crontab, has made up for what was missed.

import { EventEmitter } from "node:events";
import { run } from "graphile-worker";
import { taskList } from "./tasks.mjs";

const options = JSON.parse(process.argv[2]);
const events = new EventEmitter();
const listening = new Promise((resolve) => events.on("pool:listen:success", resolve));
const ticking = new Promise((resolve) => events.on("cron:started", resolve));
Promise.all(options.crontab ? [listening, ticking] : [listening]).then(() => console.log("listening"));

const runner = await run({
  connectionString: process.env.DATABASE_URL,
  noHandleSignals: true,
  events,
  taskList,
  ...options,
});
process.stdin.on("end", () => runner.stop()).resume();
await runner.promise;
