// The benchmarks as pg-boss does them. Each prints one line of JSON; `../../ours.py` is its counterpart.

import { PgBoss } from "pg-boss";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const [benchmark, options] = process.argv.slice(2).map((text) => JSON.parse(text));
const queue = "nothing";
const fillBatch = 10_000;

async function started() {
  const boss = new PgBoss({
    connectionString: process.env.DATABASE_URL,
    max: options.workers + 2,
    useListenNotify: true,
    schedule: false,
  });
  boss.on("error", console.error);
  await boss.start();
  return boss;
}

// Batches, fetched without a pause as long as they are full, and completed by one statement each.
function work(boss, handler) {
  const settings = {
    batchSize: options.batch,
    localConcurrency: options.workers,
    burstWhenBatchFull: true,
    pollingIntervalSeconds: 0.5, // the least
  };
  return boss.work(queue, settings, async (jobs) => jobs.forEach(handler));
}

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function secondsSince(before) {
  return (performance.now() - before) / 1000;
}

async function migrate() {
  const boss = await started();
  await boss.createQueue(queue, { notify: true });
  await boss.stop();
}

async function fill() {
  const boss = await started();
  for (let begin = 0; begin < options.jobs; begin += fillBatch) {
    const length = Math.min(fillBatch, options.jobs - begin);
    await boss.insert(queue, Array.from({ length }, (_, n) => ({ data: { n: begin + n } })));
  }
  await boss.stop();
}

async function drain() {
  let handled = 0;
  let drained;
  const done = new Promise((resolve) => (drained = resolve));
  const cpuBefore = cpuSeconds();
  const before = performance.now();
  const boss = await started();
  await work(boss, () => {
    if (++handled === options.jobs) drained();
  });
  await done;
  await boss.offWork(queue, { wait: true }); // the last batch is completed
  await boss.stop();
  return { seconds: secondsSince(before), handled, client_cpu: cpuSeconds() - cpuBefore };
}

async function latency() {
  let start;
  const boss = await started();
  await work(boss, () => start(performance.now()));
  const latencies = [];
  for (let n = 0; n < options.adds; n++) {
    await pause(options.pause * 1000);
    const handling = new Promise((resolve) => (start = resolve));
    const before = performance.now();
    await boss.send(queue, { n });
    latencies.push(((await handling) - before) / 1000);
  }
  await boss.stop();
  return { latencies };
}

async function add() {
  const boss = await started();
  const jobs = Array.from({ length: options.jobs }, (_, n) => ({ data: { n } }));
  const cpuBefore = cpuSeconds();
  const before = performance.now();
  await boss.insert(queue, jobs);
  const bulk_seconds = secondsSince(before);
  const client_cpu = cpuSeconds() - cpuBefore;
  const single_seconds = [];
  for (let n = 0; n < options.singles; n++) {
    const before = performance.now();
    await boss.send(queue, { n });
    single_seconds.push(secondsSince(before));
  }
  await boss.stop();
  return { bulk_seconds, client_cpu, single_seconds };
}

// Says that it is ready, begins when told to, runs until standard input ends.
async function serve() {
  const lines = createInterface({ input: process.stdin });
  const ended = once(lines, "close");
  const told = once(lines, "line");
  console.log("ready");
  await told;
  let handled = 0;
  const cpuBefore = cpuSeconds();
  const before = performance.now();
  const boss = await started();
  await work(boss, () => handled++);
  await ended;
  await boss.stop();
  return { seconds: secondsSince(before), handled, client_cpu: cpuSeconds() - cpuBefore };
}

const benchmarks = { migrate, fill, drain, latency, add, serve };
const result = await benchmarks[benchmark]();
if (result) console.log(JSON.stringify(result));
