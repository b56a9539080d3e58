// The horizontal axis. Underneath lies a base, the order of the records or their times; stretches of it that a cut
// leaves out take a fixed width, so that operations far apart can be seen side by side. Units are the base with its
// cuts closed: zooming and moving know units alone.

const CUT_SHARE = 0.05; // of what is in view around a witness, for each cut

const bases = new Map();

// Where each row starts and ends on a base; one that never completed has no extent.
function basesOf(kind) {
  if (!bases.has(kind)) {
    const [from, to] = kind === "time" ? [columns.invokedAt, columns.completedAt] : [columns.invoked, columns.completed];
    const start = Float64Array.from(from, Number);
    bases.set(kind, { start, end: Float64Array.from(to, (end, row) => (isOpen(row) ? start[row] : Number(end))) });
  }
  return bases.get(kind);
}

function baseOfRow(row, kind) {
  const { start, end } = basesOf(kind);
  return [start[row], end[row]];
}

function baseOfTime(time, kind) { return kind === "time" ? time : firstAfter(timeAt, time) - 0.5; }

function timeOfBase(base, kind) {
  if (kind === "time") return base;
  return timeAt[Math.max(0, Math.min(timeAt.length - 1, Math.round(base)))];
}

function baseEnds(kind) { return kind === "time" ? [timeAt[0], timeAt[timeAt.length - 1]] : [0, timeAt.length - 1]; }

// An axis with cuts {from, to} in base, each `width` units wide, in order and apart from each other.
function makeAxis(kind, cuts = [], width = 1) {
  let saved = 0;
  const placed = cuts.map((cut) => {
    const at = { ...cut, unitFrom: cut.from - saved, unitTo: cut.from - saved + width };
    saved += cut.to - cut.from - width;
    return at;
  });
  return { kind, cuts: placed, width };
}

function unitOf(axis, base) {
  let shift = 0;
  for (const cut of axis.cuts) {
    if (base < cut.from) break;
    if (base < cut.to) return cut.unitFrom + ((base - cut.from) / (cut.to - cut.from)) * axis.width;
    shift = cut.unitTo - cut.to;
  }
  return base + shift;
}

function baseOf(axis, unit) {
  let shift = 0;
  for (const cut of axis.cuts) {
    if (unit < cut.unitFrom) break;
    if (unit < cut.unitTo) return cut.from + ((unit - cut.unitFrom) / axis.width) * (cut.to - cut.from);
    shift = cut.to - cut.unitTo;
  }
  return unit + shift;
}

// An axis that brings the rows close together, and the view [left, right] in units that shows them.
function axisAround(rows, kind) {
  const pad = padding(rows, kind);
  const intervals = merged(rows.flatMap((row) => intervalsOf(row, kind, pad)), pad);
  const kept = intervals.reduce((sum, [from, to]) => sum + to - from, 0);
  const cuts = intervals.slice(1).map(([from], i) => ({ from: intervals[i][1], to: from }));
  const axis = makeAxis(kind, cuts, kept * CUT_SHARE);
  return [axis, [unitOf(axis, intervals[0][0]), unitOf(axis, intervals.at(-1)[1])]];
}

// So much around each operation that bars come out wide enough for their texts: what counts is how many lanes are busy.
function padding(rows, kind) {
  const [first, last] = baseEnds(kind), middle = baseOfRow(rows[0], "order")[0];
  const busy = new Set();
  for (let row = 0; row < rowCount(); row++)
    if (Math.abs(columns.invoked[row] - middle) < 60) busy.add(columns.process[row]);
  const records = Math.max(6, Math.min(120, (5 * busy.size) / rows.length));
  return kind === "order" ? records : Math.max((records * (last - first)) / timeAt.length, 1);
}

// The surroundings of an operation; of a long one those of its two ends.
function intervalsOf(row, kind, pad) {
  const [start, end] = baseOfRow(row, kind);
  return end - start > 8 * pad ? [[start - pad, start + pad], [end - pad, end + pad]] : [[start - pad, end + pad]];
}

// Overlapping intervals, and those with little between them, as one.
function merged(intervals, gap) {
  const result = [];
  for (const [from, to] of intervals.sort((a, b) => a[0] - b[0])) {
    const last = result.at(-1);
    if (last && from - last[1] <= gap) last[1] = Math.max(last[1], to); else result.push([from, to]);
  }
  return result;
}
