// The lanes: one per process with anything in view. A bar stands for an operation as long as there are few enough of
// them; of more, each lane shows how busy it was. So however much is in view, the number of elements is bounded.

const BARS_MAX = 500, LANES_MAX = 60, BANDS_MAX = 40, TICKS = 8;
const LANE_HEIGHT = 46, LOW_LANE = 26, ROOMY_MAX = 20, DENSE_LANE = 16, HEAD = 46, NAME_WIDTH = 86, LETTER = 6.2, BUCKET = 3, OPEN_END = 26, TAG_WIDTH = 16;
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

// What to draw: the rows in view, their lanes, and how units become pixels.
function scene(state, width) {
  const { axis, view: [left, right] } = state;
  const scale = (width - NAME_WIDTH) / (right - left);
  const x = (base) => NAME_WIDTH + (unitOf(axis, base) - left) * scale;
  const all = rowsInView(axis, left, right, 4 / scale);
  const lanes = lanesOf(all, axis.kind);
  const rows = all.filter((row) => lanes.has(columns.process[row]));
  const isDense = rows.length > BARS_MAX, laneCount = Math.max(0, ...lanes.values()) + 1;
  const laneHeight = isDense ? DENSE_LANE : laneCount > ROOMY_MAX ? LOW_LANE : LANE_HEIGHT;
  return { state, width, x, rows, lanes, isDense, laneHeight, hidden: all.length - rows.length, height: HEAD + laneCount * laneHeight };
}

// Rows that touch the view and do not vanish in a cut; a bar is at least `least` units wide.
function rowsInView(axis, left, right, least) {
  const from = baseOf(axis, left), to = baseOf(axis, right), { start, end } = basesOf(axis.kind), rows = [];
  const isCut = (row) => axis.cuts.some((cut) => cut.from < start[row] && end[row] < cut.to);
  for (let row = 0; row < start.length; row++) if (start[row] <= to && end[row] + least >= from && !isCut(row)) rows.push(row);
  return rows;
}

// The lane of each process. Of more processes than there is room for, those that were busy one after the other share a
// lane, as the threads of a client do whose processes end with each unknown outcome.
function lanesOf(rows, kind) {
  const spans = new Map();
  for (const row of rows) {
    const [start, end] = baseOfRow(row, kind), span = spans.get(columns.process[row]);
    if (span) { span[0] = Math.min(span[0], start); span[1] = Math.max(span[1], end); } else spans.set(columns.process[row], [start, end]);
  }
  const byName = [...spans.keys()].sort((a, b) => (a < b ? -1 : 1));
  if (byName.length <= LANES_MAX) return new Map(byName.map((process, lane) => [process, lane]));
  const lanes = new Map(), ends = [];
  for (const [process, [start, end]] of [...spans].sort((a, b) => a[1][0] - b[1][0])) {
    const free = ends.findIndex((last) => last < start), lane = free === -1 ? ends.length : free;
    if (lane >= LANES_MAX) continue;
    ends[lane] = end;
    lanes.set(process, lane);
  }
  return lanes;
}

function drawLanes(state, container) {
  const drawn = scene(state, Math.max(320, container.clientWidth || 1000));
  const svg = element("svg", { viewBox: `0 0 ${drawn.width} ${drawn.height}`, height: drawn.height, role: "group", "aria-label": "Operations in view" });
  svg.append(...cuts(drawn), ...bands(drawn), ...ticks(drawn));
  if (drawn.isDense) svg.append(...busyLanes(drawn));
  const special = new Set([...(state.witness ? state.witness.tags.keys() : []), state.chosen]);
  const rows = drawn.isDense ? drawn.rows.filter((row) => special.has(row)) : drawn.rows;
  // Those that matter come last and so lie on top, where bars are too narrow to lie apart.
  rows.sort((a, b) => special.has(a) - special.has(b));
  svg.append(...rows.map((row) => bar(drawn, row)), ...arrows(drawn), ...laneNames(drawn), arrowHeads());
  container.replaceChildren(svg);
  return { ...drawn, bars: rows.length };
}

function laneTop(drawn, row) { return HEAD + drawn.lanes.get(columns.process[row]) * drawn.laneHeight; }

// The box of an operation in pixels: [left, top, width, height].
function boxOf(drawn, row) {
  const [start, end] = baseOfRow(row, drawn.state.axis.kind).map(drawn.x);
  const height = drawn.laneHeight - (drawn.isDense ? 4 : 8);
  const least = drawn.state.witness?.tags.has(row) ? TAG_WIDTH : 3;
  return [start, laneTop(drawn, row) + (drawn.laneHeight - height) / 2, Math.max(end - start, least), height];
}

function bar(drawn, row) {
  const { state, width } = drawn, [left, top, wide, high] = boxOf(drawn, row);
  const outcome = outcomeOf(row), isWitness = state.witness && state.witness.rows.includes(row);
  const classes = ["bar", outcome, isWitness && "witness", row === state.chosen && "chosen"].filter(Boolean);
  const about = new Set((state.witness ? state.witness.messages : []).map(([key]) => key));
  const words = content(row, about), full = `process ${columns.process[row]}: ${heading(row)}; ${words}`;
  const from = Math.max(left, NAME_WIDTH - 5), to = Math.min(left + wide, width + 5);
  const link = element("a", { class: classes.join(" "), href: `#op=${columns.index[row]}`, "data-op": columns.index[row],
    "aria-label": full, tabindex: isWitness ? 0 : -1 });
  link.append(element("title", {}, cutTo(full, 400)));
  link.append(element("rect", { x: from, y: top, width: Math.max(to - from, 2), height: high }));
  if (outcome === "info") link.append(element("path", { class: "open-end", d: `M${to} ${top + high / 2}h${OPEN_END}` }));
  if (!drawn.isDense) link.append(...barTexts(from, top, to - from, high, state.witness?.tags.get(row), row, words));
  return link;
}

function barTexts(left, top, width, height, tag, row, words) {
  const letters = Math.floor((width - 6) / LETTER), start = Math.max(left, NAME_WIDTH) + 4;
  if (letters < 4) return tag ? [element("text", { x: start, y: top + height / 2 + 4, class: "heading" }, tag)] : [];
  const head = (tag ? `${tag} ` : "") + heading(row);
  if (height < LOW_LANE) return [element("text", { x: start, y: top + height / 2 + 4 }, cutTo(`${head}: ${words}`, letters))];
  return [
    element("text", { x: start, y: top + 16, class: "heading" }, cutTo(head, Math.floor(letters * 0.95))),
    element("text", { x: start, y: top + 31 }, cutTo(words, letters)),
  ];
}

// Where there are too many operations for bars: per lane and outcome, the stretches in which there is any.
function busyLanes(drawn) {
  const buckets = Math.ceil((drawn.width - NAME_WIDTH) / BUCKET), busy = new Map();
  for (const row of drawn.rows) {
    const [start, end] = baseOfRow(row, drawn.state.axis.kind).map(drawn.x);
    const key = `${outcomeOf(row)} ${drawn.lanes.get(columns.process[row])}`;
    if (!busy.has(key)) busy.set(key, new Uint8Array(buckets));
    const bucket = (x) => Math.max(0, Math.min(buckets, Math.floor((x - NAME_WIDTH) / BUCKET)));
    busy.get(key).fill(1, bucket(start), bucket(end) + 1);
  }
  // Failures and unknown outcomes are rare, and lie over the rest.
  const order = ["ok", "info", "fail"], rank = ([key]) => order.indexOf(key.split(" ")[0]);
  return [...busy].sort((a, b) => rank(a) - rank(b)).map(([key, flags]) => busyLane(key, flags));
}

function busyLane(key, flags) {
  const [outcome, lane] = key.split(" "), top = HEAD + lane * DENSE_LANE + 2;
  let path = "";
  for (let from = flags.indexOf(1); from !== -1; ) {
    const end = flags.indexOf(0, from), to = end === -1 ? flags.length : end;
    path += `M${NAME_WIDTH + from * BUCKET} ${top}h${(to - from) * BUCKET}v${DENSE_LANE - 4}h${(from - to) * BUCKET}z`;
    from = flags.indexOf(1, to);
  }
  return element("path", { class: outcome, d: path });
}

function laneNames(drawn) {
  const back = element("rect", { class: "lane-back", x: 0, y: HEAD, width: NAME_WIDTH - 6, height: drawn.height - HEAD });
  const named = new Map();
  for (const [process, lane] of drawn.lanes) named.set(lane, [...(named.get(lane) ?? []), process]);
  const names = [...named].flatMap(([lane, processes]) => {
    const top = HEAD + lane * drawn.laneHeight, isOne = processes.length === 1;
    const words = isOne ? `process ${processes[0]}` : processes.slice(0, 20).join(", ");
    return [
      element("line", { class: "lane-rule", x1: 0, x2: drawn.width, y1: top, y2: top }),
      element("text", { class: "lane-name", x: 4, y: top + drawn.laneHeight / 2 + 4 }, cutTo(words, 13),
        element("title", {}, `process${isOne ? "" : "es"} ${processes.slice(0, 100).join(", ")}`)),
    ];
  });
  return [back, ...names];
}

// Faults, as bands across all lanes; those too close to tell apart are one band.
function bands(drawn) {
  const { axis, view: [left, right] } = drawn.state, drawnBands = [];
  const texts = [];
  let textEnd = 0, last = -Infinity;
  for (const [time, words, isNote] of FACTS.faults) {
    const unit = unitOf(axis, baseOfTime(time, axis.kind));
    if (unit < left || unit > right || drawnBands.length > 2 * BANDS_MAX) continue;
    const x = NAME_WIDTH + ((unit - left) / (right - left)) * (drawn.width - NAME_WIDTH);
    if (x - last > 7) {
      drawnBands.push(element("rect", { class: "band", x: x - 3, y: HEAD - 3, width: 6, height: drawn.height - HEAD + 3 },
        element("title", {}, `${timeText(time)}: ${words}`)));
      last = x;
    }
    if (isNote || x < textEnd) continue;
    const letters = Math.min(34, Math.floor((drawn.width - x) / LETTER));
    texts.push(element("text", { class: "band-text", x: x - 3, y: HEAD - 7 }, cutTo(words, letters)));
    textEnd = x + 10 + Math.min(letters, words.length) * LETTER;
  }
  return [...drawnBands, ...texts];
}

function cuts(drawn) {
  return drawn.state.axis.cuts.flatMap((cut, i) => {
    const from = drawn.x(cut.from), to = drawn.x(cut.to);
    if (to < NAME_WIDTH || from > drawn.width) return [];
    const words = `${count(leftOut(cut, drawn.state.axis.kind), "operation")} left out here; click to open the cut`;
    const middle = { x: (from + to) / 2, "text-anchor": "middle", class: "tick" };
    return [
      element("rect", { class: "cut", x: from, y: HEAD, width: to - from, height: drawn.height - HEAD, "data-cut": i },
        element("title", {}, words)),
      element("text", { ...middle, y: 25 }, `${count(leftOut(cut, drawn.state.axis.kind))} more`),
    ];
  });
}

function leftOut(cut, kind) {
  const { start, end } = basesOf(kind);
  return start.reduce((number, from, row) => number + (cut.from < from && end[row] < cut.to), 0);
}

function ticks(drawn) {
  const { axis, view: [left, right] } = drawn.state;
  return Array.from({ length: TICKS }, (_, i) => {
    const time = Math.max(timeAt[0], timeOfBase(baseOf(axis, left + ((right - left) * i) / TICKS), axis.kind));
    const x = NAME_WIDTH + ((drawn.width - NAME_WIDTH) * i) / TICKS;
    return element("text", { class: "tick", x: x + 2, y: 11 }, `| ${timeText(Math.round(time))}`);
  });
}

function arrows(drawn) {
  if (!drawn.state.witness) return [];
  const drawnRows = new Set(drawn.rows);
  return drawn.state.witness.relations.filter(({ source, target }) => drawnRows.has(source) && drawnRows.has(target)).slice(0, 30)
    .map(({ source, target, kind }) => element("path", { class: `arrow ${kind}`, "marker-end": "url(#head)", d: arrowPath(drawn, source, target) }));
}

// From the end of the one to the start of the other: downwards or upwards between lanes, sideways within one.
function arrowPath(drawn, source, target) {
  const [sx, sy, sw, sh] = boxOf(drawn, source), [tx, ty, tw, th] = boxOf(drawn, target);
  if (sy === ty) return sx < tx ? `M${sx + sw} ${sy + sh / 2}L${tx} ${ty + th / 2}` : `M${sx} ${sy + sh / 2}L${tx + tw} ${ty + th / 2}`;
  const start = sx + sw - Math.min(14, sw / 3), end = tx + Math.min(14, tw / 3);
  return sy < ty ? `M${start} ${sy + sh}L${end} ${ty}` : `M${start} ${sy}L${end} ${ty + th}`;
}

function arrowHeads() {
  const head = element("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 5, markerHeight: 5, orient: "auto" });
  head.append(element("path", { d: "M0 0L8 4L0 8z", fill: "context-stroke" }));
  return element("defs", {}, head);
}
