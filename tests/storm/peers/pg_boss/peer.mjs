// pg-boss in the storm: installs its schema, adds jobs, or is a worker.
//
// Its stop, by https://pgboss.io/api/ops: `stop({ graceful: true, timeout })` waits so long for its workers, then fails
// the jobs that still run and aborts the signal that each handler has as `job.signal`. A failed job is retried if it has
// retries left. For jobs of killed workers, queues have `heartbeatSeconds`, of 10 at least; who is found without a
// heartbeat at the next round of supervision is failed, too. https://pgboss.io/api/queues says what the options mean.

import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { PgBoss } from "pg-boss";

const { STORM_DATABASE_URL, STORM_MARKS_URL, STORM_WORKER } = process.env;
const concurrency = Number(process.env.STORM_CONCURRENCY);
const timeout = Number(process.env.STORM_GRACE) * 1000;
const queue = "work";

async function started(max, options) {
  const boss = new PgBoss({ connectionString: STORM_DATABASE_URL, max, useListenNotify: true, schedule: false, ...options });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  return boss;
}

async function setup() {
  const boss = await started(2);
  await boss.createQueue(queue, { retryLimit: 24, heartbeatSeconds: 10, notify: true });
  await boss.stop();
}

async function add() {
  const boss = await started(1, { supervise: false });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      await boss.insert(queue, JSON.parse(line).map((data) => ({ data })));
      console.log("added");
    } catch (error) {
      console.error(error);
      console.log("failed");
    }
  }
  await boss.stop();
}

function block(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

async function worker() {
  const marks = new pg.Pool({ connectionString: STORM_MARKS_URL, max: 2 });
  await marks.query("select 1");

  const mark = (token, what, attempt) =>
    marks.query("insert into marks (token, what, attempt, worker, pid) values ($1, $2, $3, $4, $5)", [
      token,
      what,
      attempt,
      STORM_WORKER,
      process.pid,
    ]);

  async function work([{ data: { token, kind, seconds }, retryCount, signal }]) {
    const attempt = retryCount + 1;
    try {
      await mark(token, "started", attempt);
      if (kind === "cpu") block(seconds * 1000);
      else if (kind === "stubborn") await pause(seconds * 1000);
      else await pause(seconds * 1000, undefined, { signal });
    } catch (error) {
      await mark(token, error.name === "AbortError" ? "interrupted" : "failed", attempt);
      throw error;
    }
    await mark(token, "finished", attempt);
  }

  const boss = await started(concurrency + 2);
  await boss.work(queue, { localConcurrency: concurrency, pollingIntervalSeconds: 0.5, includeMetadata: true }, work);
  process.once("SIGTERM", async () => {
    await boss.stop({ graceful: true, timeout });
    process.exit(0);
  });
  console.log("ready");
}

await { setup, add, worker }[process.argv[2]]();
