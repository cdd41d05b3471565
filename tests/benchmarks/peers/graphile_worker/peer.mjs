// The benchmarks as Graphile Worker does them. Each prints one line of JSON; `../ours.py` is its counterpart.

import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
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

const benchmarks = {
  async migrate() {
    await runMigrations({ connectionString, logger });
  },

  async drain() {
    let left = options.jobs;
    const cpuBefore = cpuSeconds();
    const before = performance.now();
    const running = await runner({
      nothing() {
        if (--left === 0) running.stop();
      },
    });
    await running.promise;
    return { seconds: (performance.now() - before) / 1000, client_cpu: cpuSeconds() - cpuBefore };
  },

  async latency() {
    let started;
    const running = await runner({
      nothing() {
        started(performance.now());
      },
    });
    const utils = await makeWorkerUtils({ connectionString, logger });
    const seconds = [];
    for (let n = 0; n < options.adds; n++) {
      await pause(options.pause * 1000);
      const start = new Promise((resolve) => (started = resolve));
      const before = performance.now();
      await utils.addJob("nothing", { n });
      seconds.push(((await start) - before) / 1000);
    }
    await running.stop();
    await utils.release();
    return { seconds };
  },

  async add() {
    const utils = await makeWorkerUtils({ connectionString, logger });
    const jobs = Array.from({ length: options.jobs }, (_, n) => ({ identifier: "nothing", payload: { n } }));
    const before = performance.now();
    await utils.addJobs(jobs);
    const bulk_seconds = (performance.now() - before) / 1000;
    const single_seconds = [];
    for (let n = 0; n < options.singles; n++) {
      const before = performance.now();
      await utils.addJob("nothing", { n });
      single_seconds.push((performance.now() - before) / 1000);
    }
    await utils.release();
    return { bulk_seconds, single_seconds };
  },
};

const result = await benchmarks[benchmark]();
if (result) console.log(JSON.stringify(result));
