// River in the storm: installs its schema, adds jobs, or is a worker.
//
// Its stop, by https://riverqueue.com/docs/graceful-shutdown and https://pkg.go.dev/github.com/riverqueue/river#Config:
// SIGTERM cancels the context of Start, which begins a soft stop. After SoftStopTimeout the contexts of jobs are
// cancelled. A job that returns the error of its context is interrupted: its attempt is given back, and it is available
// at once. A job that heeds nothing keeps Stopped from being closed, so we leave, as that page does, a moment after the
// hard stop. RescueStuckJobsAfter rescues by time alone and must exceed what a job may take, which is JobTimeout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	jobTimeout  = 30 * time.Second // the longest job takes 12
	rescueAfter = time.Minute
	hardStop    = 2 * time.Second
)

type work struct {
	Token   int64   `json:"token"`
	What    string  `json:"kind"`
	Seconds float64 `json:"seconds"`
}

func (work) Kind() string { return "work" }

type handler struct {
	river.WorkerDefaults[work]
	marks *pgxpool.Pool
}

func (h *handler) Work(ctx context.Context, job *river.Job[work]) error {
	ending, err := h.run(ctx, job)
	h.mark(job, ending)
	return err
}

func (h *handler) run(ctx context.Context, job *river.Job[work]) (string, error) {
	duration := time.Duration(job.Args.Seconds * float64(time.Second))
	h.mark(job, "started")
	if job.Args.What != "sleep" {
		time.Sleep(duration) // whatever the context says: `cpu` holds a thread, `stubborn` a goroutine
		return "finished", nil
	}
	select {
	case <-time.After(duration):
		return "finished", nil
	case <-ctx.Done():
		return "interrupted", ctx.Err()
	}
}

// mark tells the referee, even if the job is cancelled.
func (h *handler) mark(job *river.Job[work], what string) {
	must1(h.marks.Exec(
		context.Background(),
		"insert into marks (token, what, attempt, worker, pid) values ($1, $2, $3, $4, $5)",
		job.Args.Token, what, job.Attempt, os.Getenv("STORM_WORKER"), os.Getpid(),
	))
}

func main() {
	programs := map[string]func(context.Context){"setup": setup, "add": add, "worker": worker}
	programs[os.Args[1]](context.Background())
}

func setup(ctx context.Context) {
	migrator := must1(rivermigrate.New(riverpgxv5.New(pool(ctx, "STORM_DATABASE_URL", 1)), nil))
	must1(migrator.Migrate(ctx, rivermigrate.DirectionUp, nil))
}

func add(ctx context.Context) {
	client := must1(river.NewClient(riverpgxv5.New(pool(ctx, "STORM_DATABASE_URL", 1)), &river.Config{Logger: quiet()}))
	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return
		}
		var payloads []work
		must(json.Unmarshal(line, &payloads))
		jobs := make([]river.InsertManyParams, len(payloads))
		for n, payload := range payloads {
			jobs[n].Args = payload
		}
		if _, err := client.InsertMany(ctx, jobs); err != nil {
			fmt.Fprintln(os.Stderr, err)
			fmt.Println("failed")
		} else {
			fmt.Println("added")
		}
	}
}

func worker(ctx context.Context) {
	concurrency := must1(strconv.Atoi(os.Getenv("STORM_CONCURRENCY")))
	grace := time.Duration(must1(strconv.ParseFloat(os.Getenv("STORM_GRACE"), 64)) * float64(time.Second))
	marks := pool(ctx, "STORM_MARKS_URL", 2)
	must(marks.Ping(ctx))
	workers := river.NewWorkers()
	river.AddWorker(workers, &handler{marks: marks})
	client := must1(river.NewClient(riverpgxv5.New(pool(ctx, "STORM_DATABASE_URL", int32(concurrency+2))), &river.Config{
		ID:                   os.Getenv("STORM_WORKER"),
		JobTimeout:           jobTimeout,
		Logger:               quiet(),
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: concurrency}},
		RescueStuckJobsAfter: rescueAfter,
		SoftStopTimeout:      grace,
		Workers:              workers,
	}))
	told, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	must(client.Start(told))
	fmt.Println("ready")
	<-told.Done()
	select {
	case <-client.Stopped():
	case <-time.After(grace + hardStop):
		fmt.Fprintln(os.Stderr, "some jobs heed nothing")
		os.Exit(1)
	}
}

func pool(ctx context.Context, variable string, sessions int32) *pgxpool.Pool {
	config := must1(pgxpool.ParseConfig(os.Getenv(variable)))
	config.MaxConns = max(sessions, 2)
	return must1(pgxpool.NewWithConfig(ctx, config))
}

func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must1[T any](value T, err error) T {
	must(err)
	return value
}
