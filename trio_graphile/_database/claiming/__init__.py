"""How a worker claims jobs: the statements that claim, and what chooses among them.

- `claimer`: how many jobs, and of which tasks. This is what a worker calls.
- `source`: which statement, and from where on, for tasks that are claimed together.
- `memory`: what is known for that from the claims before.
- `claims`, `plain_claims`: the statements, whole as they stand, with what each is for and what it costs.
- `conditions`: which jobs may be claimed at all. A new rule is written there.
- `look_back`: when to look for what comes before the start, among many dead rows.

What all of them do about locks:

- A row that somebody has locked is passed over, and the next one taken, however many there are: who
  holds a transaction open is not to hold up the rest. So rows are locked one after the other, best
  first, until there are enough, by the very query that finds them. A queue whose next job is locked is
  passed over as a whole.
- The queue's row is locked before its job's: whoever holds it decides alone which job of the queue is
  next, so a queue hands out one job at a time and in order. `no key update` lets adds to it go on
  meanwhile.
- A job that was found may be another task's, in another queue, or flagged, by the time it is locked:
  its key was added again. So what may be claimed is said once more where jobs are locked, and there the
  job's queue is compared with the one that was locked.
- Tasks are named, not numbered: a garbage collector may delete an idle task, and an add bring it back
  under another id.

What a claim costs the server, in microseconds of processor time for each job, from one run of
`python tests/benchmarks/claims.py` with PostgreSQL 18.6. To complete the job costs 1 more if 500 are
completed at once, and 4 more if 24 are.

| what is in the way | jobs a claim | whole claim | plain claim |
| --- | --: | --: | --: |
| nothing | 500 | 7.6 | 6.7 |
| nothing | 24 | 25.1 | 14.5 |
| 50,000 jobs in two locked queues | 500 | 11.2 | 6.9 |
| 50,000 jobs in two locked queues | 24 | 32.6 | 17.4 |
| 50,000 jobs of foreign tasks | 500 | 8.6 | 6.9, past the head |
| 50,000 jobs of foreign tasks | 24 | 28.4 | 17.5, past the head |
| each job has a queue of its own | 500 | 15.2 | |
| each job has a queue of its own | 24 | 35.5 | |

The probe that finds out which plain claim is enough takes 100 to 300 microseconds, once a second at most.
"""
