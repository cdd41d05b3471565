//! Graphile Worker RS in the storm: installs its schema, adds jobs, or is a worker.
//!
//! Its stop, by <https://leo91000.github.io/graphile_worker_rs/configuration/shutdown.html>: at SIGTERM it takes no more
//! jobs; after `grace_period` it drops the futures of those that run, gives their attempts back, and makes them due after
//! `interrupted_job_retry_delay`, which is 30 s by default and 0 here. Jobs of killed workers run again if recovery is
//! enabled; ours is, with the durations of
//! <https://leo91000.github.io/graphile_worker_rs/guides/recovery.html>, which are the defaults.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, TaskHandler, Worker, WorkerContext, WorkerOptions,
    WorkerRecoveryConfig,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio_postgres::{Client, NoTls};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ADD_MARK: &str =
    "insert into marks (token, what, attempt, worker, pid) values ($1, $2, $3, $4, $5)";

#[derive(Clone, Serialize, Deserialize)]
struct Work {
    token: i64,
    kind: String,
    seconds: f64,
}

/// The referee's database.
#[derive(Clone, Debug)]
struct Marks(Arc<Client>);

/// One run of a job. To be dropped before its end is how it hears of a stop.
struct Run {
    marks: Marks,
    token: i64,
    attempt: i32,
    ended: bool,
}

impl Run {
    async fn mark(&self, what: &str) -> Result<(), String> {
        let worker = std::env::var("STORM_WORKER").map_err(|error| error.to_string())?;
        let pid = std::process::id() as i32;
        let Marks(client) = &self.marks;
        client
            .execute(
                ADD_MARK,
                &[&self.token, &what, &self.attempt, &worker, &pid],
            )
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.ended {
            // At once: after this the job is given back, and may run elsewhere.
            let marked = block_in_place(|| Handle::current().block_on(self.mark("interrupted")));
            marked.expect("the referee is there");
        }
    }
}

impl TaskHandler for Work {
    const IDENTIFIER: &'static str = "work";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let marks = context
            .get_ext::<Marks>()
            .expect("every worker has it")
            .clone();
        let attempt = i32::from(*context.job().attempts());
        let mut run = Run {
            marks,
            token: self.token,
            attempt,
            ended: false,
        };
        run.mark("started").await?;
        let duration = Duration::from_secs_f64(self.seconds);
        if self.kind == "cpu" {
            std::thread::sleep(duration);
        } else {
            tokio::time::sleep(duration).await; // `stubborn`, too: a future cannot refuse to be dropped
        }
        run.mark("finished").await?;
        run.ended = true;
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    match std::env::args().nth(1).as_deref() {
        Some("setup") => drop(options()?.init().await?),
        Some("add") => add().await?,
        _ => work().await?,
    }
    Ok(())
}

fn options() -> Outcome<WorkerOptions> {
    Ok(WorkerOptions::default()
        .database_url(&std::env::var("STORM_DATABASE_URL")?)
        .define_job::<Work>())
}

async fn add() -> Outcome<()> {
    let utils = options()?.max_pg_conn(2).init().await?.create_utils();
    let spec = JobSpec::default();
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let payloads: Vec<Work> = serde_json::from_str(&line)?;
        let jobs: Vec<_> = payloads
            .into_iter()
            .map(|payload| (payload, &spec))
            .collect();
        match utils.add_jobs::<Work>(&jobs).await {
            Ok(_) => println!("added"),
            Err(error) => {
                eprintln!("{error}");
                println!("failed");
            }
        }
    }
    Ok(())
}

async fn work() -> Outcome<()> {
    let (client, connection) =
        tokio_postgres::connect(&std::env::var("STORM_MARKS_URL")?, NoTls).await?;
    tokio::spawn(connection);
    let concurrency: usize = std::env::var("STORM_CONCURRENCY")?.parse()?;
    let grace = Duration::from_secs_f64(std::env::var("STORM_GRACE")?.parse()?);
    let worker: Worker = options()?
        .max_pg_conn(concurrency as u32 + 2)
        .concurrency(concurrency)
        .shutdown_grace_period(grace)
        .shutdown_interrupted_job_retry_delay(Duration::ZERO)
        .worker_recovery(WorkerRecoveryConfig::default().enabled(true))
        .add_extension(Marks(Arc::new(client)))
        .init()
        .await?;
    println!("ready {}", worker.worker_id());
    worker.run().await?; // it listens for SIGTERM itself
    Ok(())
}
