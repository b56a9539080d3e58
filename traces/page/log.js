// The log of one partition: what was seen at each offset, by whom it was sent, and what became of it. Seen are the
// offsets that senders were told (unless their operation failed) and those that any reader was handed.

const LOG_ROWS = 24;
const RAW = 2, CLOSING = 1; // of `closing`: the complete reads, read_uncommitted and read_committed
const logs = new Map();

// The places of a partition, by offset: {offset, value, writer, readers, marks}.
function logOf(key) {
  if (!logs.has(key)) {
    const values = valuesOf(key), places = placesOf(key);
    const offsetsOf = new Map(), valuesAt = new Map();
    for (const { offset, value } of places) {
      offsetsOf.set(value, (offsetsOf.get(value) ?? 0) + 1);
      valuesAt.set(offset, (valuesAt.get(offset) ?? 0) + 1);
    }
    for (const place of places) {
      Object.assign(place, values.get(place.value));
      place.marks = wrongWith(place, valuesAt.get(place.offset) > 1, offsetsOf.get(place.value) > 1);
    }
    logs.set(key, places);
  }
  return logs.get(key);
}

function placesOf(key) {
  const seen = new Map();
  for (let message = 0; message < columns.key.length; message++) {
    if (columns.key[message] !== key || !hasOffset(message)) continue;
    const isSend = columns.isSend[message] === 1;
    if (isSend && outcomeOf(rowOfMessage(message)) === "fail") continue;
    const offset = columns.offset[message], value = columns.value[message];
    seen.set(`${offset} ${value}`, { offset, value });
  }
  return [...seen.values()].sort((a, b) => (a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : a.value < b.value ? -1 : 1));
}

// Of each value of a partition who sent it last, and how often it was read: by clients, and by closing reads.
function valuesOf(key) {
  const values = new Map();
  for (let message = 0; message < columns.key.length; message++) {
    if (columns.key[message] !== key) continue;
    const value = columns.value[message], row = rowOfMessage(message);
    if (!values.has(value)) values.set(value, { writer: null, readers: 0, closing: 0 });
    const known = values.get(value);
    if (columns.isSend[message]) known.writer = row;
    else if (columns.closing[row] !== RAW) {
      known.readers++;
      if (columns.closing[row] === CLOSING && outcomeOf(row) === "ok") known.closing++;
    }
  }
  return values;
}

let closingRead = null;

function hasClosingRead() {
  closingRead ??= columns.closing.some((closing, row) => closing === CLOSING && outcomeOf(row) === "ok");
  return closingRead;
}

function wrongWith({ writer, readers, closing }, isContested, isRepeated) {
  const outcome = writer === null ? null : outcomeOf(writer);
  return [
    isContested && "contested",
    isRepeated && "at several offsets",
    writer === null && "nobody sent it",
    outcome === "fail" && readers > 0 && "read, though its send failed",
    outcome === "ok" && hasClosingRead() && !closing && "not in the closing read",
    outcome === "ok" && !hasClosingRead() && !readers && "never read",
  ].filter(Boolean);
}

// Show the log of a partition from a place on, or around an offset.
function showLog(state, container) {
  const places = logOf(state.key), concerned = concernedBy(state);
  const first = Math.max(0, Math.min(state.logFirst, places.length - LOG_ROWS));
  const table = document.createElement("table");
  table.innerHTML = "<thead><tr><th scope=col>offset<th scope=col>value<th scope=col>sent by<th scope=col>what became of it</tr></thead>";
  const body = table.createTBody();
  for (const place of places.slice(first, first + LOG_ROWS)) body.append(logRow(place, concerned.has(`${place.value}`)));
  const step = (by) => { state.logFirst = first + by; showLog(state, container); };
  const note = document.createElement("p");
  note.className = "note";
  note.textContent = places.length ? `Places ${count(first + 1)} to ${count(Math.min(first + LOG_ROWS, places.length))} of ${count(places.length)}. ` : "Nothing was seen at any offset. ";
  note.append(stepButton("earlier", first > 0, () => step(-LOG_ROWS)), " ", stepButton("later", first + LOG_ROWS < places.length, () => step(LOG_ROWS)));
  container.replaceChildren(note, table);
}

function stepButton(words, isEnabled, action) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: words, disabled: !isEnabled, onclick: action });
  return button;
}

// The values to point out: those that the witness is about, else those of the chosen operation.
function concernedBy(state) {
  if (state.witness) return new Set(state.witness.messages.filter(([key]) => key === state.key).map(([, value]) => `${value}`));
  const [first, last] = state.chosen === null ? [0, 0] : messagesOf(state.chosen), values = new Set();
  for (let message = first; message < last; message++)
    if (columns.key[message] === state.key) values.add(`${columns.value[message]}`);
  return values;
}

function logRow({ offset, value, writer, marks }, isConcerned) {
  const row = document.createElement("tr");
  row.className = [marks.length && "wrong", isConcerned && "concerned"].filter(Boolean).join(" ");
  row.insertCell().textContent = offset;
  row.insertCell().textContent = cutTo(valueText(value), 40);
  const sender = row.insertCell();
  if (writer === null) sender.textContent = "nobody"; else sender.append(operationLink(writer));
  row.insertCell().textContent = marks.join(", ") || { ok: "acknowledged", fail: "failed", info: "outcome unknown" }[outcomeOf(writer)];
  return row;
}

// The first place of the log to show so that an offset, or what the witness is about, is in the middle.
function logFirstFor(state, offset) {
  const places = logOf(state.key), concerned = concernedBy(state);
  const at = places.findIndex((place) => (offset === undefined ? concerned.has(`${place.value}`) : place.offset >= offset));
  return Math.max(0, (at === -1 ? places.length : at) - LOG_ROWS / 2);
}
