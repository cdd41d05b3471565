// The benchmarks as Graphile Worker does them. Each prints one line of JSON; `../../ours.py` is its counterpart.

import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const connectionString = process.env.DATABASE_URL;
const logger = new Logger(() => () => {}); // else it prints a line per job
const [benchmark, options] = process.argv.slice(2).map((text) => JSON.parse(text));

function runner(taskList) {
  const { concurrency, worker } = options;
  return run({ connectionString, logger, noHandleSignals: true, concurrency, taskList, preset: { worker } });
}

function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function secondsSince(before) {
  return (performance.now() - before) / 1000;
}

async function drain() {
  let handled = 0;
  let firstAt = 0;
  const { jobs } = options;
  const sampleAt = Math.max(1, Math.floor(jobs / (options.rss_samples ?? 1)));
  const rss = [];
  const cpuBefore = cpuSeconds();
  const before = performance.now();
  const running = await runner({
    nothing() {
      handled++;
      if (handled === 1) firstAt = performance.now();
      if (handled % sampleAt === 0) rss.push(process.memoryUsage.rss());
      if (handled === jobs) running.stop();
    },
  });
  await running.promise;
  return {
    seconds: secondsSince(before),
    running_seconds: secondsSince(firstAt),
    handled,
    client_cpu: cpuSeconds() - cpuBefore,
    rss,
  };
}

async function latency() {
  let started;
  const running = await runner({
    nothing() {
      started(performance.now());
    },
  });
  const utils = await makeWorkerUtils({ connectionString, logger });
  const latencies = [];
  for (let n = 0; n < options.adds; n++) {
    await pause(options.pause * 1000);
    const start = new Promise((resolve) => (started = resolve));
    const before = performance.now();
    await utils.addJob("nothing", { n });
    latencies.push(((await start) - before) / 1000);
  }
  await running.stop();
  await utils.release();
  return { latencies };
}

async function add() {
  const utils = await makeWorkerUtils({ connectionString, logger });
  const jobs = Array.from({ length: options.jobs }, (_, n) => ({ identifier: "nothing", payload: { n } }));
  const cpuBefore = cpuSeconds();
  const before = performance.now();
  await utils.addJobs(jobs);
  const bulk_seconds = secondsSince(before);
  const client_cpu = cpuSeconds() - cpuBefore;
  const single_seconds = [];
  for (let n = 0; n < options.singles; n++) {
    const before = performance.now();
    await utils.addJob("nothing", { n });
    single_seconds.push(secondsSince(before));
  }
  await utils.release();
  return { bulk_seconds, client_cpu, single_seconds };
}

async function calls() {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.addJob("nothing", { n: 0 });
  const keyOf = (n) => (options.keyed ? { jobKey: `key ${n}` } : {});
  const cpuBefore = cpuSeconds();
  const before = performance.now();
  for (let start = 0; start < options.jobs; start += options.size) {
    const job = (_, i) => ({ identifier: "nothing", payload: { n: start + i }, ...keyOf(start + i) });
    await utils.addJobs(Array.from({ length: options.size }, job));
  }
  const bulk_seconds = secondsSince(before);
  const client_cpu = cpuSeconds() - cpuBefore;
  await utils.release();
  return { bulk_seconds, client_cpu };
}

// Says that it is ready, begins when told to, runs until standard input ends; adds as many as were run.
async function serve() {
  const refill = options.refill ?? 0;
  const batch = Array.from({ length: refill }, (_, n) => ({ identifier: "nothing", payload: { n } }));
  const perSecond = [];
  let handled = 0;
  let refills = Promise.resolve();
  const lines = createInterface({ input: process.stdin });
  const ended = new Promise((resolve) => lines.once("close", resolve));
  const told = new Promise((resolve) => lines.once("line", resolve));
  console.log("ready");
  await told;
  const utils = await makeWorkerUtils({ connectionString, logger });
  const cpuBefore = cpuSeconds();
  const began = performance.now();
  const running = await runner({
    nothing() {
      handled++;
      const second = Math.floor(secondsSince(began));
      perSecond[second] = (perSecond[second] ?? 0) + 1;
      if (refill && handled % refill === 0) refills = refills.then(() => utils.addJobs(batch));
    },
  });
  await ended;
  await running.stop();
  await refills;
  const result = {
    seconds: secondsSince(began),
    handled,
    client_cpu: cpuSeconds() - cpuBefore,
    per_second: Array.from(perSecond, (count) => count ?? 0),
  };
  await utils.release();
  return result;
}

async function migrate() {
  await runMigrations({ connectionString, logger });
}

const benchmarks = { migrate, drain, latency, add, calls, serve };
const result = await benchmarks[benchmark]();
if (result) console.log(JSON.stringify(result));
