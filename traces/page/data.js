"use strict";
// The recording: the columns that the page carries, as typed arrays, and how to ask them.
// A row is a position in the columns of operations; a message is a position in those of messages.

const FACTS = JSON.parse(document.getElementById("facts").textContent);
const ARRAYS = { i1: Int8Array, i2: Int16Array, i4: Int32Array, f8: Float64Array, i8: BigInt64Array };
const NONE = -1;
const columns = {};
const rowByIndex = new Map();
let timeAt = null; // the time of each record of a client, by its place

async function loadColumns() {
  const bytes = await unpacked(document.getElementById("packed").textContent);
  for (const [name, kind, place, length] of FACTS.columns) columns[name] = new ARRAYS[kind](bytes, place, length);
  for (let row = 0; row < rowCount(); row++) rowByIndex.set(Number(columns.index[row]), row);
  timeAt = recordTimes();
}

async function unpacked(text) {
  const letters = atob(text);
  const packed = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function recordTimes() {
  const { invoked, invokedAt, completed, completedAt } = columns;
  let last = 0;
  for (let row = 0; row < rowCount(); row++) last = Math.max(last, invoked[row], completed[row]);
  const times = new Float64Array(last + 1);
  for (let row = 0; row < rowCount(); row++) {
    times[invoked[row]] = Number(invokedAt[row]);
    if (completed[row] !== NONE) times[completed[row]] = Number(completedAt[row]);
  }
  return times;
}

function rowCount() { return columns.index.length; }

// Messages of a row: from the first to before the second.
function messagesOf(row) { return [columns.message[row], columns.message[row + 1]]; }

// The row that a message belongs to: the last whose messages begin at or before it.
function rowOfMessage(message) { return firstAfter(columns.message, message) - 1; }

function functionOf(row) { return FACTS.functions[columns.func[row]]; }
function outcomeOf(row) { return FACTS.outcomes[columns.outcome[row]]; }
function isOpen(row) { return columns.completed[row] === NONE; }
function valueText(number) { return FACTS.values ? FACTS.values[number] : String(number); }
function keyText(key) { return FACTS.numeric[key] ? "k" + FACTS.keys[key] : FACTS.keys[key]; }
// Offsets too large for a number come as a BigInt, which is never equal to one by ===.
function hasOffset(message) { return columns.offset[message] >= 0; }

// The first position in a sorted array whose element is greater.
function firstAfter(sorted, element) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= element) low = middle + 1; else high = middle;
  }
  return low;
}

// The messages (positions) with this key and value number.
function occurrences(key, value) {
  const found = [], { key: keys, value: values } = columns;
  for (let message = 0; message < keys.length; message++)
    if (keys[message] === key && values[message] == value) found.push(message);
  return found;
}
