// Adds jobs, given as a list of [identifier, payload, spec]. Says their ids.

import { makeWorkerUtils } from "graphile-worker";

const utils = await makeWorkerUtils({ connectionString: process.env.DATABASE_URL });
try {
  const ids = [];
  for (const [identifier, payload, spec] of JSON.parse(process.argv[2])) {
    const runAt = spec?.runAt && new Date(spec.runAt);
    const job = await utils.addJob(identifier, payload, { ...spec, runAt });
    ids.push(Number(job.id));
  }
  console.log(JSON.stringify(ids));
} finally {
  await utils.release();
}
