// The strip of the whole recording: how many operations, where the faults, where the anomalies, and what is in view.

const BINS = 300, STRIP = 58;

function drawOverview(state, svg) {
  const kind = state.axis.kind, [first, last] = baseEnds(kind), width = Math.max(320, svg.clientWidth || 1000);
  const x = (base) => ((base - first) / Math.max(last - first, 1)) * width;
  svg.setAttribute("viewBox", `0 0 ${width} ${STRIP}`);
  const [from, to] = state.view.map((unit) => x(baseOf(state.axis, unit)));
  const left = Math.max(1, from), right = Math.min(width - 1, Math.max(to, from + 4));
  svg.replaceChildren(
    ...recordingOn(kind, width, x),
    element("rect", { class: "window", x: left, y: 1, width: Math.max(3, right - left), height: STRIP - 2 }),
  );
}

const strip = { key: "", parts: [] };

// What does not change while the reader moves about.
function recordingOn(kind, width, x) {
  if (strip.key !== `${kind} ${width}`) {
    const faults = FACTS.faults.filter(([, , isNote]) => !isNote).map(([time]) => x(baseOfTime(time, kind)));
    strip.key = `${kind} ${width}`;
    strip.parts = [
      element("path", { class: "busy", d: histogram(kind, x) }),
      element("path", { class: "fault", d: marks(faults, 0, 8) }),
      element("path", { class: "wrong", d: marks(wrongRows().map((row) => x(baseOfRow(row, kind)[1])), STRIP - 10, 10) }),
    ];
  }
  return strip.parts;
}

function histogram(kind, x) {
  const counts = new Uint32Array(BINS), [first, last] = baseEnds(kind);
  for (let row = 0; row < rowCount(); row++) {
    const [, end] = baseOfRow(row, kind);
    counts[Math.min(BINS - 1, Math.floor(((end - first) / Math.max(last - first, 1)) * BINS))]++;
  }
  const most = Math.max(...counts), wide = (x(last) - x(first)) / BINS;
  return Array.from(counts, (number, i) => {
    const high = number && Math.max(1, (number / most) * (STRIP - 22));
    return high ? `M${i * wide} ${STRIP - 11}h${wide}v${-high}h${-wide}z` : "";
  }).join("");
}

// Marks two pixels wide, no two at one place.
function marks(places, top, height) {
  return [...new Set(places.map((place) => 2 * Math.floor(place / 2)))].map((place) => `M${place} ${top}h2v${height}h-2z`).join("");
}

let wrong = null;

function wrongRows() {
  if (!wrong) {
    const indices = FACTS.anomalies.filter((kind) => kind.counts).flatMap((kind) => kind.instances.flatMap((anomaly) => anomaly.operations));
    wrong = [...new Set(indices)].map((index) => rowByIndex.get(index)).filter((row) => row !== undefined);
  }
  return wrong;
}
