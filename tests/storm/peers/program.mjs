// What the programs of peers share that are written for Node: the contract, and the handler. It is copied beside each.

import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";

const { STORM_DATABASE_URL, STORM_MARKS_URL, STORM_WORKER } = process.env;
export const connectionString = STORM_DATABASE_URL;
export const concurrency = Number(process.env.STORM_CONCURRENCY);
export const grace = Number(process.env.STORM_GRACE) * 1000; // milliseconds

// A pool that keeps no process from ending, and survives that its sessions are cut.
export function openPool(connectionString, max) {
  const pool = new pg.Pool({ connectionString, max, allowExitOnIdle: true });
  pool.on("error", (error) => console.error(error));
  pool.on("connect", (client) => client.on("error", (error) => console.error(error)));
  return pool;
}

// Adds the jobs of each line by a function of their payloads, and tells the storm whether they are there, or only may be.
export async function addLines(add) {
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      await add(JSON.parse(line));
      console.log("added");
    } catch (error) {
      console.error(error);
      console.log("failed");
    }
  }
}

function block(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

// Connects to the referee; returns the handler of a payload, whose attempt is 1 for the first, and which `signal` aborts.
export async function openHandler() {
  const marks = openPool(STORM_MARKS_URL, 2);
  await marks.query("select 1");

  const mark = (token, what, attempt) =>
    marks.query("insert into marks (token, what, attempt, worker, pid) values ($1, $2, $3, $4, $5)", [
      token,
      what,
      attempt,
      STORM_WORKER,
      process.pid,
    ]);

  return async function handle({ token, kind, seconds }, attempt, signal) {
    try {
      await mark(token, "started", attempt);
      if (kind === "cpu") block(seconds * 1000);
      else if (kind === "stubborn") await pause(seconds * 1000);
      else await pause(seconds * 1000, undefined, { signal });
    } catch (error) {
      await mark(token, error.name === "AbortError" ? "interrupted" : "failed", attempt);
      throw error;
    }
    await mark(token, "finished", attempt);
  };
}

// Runs the part of the contract that the command line names.
export async function runProgram(parts) {
  await parts[process.argv[2]]();
}
