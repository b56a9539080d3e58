// What is shown, and what the reader does to it. The address's fragment says where to look: #anomaly=G1a/0, #op=123,
// #key=0&offset=41 (key by position), #q=17 to search, each with &axis=time or &view=all if wanted. Every link on the
// page is such a fragment.

const at = (id) => document.getElementById(id);
const state = { kind: "order", axis: null, view: [0, 1], witness: null, chosen: null, key: 0, logFirst: 0, drawn: null };

function show() {
  const [first, last] = baseEnds(state.kind).map((base) => unitOf(state.axis, base));
  // A little beyond both ends, where open ends of operations need it, and never further.
  const slack = (last - first) * 0.03 + 1;
  const width = Math.max(Math.min(state.view[1] - state.view[0], last - first + 2 * slack), 4);
  const left = Math.max(first - slack, Math.min(state.view[0], last + slack - width));
  state.view = [left, left + width];
  state.drawn = drawLanes(state, at("lanes"));
  drawOverview(state, at("overview"));
  listFaults(state, at("faults"));
  at("view").textContent = viewText(state.drawn);
  document.documentElement.dataset.bars = state.drawn.bars;
}

function viewText({ rows, isDense, hidden, lanes }) {
  const parts = [`${count(rows.length, "operation")} of ${count(rowCount())} in view, of ${count(lanes.size)} process${lanes.size === 1 ? "" : "es"}`];
  if (isDense) parts.push("too many for a bar each: zoom in to see them");
  if (hidden) parts.push(`${count(hidden, "operation")} more of other processes do not fit: zoom in to see them`);
  if (state.axis.cuts.length) parts.push(`the ${count(state.axis.cuts.length, "dashed stretch").replace("stretchs", "stretches")} left out can be opened by a click`);
  return parts.join("; ") + ".";
}

// Show an anomaly, by its type and number; false if there is no such.
function showWitness(name) {
  const witness = witnessOf(name);
  if (!witness) return false;
  state.witness = witness;
  state.chosen = witness.rows[0] ?? null;
  if (witness.rows.length) [state.axis, state.view] = axisAround(witness.rows, state.kind); else resetAxis();
  if (witness.messages.length) showPartition(witness.messages[0][0]);
  tellWitness();
  chosen();
  scrollToLane(state.chosen);
  return true;
}

function witnessTitle(name) {
  const cut = name.lastIndexOf("/"), type = name.slice(0, cut);
  return `${type} (${count(Number(name.slice(cut + 1)) + 1)} of ${count(FACTS.anomalies.find((kind) => kind.name === type).count)})`;
}

function tellWitness() {
  const { witness } = state;
  const operation = state.chosen === null ? "" : `Operation ${columns.index[state.chosen]} and what happened around it.`;
  at("sentence").textContent = witness ? `${witnessTitle(witness.name)}: ${shortWords(witness.sentence)}` : operation;
  at("relations").replaceChildren(...(witness ? relationTexts(witness).slice(0, 8).map((words) => item(shortWords(words))) : []));
  markCurrent(at("anomalies"), witness);
}

// Show an operation, by its index; false if there is no such.
function showOperation(index) {
  const row = rowByIndex.get(Number(index));
  if (row === undefined) return false;
  state.chosen = row;
  if (!state.drawn || !isInView(row)) {
    state.witness = state.witness && state.witness.tags.has(row) ? state.witness : null;
    [state.axis, state.view] = axisAround([row], state.kind);
    tellWitness();
  }
  const [first, last] = messagesOf(row);
  if (last > first && !state.witness) {
    const known = [...Array(last - first).keys()].map((i) => first + i).find(hasOffset);
    showPartition(columns.key[first], known === undefined ? undefined : columns.offset[known]);
  }
  chosen();
  return true;
}

function isInView(row) {
  const { axis, view: [left, right] } = state, [start, end] = baseOfRow(row, axis.kind);
  return !state.drawn.isDense && unitOf(axis, end) > left && unitOf(axis, start) < right && state.drawn.rows.includes(row);
}

// Bring the lane of an operation into sight, where there are too many lanes to see them all.
function scrollToLane(row) {
  if (row === null || !state.drawn.rows.includes(row)) return;
  const top = laneTop(state.drawn, row), high = at("lanes").clientHeight;
  at("lanes").scrollTop = top + state.drawn.laneHeight < high ? 0 : top - high / 2;
}

// Show the record of the chosen operation, and keep the keyboard where it was.
function chosen() {
  if (state.chosen !== null) showRecord(state.chosen, at("record"));
  show();
}

function showPartition(key, offset) {
  state.key = key;
  at("key").value = key;
  state.logFirst = logFirstFor(state, offset);
  showLog(state, at("log"));
}

function showAll() {
  resetAxis();
  show();
}

// The whole recording, uncut.
function resetAxis() {
  state.axis = makeAxis(state.kind);
  state.view = baseEnds(state.kind).map((base, i) => base + (2 * i - 1) * (baseEnds(state.kind)[1] - baseEnds(state.kind)[0] + 2));
}

// The same places on an axis without (some of) its cuts.
function openCuts(which) {
  const [left, right] = state.view.map((unit) => baseOf(state.axis, unit));
  state.axis = makeAxis(state.kind, which === undefined ? [] : state.axis.cuts.filter((_, i) => i !== which), state.axis.width);
  state.view = [unitOf(state.axis, left), unitOf(state.axis, right)];
  show();
}

function zoom(factor, around = 0.5) {
  const [left, right] = state.view, middle = left + (right - left) * around;
  state.view = [middle - (middle - left) * factor, middle + (right - middle) * factor];
  show();
}

function move(share) {
  const by = (state.view[1] - state.view[0]) * share;
  state.view = state.view.map((unit) => unit + by);
  show();
}

function changeAxis(kind) {
  state.kind = kind;
  at("axis").value = kind;
  if (state.witness && state.witness.rows.length) [state.axis, state.view] = axisAround(state.witness.rows, kind);
  else if (state.chosen !== null) [state.axis, state.view] = axisAround([state.chosen], kind);
  else resetAxis();
  show();
}

// The anomaly so many after the one shown, through all types.
function nextAnomaly(step) {
  const names = FACTS.anomalies.flatMap((kind) => kind.instances.map((_, i) => `${kind.name}/${i}`));
  const here = names.indexOf(state.witness ? state.witness.name : "");
  const name = names[(here + step + names.length) % names.length];
  if (name) location.hash = `anomaly=${name}`;
}

// The operation before or after the chosen one in its process.
function neighbour(step) {
  if (state.chosen === null) return;
  const process = columns.process[state.chosen], start = columns.invoked[state.chosen];
  let best = null;
  for (let row = 0; row < rowCount(); row++) {
    const distance = (columns.invoked[row] - start) * step;
    if (columns.process[row] === process && distance > 0 && (best === null || distance < (columns.invoked[best] - start) * step)) best = row;
  }
  if (best !== null) location.hash = `op=${columns.index[best]}`;
}

const ACTIONS = {
  in: () => zoom(0.6), out: () => zoom(1 / 0.6), left: () => move(-0.3), right: () => move(0.3), all: showAll, uncut: () => openCuts(),
};
const KEYS = {
  "+": ACTIONS.in, "=": ACTIONS.in, "-": ACTIONS.out, ArrowLeft: ACTIONS.left, ArrowRight: ACTIONS.right, 0: ACTIONS.all, u: ACTIONS.uncut,
  n: () => nextAnomaly(1), p: () => nextAnomaly(-1), ".": () => neighbour(1), ",": () => neighbour(-1), "/": () => at("search").q.focus(),
};

function follow(hash) {
  const asked = new URLSearchParams(hash);
  if (asked.has("axis")) { state.kind = asked.get("axis") === "time" ? "time" : "order"; at("axis").value = state.kind; }
  if (asked.has("q")) search(asked.get("q"), at("results"));
  const isFound = asked.has("anomaly") ? showWitness(asked.get("anomaly")) : asked.has("op") && showOperation(asked.get("op"));
  if (!isFound && !state.axis) FACTS.anomalies.length ? showWitness(`${FACTS.anomalies[0].name}/0`) : showStart();
  if (!isFound && (asked.has("anomaly") || asked.has("op"))) at("sentence").textContent = notFound(asked);
  if (asked.get("view") === "all") showAll();
  if (asked.has("key")) showPartition(Number(asked.get("key")), asked.has("offset") ? Number(asked.get("offset")) : undefined);
}

function notFound(asked) {
  const words = asked.has("anomaly") ? `The page has no anomaly ${asked.get("anomaly")}.` : `No operation has the index ${asked.get("op")}`;
  return asked.has("anomaly") ? words : `${words}; an operation is known by the index of its completion.`;
}

// Of a recording in which nothing is wrong, what happened around the first fault, or at the start.
function showStart() {
  tellWitness();
  at("sentence").textContent = FACTS.nothing;
  const struck = FACTS.faults.find(([, , isNote]) => !isNote), base = struck ? firstAfter(timeAt, struck[0]) : 0;
  let nearest = 0;
  for (let row = 0; row < rowCount(); row++)
    if (Math.abs(columns.invoked[row] - base) < Math.abs(columns.invoked[nearest] - base)) nearest = row;
  [state.axis, state.view] = axisAround([nearest], state.kind);
  show();
}

function listen() {
  addEventListener("hashchange", () => follow(location.hash.slice(1)));
  addEventListener("resize", show);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
    const action = KEYS[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  for (const button of document.querySelectorAll("[data-do]")) button.onclick = ACTIONS[button.dataset.do];
  at("axis").onchange = () => changeAxis(at("axis").value);
  at("key").onchange = () => showPartition(Number(at("key").value));
  at("search").onsubmit = (event) => { event.preventDefault(); search(at("search").q.value.trim(), at("results")); };
  at("overview").onpointerdown = at("overview").onpointermove = (event) => { if (event.buttons === 1) jumpTo(event); };
  listenToLanes(at("lanes"));
}

// A click into the strip brings that part of the recording into the middle.
function jumpTo(event) {
  const strip = at("overview").getBoundingClientRect(), [first, last] = baseEnds(state.kind);
  const unit = unitOf(state.axis, first + ((event.clientX - strip.left) / strip.width) * (last - first));
  const half = (state.view[1] - state.view[0]) / 2;
  state.view = [unit - half, unit + half];
  show();
}

function listenToLanes(lanes) {
  let from = null, dragged = false;
  lanes.addEventListener("pointerdown", (event) => { from = { x: event.clientX, view: state.view }; dragged = false; });
  addEventListener("pointerup", () => { from = null; });
  addEventListener("pointermove", (event) => {
    if (!from || (!dragged && Math.abs(event.clientX - from.x) < 5)) return;
    dragged = true;
    const by = ((from.x - event.clientX) / (lanes.clientWidth - NAME_WIDTH)) * (from.view[1] - from.view[0]);
    state.view = from.view.map((unit) => unit + by);
    show();
  });
  // The end of a drag over a bar is no click on it.
  lanes.addEventListener("click", (event) => {
    if (dragged) event.preventDefault();
    else if (event.target.dataset.cut !== undefined) openCuts(Number(event.target.dataset.cut));
  });
  lanes.addEventListener("dragstart", (event) => event.preventDefault());
  lanes.addEventListener("wheel", (event) => {
    const isZoom = event.ctrlKey || event.metaKey;
    if (!isZoom && Math.abs(event.deltaX) <= Math.abs(event.deltaY)) return; // the page scrolls
    event.preventDefault();
    if (!isZoom) return move(event.deltaX / lanes.clientWidth);
    zoom(Math.exp(event.deltaY / 400), (event.clientX - lanes.getBoundingClientRect().left - NAME_WIDTH) / (lanes.clientWidth - NAME_WIDTH));
  }, { passive: false });
}

async function start() {
  await loadColumns();
  FACTS.keys.forEach((_, key) => at("key").append(new Option(keyText(key), key)));
  listAnomalies(at("anomalies"));
  follow(location.hash.slice(1) || FACTS.start);
  listen();
  if (!at("log").firstChild && FACTS.keys.length) showPartition(0);
  document.documentElement.dataset.state = "ready";
}

// A failure is told on the page: a blank one would leave its reader guessing.
function fail(reason) {
  document.documentElement.dataset.state = "failed";
  document.documentElement.dataset.error = `${reason}`;
  at("sentence").textContent = `The page failed: ${reason}`;
}

addEventListener("error", (event) => fail(event.message));
addEventListener("unhandledrejection", (event) => fail(event.reason));
start();
