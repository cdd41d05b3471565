// pg-boss in the storm: installs its schema, adds jobs, or is a worker.
//
// Its stop, by https://pgboss.io/api/ops: `stop({ graceful: true, timeout })` waits so long for its workers, then fails
// the jobs that still run and aborts the signal that each handler has as `job.signal`. A failed job is retried if it has
// retries left. For jobs of killed workers, queues have `heartbeatSeconds`, of 10 at least; who is found without a
// heartbeat at the next round of supervision is failed, too. https://pgboss.io/api/queues says what the options mean.

import { PgBoss } from "pg-boss";
import { addLines, concurrency, connectionString, grace, openHandler, runProgram } from "./program.mjs";

const queue = "work";

async function started(max, options) {
  const boss = new PgBoss({ connectionString, max, useListenNotify: true, schedule: false, ...options });
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
  await addLines((payloads) => boss.insert(queue, payloads.map((data) => ({ data }))));
  await boss.stop();
}

async function worker() {
  const handle = await openHandler();
  const work = ([{ data, retryCount, signal }]) => handle(data, retryCount + 1, signal);
  const boss = await started(concurrency + 2);
  await boss.work(queue, { localConcurrency: concurrency, pollingIntervalSeconds: 0.5, includeMetadata: true }, work);
  process.once("SIGTERM", async () => {
    await boss.stop({ graceful: true, timeout: grace });
    process.exit(0);
  });
  console.log("ready");
}

await runProgram({ setup, add, worker });
