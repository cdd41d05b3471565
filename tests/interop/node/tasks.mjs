// The tasks that the tests ask of Node.

export const taskList = {
  succeed() {},

  fail() {
    throw new Error("no luck");
  },

  // One outcome per item: what fails is tried again, without the rest.
  index(items) {
    return items.map((item) => (item.broken ? Promise.reject(new Error(`${item.name} is broken`)) : null));
  },

  // Leaves a row that says where and, by the database's clock, when a job ran.
  async record(payload, { job, query }) {
    await query(
      `insert into runs (job_id, side, queue_name, started_at) values ($1, 'node', $2, clock_timestamp())`,
      [job.id, payload.queue_name],
    );
    await query(`select pg_sleep($1)`, [payload.seconds]);
    await query(`update runs set finished_at = clock_timestamp() where job_id = $1 and side = 'node'`, [job.id]);
  },
};
