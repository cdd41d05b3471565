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
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import pg from "pg";

const { STORM_DATABASE_URL, STORM_MARKS_URL, STORM_WORKER } = process.env;
const concurrency = Number(process.env.STORM_CONCURRENCY);
const grace = Number(process.env.STORM_GRACE) * 1000;
const overdueAfter = 1_000; // which aborted handlers have to end, and outcomes to be written
const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

// A statement whose session is cut may reject after the worker has ceased to wait for it.
process.on("unhandledRejection", (error) => console.error("unhandled:", error));

function pool(connectionString, max) {
  const made = new pg.Pool({ connectionString, max, allowExitOnIdle: true });
  made.on("error", (error) => console.error(error));
  made.on("connect", (client) => client.on("error", (error) => console.error(error)));
  return made;
}

async function setup() {
  await runMigrations({ connectionString: STORM_DATABASE_URL, logger });
}

async function add() {
  const pgPool = pool(STORM_DATABASE_URL, 1);
  const utils = await makeWorkerUtils({ pgPool, logger });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      await utils.addJobs(JSON.parse(line).map((payload) => ({ identifier: "work", payload })));
      console.log("added");
    } catch (error) {
      console.error(error);
      console.log("failed");
    }
  }
  await utils.release();
  await pgPool.end();
}

const sleepUnlessAborted = (milliseconds, signal) => pause(milliseconds, undefined, { signal });

function block(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

async function worker() {
  const marks = pool(STORM_MARKS_URL, 2);
  await marks.query("select 1");

  const mark = (token, what, attempt) =>
    marks.query("insert into marks (token, what, attempt, worker, pid) values ($1, $2, $3, $4, $5)", [
      token,
      what,
      attempt,
      STORM_WORKER,
      process.pid,
    ]);

  async function work({ token, kind, seconds }, { job, abortSignal }) {
    try {
      await mark(token, "started", job.attempts);
      if (kind === "cpu") block(seconds * 1000);
      else if (kind === "stubborn") await pause(seconds * 1000);
      else await sleepUnlessAborted(seconds * 1000, abortSignal);
    } catch (error) {
      await mark(token, error.name === "AbortError" ? "interrupted" : "failed", job.attempts);
      throw error;
    }
    await mark(token, "finished", job.attempts);
  }

  const events = new EventEmitter();
  const created = once(events, "pool:create");
  const listening = once(events, "pool:listen:success");
  const pgPool = pool(STORM_DATABASE_URL, concurrency + 2);
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

await { setup, add, worker }[process.argv[2]]();
