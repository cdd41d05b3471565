//! What the tests ask of Graphile Worker RS. Each argument is JSON; the first names what is to be done.

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use graphile_worker::worker_utils::types::CleanupTask;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpecBuilder, TaskHandler, Worker, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt, stdin};
use tokio::sync::Notify;
use tokio_postgres::{Client, NoTls};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What a worker is told. Durations are milliseconds.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Options {
    concurrency: Option<usize>,
    poll_interval: Option<u64>,
    heartbeat_interval: Option<u64>,
    sweep_interval: Option<u64>,
    sweep_threshold: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    queue_name: Option<String>,
    job_key: Option<String>,
    priority: Option<i16>,
    max_attempts: Option<i16>,
    flags: Option<Vec<String>>,
}

static STOP: Notify = Notify::const_new();
static CLIENT: OnceLock<Client> = OnceLock::new();

#[derive(Serialize, Deserialize)]
struct Succeed {}

impl TaskHandler for Succeed {
    const IDENTIFIER: &'static str = "succeed";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        Ok::<(), String>(())
    }
}

#[derive(Serialize, Deserialize)]
struct Fail {}

impl TaskHandler for Fail {
    const IDENTIFIER: &'static str = "fail";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        Err::<(), String>("no luck".into())
    }
}

/// Leaves a row that says where and, by the database's clock, when a job ran.
#[derive(Serialize, Deserialize)]
struct Record {
    queue_name: Option<String>,
    #[serde(default)]
    seconds: f64,
}

impl TaskHandler for Record {
    const IDENTIFIER: &'static str = "record";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        self.record(*context.job().id())
            .await
            .map_err(|error| error.to_string())
    }
}

impl Record {
    async fn record(&self, job_id: i64) -> Result<(), tokio_postgres::Error> {
        let client = CLIENT.get().expect("a worker connects before it runs jobs");
        let began = "insert into runs (job_id, side, queue_name, started_at) values ($1, 'rust', $2, clock_timestamp())";
        client.execute(began, &[&job_id, &self.queue_name]).await?;
        tokio::time::sleep(Duration::from_secs_f64(self.seconds)).await;
        let ended =
            "update runs set finished_at = clock_timestamp() where job_id = $1 and side = 'rust'";
        client.execute(ended, &[&job_id]).await?;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let rest = arguments.get(2).map_or("{}", String::as_str);
    match serde_json::from_str(&arguments[1])? {
        "migrate" => worker(Options::default()).await.map(drop),
        "add" => add(serde_json::from_str(rest)?).await,
        "cleanup" => cleanup().await,
        "once" => Ok(worker(serde_json::from_str(rest)?)
            .await?
            .run_once()
            .await?),
        "worker" => serve(serde_json::from_str(rest)?).await,
        name => Err(name.into()),
    }
}

async fn worker(options: Options) -> Outcome<Worker> {
    let url = std::env::var("DATABASE_URL")?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let _ = CLIENT.set(client);
    let mut builder = WorkerOptions::default()
        .database_url(&url)
        .concurrency(options.concurrency.unwrap_or(1))
        .poll_interval(Duration::from_millis(options.poll_interval.unwrap_or(200)))
        .listen_os_shutdown_signals(false)
        .shutdown_signal(STOP.notified())
        .define_job::<Succeed>()
        .define_job::<Fail>()
        .define_job::<Record>();
    if let Some(interval) = options.heartbeat_interval {
        builder = builder.heartbeat_interval(Duration::from_millis(interval));
    }
    if let Some(interval) = options.sweep_interval {
        builder = builder.sweep_interval(Duration::from_millis(interval));
    }
    if let Some(threshold) = options.sweep_threshold {
        builder = builder.sweep_threshold(Duration::from_millis(threshold));
    }
    Ok(builder.init().await?)
}

/// Adds jobs, given as a list of [identifier, payload, spec]. Says their ids.
async fn add(jobs: Vec<(String, Value, Option<Spec>)>) -> Outcome<()> {
    let utils = worker(Options::default()).await?.create_utils();
    let mut ids = Vec::new();
    for (identifier, payload, spec) in jobs {
        let spec = spec.unwrap_or_default();
        let mut built = JobSpecBuilder::new();
        if let Some(queue_name) = spec.queue_name {
            built = built.queue_name(queue_name);
        }
        if let Some(job_key) = spec.job_key {
            built = built.job_key(job_key);
        }
        if let Some(priority) = spec.priority {
            built = built.priority(priority);
        }
        if let Some(max_attempts) = spec.max_attempts {
            built = built.max_attempts(max_attempts);
        }
        if let Some(flags) = spec.flags {
            built = built.flags(flags);
        }
        let job = utils
            .add_raw_job(&identifier, payload, built.build())
            .await?;
        ids.push(*job.id());
    }
    println!("{}", serde_json::to_string(&ids)?);
    Ok(())
}

/// Deletes tasks and queues without jobs, as far as it sees.
async fn cleanup() -> Outcome<()> {
    let utils = worker(Options::default()).await?.create_utils();
    let tasks = [CleanupTask::GcTaskIdentifiers, CleanupTask::GcJobQueues];
    Ok(utils.cleanup(&tasks).await?)
}

/// Runs until standard input is closed. Says when it is about to take jobs.
async fn serve(options: Options) -> Outcome<()> {
    let worker = worker(options).await?;
    let running =
        tokio::spawn(async move { worker.run().await.map_err(|error| error.to_string()) });
    println!("listening");
    stdin().read_to_end(&mut Vec::new()).await?;
    STOP.notify_one();
    running.await??;
    Ok(())
}
