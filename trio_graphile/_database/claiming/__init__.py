"""How a worker claims jobs: the statements that claim, and what chooses among them.

- `claimer`: how many jobs, and of which tasks. This is what a worker calls.
- `source`: which statement, and from where on, for tasks that are claimed together.
- `memory`: what is known for that from the claims before.
- `claims`, `plain_claims`: the statements, whole as they stand, with what each is for and what it costs.
- `conditions`: which jobs may be claimed at all. A new rule is written there.

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
