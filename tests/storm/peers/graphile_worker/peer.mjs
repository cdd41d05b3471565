// Graphile Worker in the storm: installs its schema, adds jobs, or is a worker.
//
// Its stop, by https://worker.graphile.org/docs/library/run, /docs/config and /docs/error-handling: `runner.stop()`
// takes no more jobs and waits for those that run. After `gracefulShutdownAbortTimeout` it aborts the signal that
// handlers have as `helpers.abortSignal`; a handler that throws then fails, and is retried after the usual delay. What
// heeds nothing is failed by the pool's `forcefulShutdown`, which a second signal would call, too. Jobs of a killed
// worker are locked for four hours, which is fixed.
//
// `stop()` resolves when handlers have ended, but before the last outcomes are written. If the process ends then, or a
// pool that the worker made, as it does when the worker handles the signal itself, they are lost. So the pool is ours
// (`pgPool`), and the process ends when nothing is left to do, rather than when `stop()` resolves.

import { EventEmitter, once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import { addLines, concurrency, connectionString, grace, openHandler, openPool, runProgram } from "./program.mjs";

const overdueAfter = 1_000; // milliseconds which aborted handlers have to end, and outcomes to be written
const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

// A statement whose session is cut may reject after the worker has ceased to wait for it.
process.on("unhandledRejection", (error) => console.error("unhandled:", error));

async function setup() {
  await runMigrations({ connectionString, logger });
}

async function add() {
  const pgPool = openPool(connectionString, 1);
  const utils = await makeWorkerUtils({ pgPool, logger });
  await addLines((payloads) => utils.addJobs(payloads.map((payload) => ({ identifier: "work", payload }))));
  await utils.release();
  await pgPool.end();
}

async function worker() {
  const handle = await openHandler();
  const work = (payload, { job, abortSignal }) => handle(payload, job.attempts, abortSignal);
  const events = new EventEmitter();
  const created = once(events, "pool:create");
  const listening = once(events, "pool:listen:success");
  const pgPool = openPool(connectionString, concurrency + 2);
  const running = await run({
    pgPool,
    logger,
    events,
    noHandleSignals: true,
    taskList: { work },
    preset: { worker: { concurrentJobs: concurrency, gracefulShutdownAbortTimeout: grace } },
  });
  await listening;
  const [{ workerPool }] = await created;
  console.log("ready", workerPool.id);
  running.promise.catch((error) => console.error(error)); // says so if it was forced
  process.once("SIGTERM", async () => {
    const overdue = setTimeout(async () => {
      await workerPool.forcefulShutdown("Its handlers heed nothing.");
      await pause(overdueAfter);
      process.exit(1); // they keep it busy
    }, grace + overdueAfter);
    await running.stop().then(() => clearTimeout(overdue), (error) => console.error(error));
  });
}

await runProgram({ setup, add, worker });
