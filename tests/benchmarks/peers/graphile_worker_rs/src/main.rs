//! The benchmarks as Graphile Worker RS does them. Each prints one line of JSON; `../../ours.py` is its counterpart.

use std::error::Error;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RefetchDelayConfig, TaskHandler, Worker,
    WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, stdin};
use tokio::sync::{Notify, mpsc};

type Outcome = Result<Value, Box<dyn Error>>;

const PAGE: usize = 4096;

#[derive(Deserialize)]
struct Options {
    concurrency: usize,
    sessions: u32,
    prefetch: usize,
    poll_milliseconds: u64,
    complete_milliseconds: u64,
    #[serde(default)]
    refetch_milliseconds: u64,
    #[serde(default)]
    jobs: usize,
    #[serde(default)]
    size: usize,
    #[serde(default)]
    keyed: bool,
    #[serde(default)]
    singles: usize,
    #[serde(default)]
    adds: usize,
    #[serde(default)]
    pause: f64,
    #[serde(default)]
    refill: usize,
    #[serde(default)]
    rss_samples: usize,
}

#[derive(Clone, Serialize, Deserialize)]
struct Nothing {
    n: usize,
}

/// What the handler tells the benchmark.
struct Told {
    handled: AtomicUsize,
    stop: Notify,
    called: Box<dyn Fn(usize) + Send + Sync>,
}

static TOLD: OnceLock<Told> = OnceLock::new();

impl TaskHandler for Nothing {
    const IDENTIFIER: &'static str = "nothing";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        let told = told();
        (told.called)(told.handled.fetch_add(1, Relaxed) + 1);
        Ok::<(), String>(())
    }
}

fn told() -> &'static Told {
    TOLD.get()
        .expect("the benchmark has said what it wants to be told")
}

/// Have a function called for each job, with the number of jobs so far.
fn tell(called: impl Fn(usize) + Send + Sync + 'static) {
    let told = Told {
        handled: AtomicUsize::new(0),
        stop: Notify::new(),
        called: Box::new(called),
    };
    assert!(TOLD.set(told).is_ok());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let name: String = serde_json::from_str(&arguments[1])?;
    let options: Options = serde_json::from_str(&arguments[2])?;
    let result = match name.as_str() {
        "migrate" => migrate(options).await?,
        "drain" => drain(options).await?,
        "latency" => latency(options).await?,
        "add" => add(options).await?,
        "calls" => calls(options).await?,
        "serve" => serve(options).await?,
        _ => return Err(name.into()),
    };
    println!("{result}");
    Ok(())
}

async fn worker(options: &Options) -> Result<Worker, Box<dyn Error>> {
    // The URL's parser wants a host before which a user may stand.
    let url = std::env::var("DATABASE_URL")?.replace("://postgres@/", ":///") + "&user=postgres";
    let mut local_queue = LocalQueueConfig::default().with_size(options.prefetch);
    if options.refetch_milliseconds > 0 {
        let duration = Duration::from_millis(options.refetch_milliseconds);
        local_queue =
            local_queue.with_refetch_delay(RefetchDelayConfig::default().with_duration(duration));
    }
    let worker = WorkerOptions::default()
        .database_url(&url)
        .max_pg_conn(options.sessions)
        .concurrency(options.concurrency)
        .poll_interval(Duration::from_millis(options.poll_milliseconds))
        .complete_job_batch_delay(Duration::from_millis(options.complete_milliseconds))
        .local_queue(local_queue)
        .listen_os_shutdown_signals(false)
        .shutdown_signal(async { told().stop.notified().await })
        .define_job::<Nothing>()
        .init()
        .await?;
    Ok(worker)
}

async fn migrate(options: Options) -> Outcome {
    tell(|_| ());
    worker(&options).await?;
    Ok(json!({}))
}

async fn drain(options: Options) -> Outcome {
    let jobs = options.jobs;
    let sample_at = (jobs / options.rss_samples.max(1)).max(1);
    let (first, firsts) = std::sync::mpsc::channel();
    let (samples, rss) = std::sync::mpsc::channel();
    tell(move |handled| {
        if handled == 1 {
            let _ = first.send(Instant::now());
        }
        if handled % sample_at == 0 {
            let _ = samples.send(resident_bytes());
        }
        if handled == jobs {
            told().stop.notify_one();
        }
    });
    let cpu_before = ProcessTime::now();
    let before = Instant::now();
    worker(&options).await?.run().await?;
    Ok(json!({
        "seconds": before.elapsed().as_secs_f64(),
        "running_seconds": firsts.recv()?.elapsed().as_secs_f64(),
        "handled": told().handled.load(Relaxed),
        "client_cpu": cpu_before.elapsed().as_secs_f64(),
        "rss": rss.try_iter().collect::<Vec<usize>>(),
    }))
}

async fn latency(options: Options) -> Outcome {
    let (start, mut starts) = mpsc::unbounded_channel();
    tell(move |_| {
        let _ = start.send(Instant::now());
    });
    let worker = worker(&options).await?;
    let utils = worker.create_utils();
    let running =
        tokio::spawn(async move { worker.run().await.map_err(|error| error.to_string()) });
    tokio::time::sleep(Duration::from_secs(1)).await; // it does not say when it listens
    let mut latencies = Vec::new();
    for n in 0..options.adds {
        tokio::time::sleep(Duration::from_secs_f64(options.pause)).await;
        let before = Instant::now();
        utils.add_job(Nothing { n }, JobSpec::default()).await?;
        let started = starts.recv().await.ok_or("the worker ended")?;
        latencies.push((started - before).as_secs_f64());
    }
    told().stop.notify_one();
    running.await??;
    Ok(json!({ "latencies": latencies }))
}

async fn add(options: Options) -> Outcome {
    tell(|_| ());
    let utils = worker(&options).await?.create_utils();
    let spec = JobSpec::default();
    let jobs: Vec<_> = (0..options.jobs).map(|n| (Nothing { n }, &spec)).collect();
    let cpu_before = ProcessTime::now();
    let before = Instant::now();
    utils.add_jobs::<Nothing>(&jobs).await?;
    let bulk_seconds = before.elapsed().as_secs_f64();
    let client_cpu = cpu_before.elapsed().as_secs_f64();
    let mut single_seconds = Vec::new();
    for n in 0..options.singles {
        let before = Instant::now();
        utils.add_job(Nothing { n }, JobSpec::default()).await?;
        single_seconds.push(before.elapsed().as_secs_f64());
    }
    Ok(
        json!({ "bulk_seconds": bulk_seconds, "client_cpu": client_cpu, "single_seconds": single_seconds }),
    )
}

async fn calls(options: Options) -> Outcome {
    tell(|_| ());
    let utils = worker(&options).await?.create_utils();
    utils.add_job(Nothing { n: 0 }, JobSpec::default()).await?;
    let cpu_before = ProcessTime::now();
    let before = Instant::now();
    for start in (0..options.jobs).step_by(options.size) {
        let specs: Vec<_> = (start..start + options.size)
            .map(|n| JobSpec {
                job_key: options.keyed.then(|| format!("key {n}")),
                ..JobSpec::default()
            })
            .collect();
        let jobs: Vec<_> = (start..).zip(&specs).map(|(n, spec)| (Nothing { n }, spec)).collect();
        utils.add_jobs::<Nothing>(&jobs).await?;
    }
    let bulk_seconds = before.elapsed().as_secs_f64();
    let client_cpu = cpu_before.elapsed().as_secs_f64();
    Ok(json!({ "bulk_seconds": bulk_seconds, "client_cpu": client_cpu }))
}

/// Says that it is ready, begins when told to, runs until standard input ends; adds as many as were run.
async fn serve(options: Options) -> Outcome {
    let mut input = BufReader::new(stdin());
    println!("ready");
    input.read_line(&mut String::new()).await?;
    let cpu_before = ProcessTime::now();
    let began = Instant::now();
    let (handled_at, mut handled_ats) = mpsc::unbounded_channel();
    let (refill, mut refills) = mpsc::unbounded_channel();
    let size = options.refill;
    tell(move |handled| {
        let _ = handled_at.send(began.elapsed().as_secs() as usize);
        if size > 0 && handled % size == 0 {
            let _ = refill.send(());
        }
    });
    let worker = worker(&options).await?;
    let utils = worker.create_utils();
    let running =
        tokio::spawn(async move { worker.run().await.map_err(|error| error.to_string()) });
    let adding = tokio::spawn(async move {
        let spec = JobSpec::default();
        let jobs: Vec<_> = (0..size).map(|n| (Nothing { n }, &spec)).collect();
        while refills.recv().await.is_some() {
            utils
                .add_jobs::<Nothing>(&jobs)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok::<(), String>(())
    });
    input.read_to_end(&mut Vec::new()).await?;
    told().stop.notify_one();
    running.await??;
    adding.abort();
    let mut per_second = Vec::new();
    while let Ok(second) = handled_ats.try_recv() {
        if per_second.len() <= second {
            per_second.resize(second + 1, 0);
        }
        per_second[second] += 1;
    }
    Ok(json!({
        "seconds": began.elapsed().as_secs_f64(),
        "handled": told().handled.load(Relaxed),
        "client_cpu": cpu_before.elapsed().as_secs_f64(),
        "per_second": per_second,
    }))
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or(0)
        * PAGE
}
