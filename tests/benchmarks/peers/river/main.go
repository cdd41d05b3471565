// The benchmarks as River does them. Each prints one line of JSON; `../../ours.py` is its counterpart.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const fillBatch = 10_000

type options struct {
	Slots    int     `json:"slots"`
	Sessions int32   `json:"sessions"`
	Jobs     int     `json:"jobs"`
	Singles  int     `json:"singles"`
	Adds     int     `json:"adds"`
	Pause    float64 `json:"pause"`
}

type result map[string]any

type nothing struct {
	N int `json:"n"`
}

func (nothing) Kind() string { return "nothing" }

// handler calls a function for each job, which is all there is to do.
type handler struct {
	river.WorkerDefaults[nothing]
	called func()
}

func (h *handler) Work(context.Context, *river.Job[nothing]) error {
	h.called()
	return nil
}

func main() {
	var name string
	var told options
	must(json.Unmarshal([]byte(os.Args[1]), &name))
	must(json.Unmarshal([]byte(os.Args[2]), &told))
	benchmarks := map[string]func(context.Context, *pgxpool.Pool, options) result{
		"migrate": migrate, "fill": fill, "drain": drain, "latency": latency, "add": add, "serve": serve,
	}
	ctx := context.Background()
	config := must1(pgxpool.ParseConfig(os.Getenv("DATABASE_URL")))
	config.MaxConns = max(told.Sessions, 4)
	pool := must1(pgxpool.NewWithConfig(ctx, config))
	defer pool.Close()
	if found := benchmarks[name](ctx, pool, told); found != nil {
		fmt.Println(string(must1(json.Marshal(found))))
	}
}

func migrate(ctx context.Context, pool *pgxpool.Pool, _ options) result {
	migrator := must1(rivermigrate.New(riverpgxv5.New(pool), nil))
	must1(migrator.Migrate(ctx, rivermigrate.DirectionUp, nil))
	return nil
}

func fill(ctx context.Context, pool *pgxpool.Pool, told options) result {
	client := must1(river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: quiet()}))
	for begin := 0; begin < told.Jobs; begin += fillBatch {
		must1(client.InsertManyFast(ctx, many(begin, min(begin+fillBatch, told.Jobs))))
	}
	return nil
}

func drain(ctx context.Context, pool *pgxpool.Pool, told options) result {
	var handled atomic.Int64
	done := make(chan struct{})
	client := worker(pool, told, func() {
		if handled.Add(1) == int64(told.Jobs) {
			close(done)
		}
	})
	cpuBefore, before := cpuSeconds(), time.Now()
	must(client.Start(ctx))
	<-done
	must(client.Stop(ctx))
	return result{
		"seconds":    time.Since(before).Seconds(),
		"handled":    handled.Load(),
		"client_cpu": cpuSeconds() - cpuBefore,
	}
}

func latency(ctx context.Context, pool *pgxpool.Pool, told options) result {
	started := make(chan time.Time, 1)
	client := worker(pool, told, func() { started <- time.Now() })
	must(client.Start(ctx))
	latencies := make([]float64, told.Adds)
	for n := range latencies {
		time.Sleep(time.Duration(told.Pause * float64(time.Second)))
		before := time.Now()
		must1(client.Insert(ctx, nothing{N: n}, nil))
		latencies[n] = (<-started).Sub(before).Seconds()
	}
	must(client.Stop(ctx))
	return result{"latencies": latencies}
}

func add(ctx context.Context, pool *pgxpool.Pool, told options) result {
	client := must1(river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: quiet()}))
	jobs := many(0, told.Jobs)
	cpuBefore, before := cpuSeconds(), time.Now()
	must1(client.InsertManyFast(ctx, jobs))
	bulkSeconds, clientCPU := time.Since(before).Seconds(), cpuSeconds()-cpuBefore
	singles := make([]float64, told.Singles)
	for n := range singles {
		before := time.Now()
		must1(client.Insert(ctx, nothing{N: n}, nil))
		singles[n] = time.Since(before).Seconds()
	}
	return result{"bulk_seconds": bulkSeconds, "client_cpu": clientCPU, "single_seconds": singles}
}

// serve says that it is ready, begins when told to, and runs until standard input ends.
func serve(ctx context.Context, pool *pgxpool.Pool, told options) result {
	var handled atomic.Int64
	fmt.Println("ready")
	input := bufio.NewReader(os.Stdin)
	must1(input.ReadString('\n'))
	cpuBefore, before := cpuSeconds(), time.Now()
	client := worker(pool, told, func() { handled.Add(1) })
	must(client.Start(ctx))
	must1(io.Copy(io.Discard, input))
	must(client.Stop(ctx))
	return result{
		"seconds":    time.Since(before).Seconds(),
		"handled":    handled.Load(),
		"client_cpu": cpuSeconds() - cpuBefore,
	}
}

func worker(pool *pgxpool.Pool, told options, called func()) *river.Client[pgx.Tx] {
	workers := river.NewWorkers()
	river.AddWorker(workers, &handler{called: called})
	return must1(river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown: time.Millisecond, // the least
		JobTimeout:    -1,
		Logger:        quiet(),
		Queues:        map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: told.Slots}},
		Workers:       workers,
	}))
}

func many(begin, end int) []river.InsertManyParams {
	jobs := make([]river.InsertManyParams, 0, end-begin)
	for n := begin; n < end; n++ {
		jobs = append(jobs, river.InsertManyParams{Args: nothing{N: n}})
	}
	return jobs
}

func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
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
