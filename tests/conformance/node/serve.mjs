// Answers on a Unix socket, a line of JSON for a line of JSON. Each connection has a database, and one worker at most.

import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { EventEmitter, once } from "node:events";
import { makeWorkerUtils, run, runMigrations, runOnce } from "graphile-worker";
import pg from "pg";

// A statement whose session is cut may reject after its worker has ceased to wait for it. That ends no other worker.
process.on("unhandledRejection", (error) => console.error(error));

const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
const camelKeys = (spec) => Object.fromEntries(Object.entries(spec).map(([name, value]) => [camel(name), value]));

function pool(connectionString) {
  const made = new pg.Pool({ connectionString, max: 20 });
  made.on("error", (error) => console.error(error));
  made.on("connect", (client) => client.on("error", (error) => console.error(error)));
  return made;
}

class Conversation {
  async open({ url, direct_url }) {
    // Pools of ours, which outlive workers: one that ends with its worker loses the last outcomes.
    this.pool = pool(url);
    this.direct = pool(direct_url);
  }

  async utils() {
    return (this.made ??= await makeWorkerUtils({ pgPool: this.pool }));
  }

  migrate() {
    return runMigrations({ pgPool: this.pool });
  }

  async add({ identifier, payload, spec }) {
    const told = camelKeys(spec);
    const job = await (await this.utils()).addJob(identifier, payload, { ...told, runAt: told.runAt && new Date(told.runAt) });
    return Number(job.id);
  }

  async complete({ ids }) {
    return (await (await this.utils()).completeJobs(ids)).map((job) => Number(job.id));
  }

  async fail({ ids, reason }) {
    return (await (await this.utils()).permanentlyFailJobs(ids, reason)).map((job) => Number(job.id));
  }

  async reschedule({ ids, change }) {
    return (await (await this.utils()).rescheduleJobs(ids, camelKeys(change))).map((job) => Number(job.id));
  }

  async remove({ key }) {
    await (await this.utils()).withPgClient((client) => client.query("select graphile_worker.remove_job($1)", [key]));
  }

  async unlock({ worker_ids }) {
    await (await this.utils()).forceUnlockWorkers(worker_ids);
  }

  async once(options) {
    await runOnce(this.runOptions(options));
  }

  async work(options) {
    const events = new EventEmitter();
    const created = once(events, "pool:create");
    const ready = [once(events, "pool:listen:success")];
    if (options.crontab) ready.push(once(events, "cron:started"));
    if (options.reset) ready.push(once(events, "resetLocked:success"));
    this.runner = await run({ ...this.runOptions(options), events });
    await Promise.all(ready);
    const [{ workerPool }] = await created;
    return workerPool.id;
  }

  runOptions({ concurrency = 1, poll = 0.1, batch, forbidden_flags, crontab, reset }) {
    const worker = { concurrentJobs: concurrency, pollInterval: poll * 1000 };
    if (batch) worker.localQueue = { size: batch };
    if (reset) Object.assign(worker, { minResetLockedInterval: 10, maxResetLockedInterval: 20 });
    return {
      preset: { worker },
      pgPool: this.pool,
      taskList: this.taskList(),
      noHandleSignals: true,
      ...(crontab && { crontab }),
      ...(forbidden_flags && { forbiddenFlags: forbidden_flags }),
    };
  }

  taskList() {
    return {
      act: (payload, { job }) => this.record(job, payload, async () => {
        if (payload?.held) await this.direct.query("select pg_advisory_xact_lock_shared(1)");
        if (payload?.seconds) await this.direct.query("select pg_sleep($1)", [payload.seconds]);
        if (payload?.error) throw new Error(payload.error);
      }),
      each: (items, { job }) => this.record(job, items, () =>
        items.map((item) => (item.error ? Promise.reject(new Error(item.error)) : null)),
      ),
    };
  }

  async record(job, payload, act) {
    const began = "insert into runs (job_id, side, worker_id, payload) values ($1, $2, $3, $4) returning id";
    const told = [job.id, process.env.SIDE, job.locked_by, JSON.stringify(payload)];
    const { rows } = await this.direct.query(began, told);
    const result = await act();
    await this.direct.query("update runs set finished_at = clock_timestamp() where id = $1", [rows[0].id]);
    return result;
  }

  async stop() {
    const { runner } = this;
    delete this.runner;
    await runner?.stop();
  }

  async close() {
    try {
      await this.stop();
    } finally {
      await this.made?.release();
      await this.pool?.end();
      await this.direct?.end();
    }
  }
}

createServer(async (socket) => {
  const conversation = new Conversation();
  socket.on("error", (error) => console.error(error));
  for await (const line of createInterface({ input: socket })) {
    const { do: name, ...told } = JSON.parse(line);
    let answer;
    try {
      answer = { value: (await conversation[name](told)) ?? null };
    } catch (error) {
      answer = { error: String(error.stack ?? error) };
    }
    socket.write(`${JSON.stringify(answer)}\n`);
  }
}).listen(process.argv[2], () => console.log("listening"));
