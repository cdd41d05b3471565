// The pages can be read without this. It keeps them fresh, sends what is asked for, and hears keys.
// HTML comes from the server alone: the page's own URL is fetched as a document, and its live regions are swapped.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const base = document.body.dataset.root;
const meta = (name) => $(`meta[name="${name}"]`)?.content ?? "";
const LIMIT_WITHOUT_COUNT = 100; // more jobs than these are confirmed by typing their number
const STEP = 500; // jobs in one request
const QUIET = 2000; // at most one refresh in so many milliseconds

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function announce(text) {
  const where = $("#announcer");
  if (where) where.textContent = text;
}

// --- times: the server's are UTC, shown in the reader's zone

const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function localise(within) {
  for (const time of $$("time[datetime]", within)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    if (!time.title) time.title = time.textContent;
    time.textContent = full.format(at);
  }
}

// --- live regions

const pristine = new Map(); // id of a region -> what the server sent, untouched
const regions = (within) => $$("[data-live][id]", within);

function fetchDocument(url) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.timeout = 30000;
    request.onload = () => {
      if (request.responseURL.split("?")[0].endsWith("/login")) return location.reload();
      if (request.status < 400 && request.response) resolve(request.response);
      else reject(new Error(request.status === 404 ? "it is gone" : `the server answered ${request.status}`));
    };
    request.onerror = request.ontimeout = () => reject(new Error("the server cannot be reached"));
    request.send();
  });
}

function placeOf(node, within) {
  if (!within.contains(node)) return null;
  if (node.id) return `#${CSS.escape(node.id)}`;
  if (node.matches("a[href]")) return `a[href="${CSS.escape(node.getAttribute("href"))}"]`;
  if (node.matches("input[data-id]")) return `input[data-id="${CSS.escape(node.dataset.id)}"]`;
  return node.matches("button[data-opens]") ? `button[data-opens="${CSS.escape(node.dataset.opens)}"]` : null;
}

function swap(fresh) {
  const said = [];
  for (const old of regions(document)) {
    const next = fresh.getElementById(old.id);
    if (!next || next.isEqualNode(pristine.get(old.id))) continue;
    if (next.dataset.says && next.dataset.says !== old.dataset.says) said.push(next.dataset.says);
    pristine.set(old.id, next.cloneNode(true));
    const place = placeOf(document.activeElement, old);
    const opened = $$("details[open][id]", old).map((details) => details.id);
    const arrived = document.adoptNode(next);
    localise(arrived);
    old.replaceWith(arrived);
    for (const id of opened) $(`#${CSS.escape(id)}`)?.setAttribute("open", "");
    if (place) $(place, arrived)?.focus({ preventScroll: true });
  }
  showSelection();
  if (said.length) announce(said.join(". "));
}

let stale = false;
let last = Date.now();
let looked = "";
let timer = null;

function pausedBy() {
  if (document.hidden) return "hidden";
  if ($("dialog[open]")) return "a dialog is open";
  if (selected.size) return `${selected.size} selected`;
  const active = document.activeElement;
  if (active?.matches("main input:not([type=checkbox]), main textarea, main select")) return "you are typing";
  const marked = getSelection();
  if (marked && !marked.isCollapsed && $("main")?.contains(marked.anchorNode)) return "text is marked";
  return $("#live-switch")?.checked === false ? "switched off" : null;
}

function showLive(state, text) {
  const where = $("#live-state");
  if (!where) return;
  where.dataset.state = state;
  where.textContent = text;
}

async function refresh(url = location.href) {
  clearTimeout(timer);
  timer = null;
  last = Date.now();
  stale = false;
  try {
    swap(await fetchDocument(url));
    showStream();
  } catch (error) {
    showLive("waiting", `Not refreshed: ${error.message}`);
  }
}

function changed() {
  stale = true;
  const reason = pausedBy();
  if (reason) return showLive("waiting", `Paused: ${reason}`);
  timer ??= setTimeout(() => {
    timer = null;
    if (pausedBy()) changed();
    else refresh();
  }, Math.max(0, last + QUIET - Date.now()));
}

function resume() {
  if (stale && !pausedBy()) changed();
  else if (!pausedBy()) showStream();
}

let stream = null;

function showStream() {
  if (stream?.readyState === EventSource.OPEN) showLive("on", "Live");
  else showLive("waiting", "Not live");
}

function listen() {
  if (stream || document.hidden || !regions(document).length || $("#live-switch")?.checked === false) return;
  stream = new EventSource(`${base}/api/events`);
  stream.onopen = showStream;
  stream.addEventListener("changed", changed);
  stream.addEventListener("overview", (event) => { // each look is told of; those that saw nothing new change nothing
    const { counted_at: _, ...counts } = JSON.parse(event.data);
    const text = JSON.stringify(counts);
    if ((looked && looked !== text) || Date.now() - last > 60000) changed();
    looked = text;
  });
  const gone = () => {
    if (stream?.readyState !== EventSource.CLOSED) return showStream();
    hush();
    setTimeout(() => { changed(); listen(); }, 10000);
  };
  stream.addEventListener("bye", () => { stream?.close(); gone(); });
  stream.onerror = gone;
}

function hush() {
  stream?.close();
  stream = null;
  showLive("off", "Paused");
}

// --- selection: by id; what is gone leaves it

const selected = new Set(history.state?.selected ?? []);

function showSelection() {
  const boxes = $$("input[data-id]");
  const here = new Set(boxes.map((box) => box.dataset.id));
  for (const id of selected) if (!here.has(id)) selected.delete(id);
  for (const box of boxes) {
    box.checked = selected.has(box.dataset.id);
    box.closest("tr").toggleAttribute("data-selected", box.checked);
  }
  const all = $("#select-all");
  if (all) {
    all.checked = boxes.length > 0 && selected.size === boxes.length;
    all.indeterminate = selected.size > 0 && !all.checked;
  }
  const matching = $("#all-matching")?.checked ?? false;
  const where = $("#selected-count");
  if (where) where.textContent = matching ? "All that match" : `${selected.size} selected`;
  for (const button of $$("[data-selection]")) button.disabled = !selected.size && (!matching || "only" in button.dataset);
  history.replaceState({ selected: [...selected] }, "");
}

// --- commands: a dialog's form becomes JSON for the API

class Refused extends Error {}

async function send(path, text) {
  const headers = { "content-type": "application/json", [meta("csrf-header")]: meta("csrf-token") };
  let answer;
  try {
    answer = await fetch(`${base}/api/${path}`, { method: "POST", headers, body: text });
  } catch {
    throw new Refused("The server cannot be reached. Whether it was done is not known: look before you try again.");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(body.error ?? `The server answered ${answer.status}.`);
  return body;
}

const list = (text) => text.split(/[\n,]/).map((part) => part.trim()).filter(Boolean);

// JSON text of a field, not a value: numbers of payloads are sent digit for digit.
const KINDS = {
  text: (text) => JSON.stringify(text),
  list: (text) => JSON.stringify(list(text)),
  number: (text) => {
    if (!/^-?\d+$/.test(text.trim())) throw new Refused(`“${text}” is not a whole number.`);
    return String(text.trim().replace(/^(-?)0+(?=\d)/, "$1"));
  },
  time: (text) => JSON.stringify(new Date(text).toISOString()),
  json: (text) => {
    try {
      JSON.parse(text);
    } catch (error) {
      throw new Refused(`The payload is not JSON: ${error.message}`);
    }
    return text;
  },
};

function membersOf(form) {
  const members = [];
  const checks = new Map();
  for (const field of form.elements) {
    if (!field.name || field.disabled || field.type === "submit") continue;
    if (field.type === "checkbox" && !field.dataset.kind) {
      if (field.checked) checks.set(field.name, [...(checks.get(field.name) ?? []), field.value]);
    } else if (field.value.trim() && (field.checked || field.type !== "checkbox")) {
      members.push(`"${field.name}":${KINDS[field.dataset.kind ?? "text"](field.value)}`);
    }
  }
  for (const [name, values] of checks) members.push(`"${name}":${JSON.stringify(values)}`);
  return members;
}

function targetOf(opener) {
  const rest = (opener.dataset.body ?? "{}").trim().slice(1, -1);
  const count = Number(opener.dataset.count ?? 1);
  if (!("selection" in opener.dataset)) {
    return { rest, ids: null, count: opener.dataset.count === "unknown" ? null : count, steps: "steps" in opener.dataset };
  }
  const matching = $("#all-matching");
  if (matching?.checked && !("only" in opener.dataset)) {
    const known = matching.dataset.count;
    return { rest: matching.dataset.body.trim().slice(1, -1), ids: null, count: known ? Number(known) : null, steps: true };
  }
  return { rest: "", ids: [...selected], count: selected.size };
}

let target = null;

function open(opener) {
  const dialog = document.getElementById(opener.dataset.opens);
  const form = $("form", dialog);
  target = targetOf(opener);
  form.reset();
  for (const node of $$("[data-what]", dialog)) {
    const what = target.count === null ? "all jobs that match" : target.count === 1 ? "1 job" : `${target.count} jobs`;
    node.textContent = opener.dataset.what ?? what;
  }
  const confirm = $("[data-confirm]", dialog);
  if (confirm) {
    const word = target.count === null ? "all" : target.count > LIMIT_WITHOUT_COUNT ? String(target.count) : "";
    confirm.hidden = !word;
    $("b", confirm).textContent = word;
    $("input", confirm).required = Boolean(word);
  }
  report(form, null);
  dialog.showModal();
}

function report(form, error, notes = []) {
  const alert = $("[data-error]", form);
  alert.hidden = !error;
  alert.textContent = error ?? "";
  const result = $("[data-result]", form);
  result.replaceChildren(...notes.map((note) => element("p", note)));
  result.hidden = !notes.length;
  form.toggleAttribute("data-done", false);
}

function bodies(members, { rest, ids, steps }) {
  const fixed = [...members, ...(rest ? [rest] : []), ...(steps ? [`"limit":${STEP}`] : [])];
  if (ids) {
    const parts = [];
    for (let from = 0; from < ids.length; from += STEP) {
      parts.push(`{${[...fixed, `"ids":[${ids.slice(from, from + STEP).join(",")}]`].join(",")}}`);
    }
    return (answer, done) => parts[done] ?? null;
  }
  return (answer, done) => {
    if (done === 0) return `{${fixed.join(",")}}`;
    return steps && answer?.next ? `{${[...fixed, `"after":${JSON.stringify(answer.next)}`].join(",")}}` : null;
  };
}

async function run(form, following) {
  const progress = $("progress", form);
  const stop = $("[data-stop]", form);
  const tally = { changed: 0, asked: 0, unchanged: [], messages: [], error: null, stopped: false };
  stop.onclick = () => { tally.stopped = true; };
  let answer = null;
  for (let done = 0; !tally.stopped; done += 1) {
    const text = following(answer, done);
    if (text === null) break;
    progress.hidden = stop.hidden = done === 0;
    try {
      answer = await send(form.dataset.api, text);
    } catch (error) {
      tally.error = error.message;
      break;
    }
    tally.changed += answer.jobs?.length ?? 0;
    tally.asked += answer.requested_ids?.length ?? 0;
    tally.unchanged.push(...(answer.unchanged ?? []));
    tally.messages = answer.message ? [answer.message] : [];
    if (target?.count) progress.value = Math.min(1, (tally.changed + tally.asked + tally.unchanged.length) / target.count);
    else progress.removeAttribute("value");
    report(form, null, [`${tally.changed} done so far`]);
  }
  progress.hidden = stop.hidden = true;
  return { tally, answer };
}

function notesOf({ tally, answer }) {
  const notes = [];
  if (answer && "unchanged" in answer) {
    notes.push(`${tally.changed} changed${tally.asked ? `, ${tally.asked} running ones were asked to end` : ""}.`);
  } else notes.push(...tally.messages);
  if (answer?.worker_ids?.length) notes.push(`Workers: ${answer.worker_ids.join(", ")}`);
  if (tally.stopped) notes.push("Stopped: the rest was left alone.");
  if (tally.unchanged.length) notes.push(`${tally.unchanged.length} left alone:`);
  notes.push(...tally.unchanged.slice(0, 10).map((one) => `${one.id}: ${one.reason}`));
  if (tally.unchanged.length > 10) notes.push(`and ${tally.unchanged.length - 10} more`);
  return notes;
}

async function submit(event) {
  const form = event.target;
  if (!form.dataset.api) return;
  event.preventDefault();
  const confirm = $("[data-confirm]:not([hidden])", form);
  if (confirm && $("input", confirm).value.trim() !== $("b", confirm).textContent) {
    return report(form, `Type ${$("b", confirm).textContent} to go on.`);
  }
  const button = event.submitter ?? $("[type=submit]", form);
  let members;
  try {
    members = membersOf(form);
    if (button?.name) members.push(`"${button.name}":${button.value}`);
  } catch (error) {
    return report(form, error.message);
  }
  button.disabled = true;
  const outcome = await run(form, bodies(members, target ?? { rest: "" })).finally(() => { button.disabled = false; });
  const done = notesOf(outcome);
  report(form, outcome.tally.error, outcome.answer ? done : []);
  form.toggleAttribute("data-done", !outcome.tally.error && button?.name !== "dry_run");
  announce(outcome.tally.error ?? done.join(" "));
  const id = outcome.answer?.jobs?.[0]?.id;
  if (!outcome.tally.error && form.dataset.goes) location.assign(form.dataset.goes.replace("ID", id ?? ""));
  else if (outcome.answer && button?.name !== "dry_run") refresh();
}

// --- copying

const COLUMNS = ["id", "task_identifier", "queue_name", "state", "run_at", "attempts", "max_attempts", "priority", "key"];
const cell = (value) => `"${String(value ?? "").replace(/^(?=[=+\-@\t\r\n])/, "'").replaceAll('"', '""')}"`;

async function copy(button) {
  const rows = $$("tr[data-job]").filter((row) => selected.has($("input[data-id]", row)?.dataset.id));
  const texts = rows.map((row) => row.dataset.job);
  const lines = texts.map((text) => JSON.parse(text)).map((job) => COLUMNS.map((name) => cell(job[name])).join(","));
  const text = button.dataset.copy === "csv" ? [COLUMNS.map(cell).join(","), ...lines, ""].join("\r\n")
    : button.dataset.copy === "json" ? `[${texts.join(",\n")}]` : document.getElementById(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied");
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  } catch { // no permission, or no secure context: the text is shown, to be copied by hand
    $("#copy-text").value = text;
    $("#copy-dialog").showModal();
    $("#copy-text").select();
  }
}

// --- suggestions

const asked = new Map();

function suggest(input) {
  clearTimeout(asked.get(input));
  asked.set(input, setTimeout(async () => {
    const url = `${base}/jobs/suggestions?of=${input.dataset.suggest}&prefix=${encodeURIComponent(input.value)}`;
    const fresh = await fetchDocument(url).catch(() => null);
    const found = fresh?.querySelector("datalist");
    if (found) input.list?.replaceChildren(...$$("option", document.adoptNode(found)));
  }, 200));
}

// --- keys: / j k x ? and g with a letter

let going = false;
const keysAreOn = () => localStorage.getItem("keys") !== "off";

function move(step) {
  const links = $$("[data-row]");
  if (!links.length) return;
  const row = document.activeElement?.closest("tr, li");
  const at = links.findIndex((link) => link.closest("tr, li") === row);
  links[Math.max(0, Math.min(links.length - 1, at + step))].focus();
}

function toggle(box) {
  box.checked = !box.checked;
  box.dispatchEvent(new Event("change", { bubbles: true }));
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !keysAreOn() || $("dialog[open]")) return;
  if (event.target.matches("input:not([type=checkbox]), textarea, select")) return;
  const { key } = event;
  if (going) {
    going = false;
    const link = $(`nav a[data-key="${CSS.escape(key)}"]`);
    if (link) { event.preventDefault(); link.click(); }
    return;
  }
  const box = document.activeElement?.closest("tr") && $("input[data-id]", document.activeElement.closest("tr"));
  if (key === "g") { going = true; setTimeout(() => { going = false; }, 1500); return; }
  if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (key === "x" && box) toggle(box);
  else if (key === "/" && $("[data-search]")) {
    $("[data-search]").closest("details")?.setAttribute("open", "");
    $("[data-search]").focus();
  } else if (key === "?") $("#keys-dialog").showModal();
  else return;
  event.preventDefault();
}

// --- everything together

function click(event) {
  const on = event.target.closest("button, a");
  if (!on) return;
  if (on.dataset.opens) open(on);
  else if (on.dataset.shows) document.getElementById(on.dataset.shows).showModal();
  else if (on.dataset.copy) copy(on);
  else if ("closes" in on.dataset) on.closest("dialog").close();
  else if ("once" in on.dataset) { event.preventDefault(); refresh(on.href); }
  else if ("logout" in on.dataset) send("../logout", "{}").catch(() => {}).then(() => location.assign(`${base}/login`));
}

function change(event) {
  const on = event.target;
  if (on.id === "theme") {
    document.documentElement.dataset.theme = on.value;
    document.cookie = `theme=${on.value}; path=${base || "/"}; max-age=31536000; samesite=strict`;
  } else if (on.id === "live-switch") {
    localStorage.setItem("live", on.checked ? "on" : "off");
    if (on.checked) { listen(); refresh(); } else hush();
  } else if (on.id === "keys-switch") localStorage.setItem("keys", on.checked ? "on" : "off");
  else if (on.id === "select-all" || on.dataset.id) {
    for (const box of on.dataset.id ? [on] : $$("input[data-id]")) selected[on.checked ? "add" : "delete"](box.dataset.id);
    showSelection();
    resume();
  } else if (on.id === "all-matching") showSelection();
}

function start() {
  for (const region of regions(document)) pristine.set(region.id, region.cloneNode(true));
  localise(document);
  showSelection();
  if ($("#live-switch")) $("#live-switch").checked = localStorage.getItem("live") !== "off";
  if ($("#keys-switch")) $("#keys-switch").checked = keysAreOn();
  document.addEventListener("click", click);
  document.addEventListener("change", change);
  document.addEventListener("submit", submit);
  document.addEventListener("keydown", press);
  document.addEventListener("input", (event) => { if (event.target.dataset.suggest) suggest(event.target); });
  document.addEventListener("focusout", () => setTimeout(resume));
  document.addEventListener("selectionchange", () => { if (stale) resume(); });
  document.addEventListener("close", (event) => { target = null; if (event.target.matches("dialog")) resume(); }, true);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hush();
    else { listen(); if (regions(document).length) changed(); }
  });
  addEventListener("pagehide", () => stream?.close());
  listen();
  document.documentElement.dataset.ready = "";
}

start();
