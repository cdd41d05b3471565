//! Answers on a Unix socket, a line of JSON for a line of JSON. Each connection has a database, and one worker at most.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use graphile_worker::worker_utils::types::RescheduleJobOptions;
use graphile_worker::{
    BatchTaskHandler, IntoBatchTaskHandlerResult, IntoTaskHandlerResult, JobKeyMode,
    JobSpecBuilder, LocalQueueConfig, TaskHandler, Worker, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a worker is told. Durations are seconds.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    concurrency: Option<usize>,
    poll: Option<f64>,
    batch: Option<usize>,
    forbidden_flags: Vec<String>,
    crontab: Option<String>,
    heartbeat: Option<f64>,
    sweep: Option<f64>,
    threshold: Option<f64>,
    grace: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    queue_name: Option<String>,
    job_key: Option<String>,
    job_key_mode: Option<String>,
    priority: Option<i16>,
    max_attempts: Option<i16>,
    flags: Option<Vec<String>>,
    run_at: Option<DateTime<Utc>>,
}

/// Where handlers write what they do: past any proxy.
#[derive(Clone, Debug)]
struct Direct(String);

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Note the start of a job, and return by what its end is noted.
async fn began(context: &WorkerContext, payload: String) -> Result<(Client, i32), String> {
    let Direct(url) = context.get_ext::<Direct>().expect("every worker has one");
    let client = connect(url).await.map_err(|error| error.to_string())?;
    let statement = "insert into runs (job_id, side, worker_id, payload)
        values ($1, 'rust', $2, $3::text::json)
        returning id";
    let row = client
        .query_one(
            statement,
            &[context.job().id(), &context.worker_id(), &payload],
        )
        .await
        .map_err(|error| error.to_string())?;
    Ok((client, row.get(0)))
}

async fn ended((client, run): (Client, i32)) -> Result<(), String> {
    let statement = "update runs set finished_at = clock_timestamp() where id = $1";
    let noted = client.execute(statement, &[&run]).await;
    noted.map(drop).map_err(|error| error.to_string())
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Act(Value);

impl TaskHandler for Act {
    const IDENTIFIER: &'static str = "act";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let run = began(&context, self.0.to_string()).await?;
        if self.0["held"] == true {
            let waiting = run.0.execute("select pg_advisory_xact_lock_shared(1)", &[]);
            waiting.await.map_err(|error| error.to_string())?;
        }
        if let Some(seconds) = self.0["seconds"].as_f64() {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
        match self.0["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => ended(run).await,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Each(Value);

impl BatchTaskHandler for Each {
    const IDENTIFIER: &'static str = "each";

    async fn run_batch(
        items: Vec<Self>,
        context: WorkerContext,
    ) -> impl IntoBatchTaskHandlerResult {
        let payload = json!(items).to_string();
        let noted = async { ended(began(&context, payload).await?).await };
        noted.await.expect("what is done can be noted");
        let outcomes = items.iter().map(|item| match item.0["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(()),
        });
        outcomes.collect::<Vec<Result<(), String>>>()
    }
}

struct Running {
    stop: Arc<Notify>,
    ended: JoinHandle<Result<(), String>>,
}

#[derive(Default)]
struct Conversation {
    url: String,
    direct_url: String,
    utils: Option<WorkerUtils>,
    running: Option<Running>,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Told {
    Open {
        url: String,
        direct_url: String,
    },
    Migrate,
    Add {
        identifier: String,
        payload: Value,
        spec: Spec,
    },
    Complete {
        ids: Vec<i64>,
    },
    Fail {
        ids: Vec<i64>,
        reason: String,
    },
    Reschedule {
        ids: Vec<i64>,
        change: Change,
    },
    Remove {
        key: String,
    },
    Unlock {
        worker_ids: Vec<String>,
    },
    Once(Options),
    Work(Options),
    Stop,
    Close,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Change {
    run_at: Option<DateTime<Utc>>,
    priority: Option<i16>,
    attempts: Option<i16>,
    max_attempts: Option<i16>,
}

impl Conversation {
    async fn answer(&mut self, told: Told) -> Outcome<Value> {
        match told {
            Told::Open { url, direct_url } => (self.url, self.direct_url) = (url, direct_url),
            Told::Migrate => drop(self.worker(Options::default(), None).await?),
            Told::Add {
                identifier,
                payload,
                spec,
            } => {
                let job = self
                    .utils()
                    .await?
                    .add_raw_job(&identifier, payload, built(spec)?);
                return Ok(json!(job.await?.id()));
            }
            Told::Complete { ids } => {
                return Ok(ids_of(self.utils().await?.complete_jobs(&ids).await?));
            }
            Told::Fail { ids, reason } => {
                return Ok(ids_of(
                    self.utils()
                        .await?
                        .permanently_fail_jobs(&ids, &reason)
                        .await?,
                ));
            }
            Told::Reschedule { ids, change } => {
                let options = RescheduleJobOptions {
                    run_at: change.run_at,
                    priority: change.priority,
                    attempts: change.attempts,
                    max_attempts: change.max_attempts,
                };
                return Ok(ids_of(
                    self.utils().await?.reschedule_jobs(&ids, options).await?,
                ));
            }
            Told::Remove { key } => self.utils().await?.remove_job(&key).await?,
            Told::Unlock { worker_ids } => {
                let ids: Vec<&str> = worker_ids.iter().map(String::as_str).collect();
                self.utils().await?.force_unlock_workers(&ids).await?;
            }
            Told::Once(options) => self.worker(options, None).await?.run_once().await?,
            Told::Work(options) => return Ok(json!(self.work(options).await?)),
            Told::Stop | Told::Close => self.stop().await?,
        }
        Ok(Value::Null)
    }

    async fn utils(&mut self) -> Outcome<&WorkerUtils> {
        if self.utils.is_none() {
            self.utils = Some(self.worker(Options::default(), None).await?.create_utils());
        }
        Ok(self.utils.as_ref().expect("it was made"))
    }

    async fn worker(&self, options: Options, stop: Option<Arc<Notify>>) -> Outcome<Worker> {
        let seconds = Duration::from_secs_f64;
        let mut builder = WorkerOptions::default()
            .database_url(&self.url)
            .concurrency(options.concurrency.unwrap_or(1))
            .poll_interval(seconds(options.poll.unwrap_or(0.1)))
            .listen_os_shutdown_signals(false)
            .add_extension(Direct(self.direct_url.clone()))
            .define_job::<Act>()
            .define_batch_job::<Each>();
        if let Some(stop) = stop {
            builder = builder.shutdown_signal(async move { stop.notified().await });
        }
        if let Some(grace) = options.grace {
            builder = builder.shutdown_grace_period(seconds(grace));
        }
        if let Some(size) = options.batch.filter(|size| *size > 0) {
            builder = builder.local_queue(LocalQueueConfig::builder().size(size).build());
        }
        for flag in options.forbidden_flags {
            builder = builder.add_forbidden_flag(&flag);
        }
        if let Some(crontab) = options.crontab {
            builder = builder.with_cron(&crontab)?;
        }
        if let Some(heartbeat) = options.heartbeat {
            builder = builder.heartbeat_interval(seconds(heartbeat));
        }
        if let Some(sweep) = options.sweep {
            builder = builder.sweep_interval(seconds(sweep));
        }
        if let Some(threshold) = options.threshold {
            builder = builder.sweep_threshold(seconds(threshold));
        }
        Ok(builder.init().await?)
    }

    async fn work(&mut self, options: Options) -> Outcome<String> {
        let stop = Arc::new(Notify::new());
        let worker = self.worker(options, Some(stop.clone())).await?;
        let worker_id = worker.worker_id().to_string();
        let ended =
            tokio::spawn(async move { worker.run().await.map_err(|error| error.to_string()) });
        self.running = Some(Running { stop, ended });
        Ok(worker_id)
    }

    async fn stop(&mut self) -> Outcome<()> {
        if let Some(Running { stop, ended }) = self.running.take() {
            stop.notify_one();
            ended.await??;
        }
        Ok(())
    }
}

fn ids_of(jobs: Vec<graphile_worker::DbJob>) -> Value {
    jobs.iter().map(|job| *job.id()).collect()
}

fn built(spec: Spec) -> Outcome<graphile_worker::JobSpec> {
    let mut built = JobSpecBuilder::new();
    if let Some(queue_name) = spec.queue_name {
        built = built.queue_name(queue_name);
    }
    if let Some(job_key) = spec.job_key {
        built = built.job_key(job_key);
    }
    if let Some(mode) = spec.job_key_mode {
        built = built.job_key_mode(match mode.as_str() {
            "replace" => JobKeyMode::Replace,
            "preserve_run_at" => JobKeyMode::PreserveRunAt,
            "unsafe_dedupe" => JobKeyMode::UnsafeDedupe,
            _ => return Err(mode.into()),
        });
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
    if let Some(run_at) = spec.run_at {
        built = built.run_at(run_at);
    }
    Ok(built.build())
}

async fn converse(stream: UnixStream) -> Outcome<()> {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading).lines();
    let mut conversation = Conversation::default();
    while let Some(line) = lines.next_line().await? {
        let answer = match conversation.answer(serde_json::from_str(&line)?).await {
            Ok(value) => json!({ "value": value }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        writing.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    conversation.stop().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let path = std::env::args().nth(1).ok_or("a path is needed")?;
    let listener = UnixListener::bind(path)?;
    println!("listening");
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = converse(stream).await {
                eprintln!("{error}");
            }
        });
    }
}
