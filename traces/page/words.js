// Operations and times in words.

const OUTCOME_WORDS = { ok: "ok", fail: "failed", info: "unknown" };
const LISTED_MAX = 3;

function heading(row) {
  const closing = ["", "closing ", "closing raw "][columns.closing[row]];
  return `#${columns.index[row]} ${closing}${functionOf(row)}, ${OUTCOME_WORDS[outcomeOf(row)]}`;
}

// What an operation sent and read, messages of one partition in a row taken together; `about` partitions come first.
function content(row, about = new Set()) {
  const groups = grouped(row);
  groups.sort((a, b) => about.has(b.key) - about.has(a.key));
  return groups.map(groupText).join("; ") || emptyText(row);
}

function emptyText(row) {
  if (!["poll", "txn"].includes(functionOf(row))) return assignedTo(row).join(", ");
  return outcomeOf(row) === "ok" ? "nothing" : "nothing known";
}

function grouped(row) {
  const groups = [], [first, last] = messagesOf(row);
  for (let message = first; message < last; message++) {
    const isSend = columns.isSend[message] === 1, key = columns.key[message], group = groups.at(-1);
    if (group && group.isSend === isSend && group.key === key) group.messages.push(message);
    else groups.push({ isSend, key, messages: [message] });
  }
  return groups;
}

function groupText({ isSend, key, messages }) {
  const values = messages.map((message) => valueText(columns.value[message]));
  const offsets = messages.filter(hasOffset).map((message) => columns.offset[message]);
  const many = `${count(values.length)} values, ${values[0]} to ${values.at(-1)}`;
  const where = offsets.length ? ` @ ${span(offsets)}` : "";
  return `${isSend ? "send" : "poll"} ${keyText(key)}: ${values.length > LISTED_MAX ? many : values.join(", ")}${where}`;
}

function span(offsets) {
  const low = offsets.reduce((a, b) => (b < a ? b : a)), high = offsets.reduce((a, b) => (b > a ? b : a));
  return low === high ? `${low}` : `${low}-${high}`;
}

function assignedTo(row) {
  const keys = [];
  columns.assignedOperation.forEach((operation, i) => { if (operation === row) keys.push(keyText(columns.assignedKey[i])); });
  return keys;
}

function groupOffsets(row) {
  const { groupOperation, group, groupKey, groupOffset } = columns, texts = [];
  groupOperation.forEach((operation, i) => {
    if (operation === row) texts.push(`group ${FACTS.groups[group[i]]} up to ${keyText(groupKey[i])} @ ${groupOffset[i]}`);
  });
  return texts;
}

function count(number, noun) {
  const digits = number.toLocaleString("en");
  return noun === undefined ? digits : `${digits} ${noun}${number === 1 ? "" : "s"}`;
}

// Nanoseconds since the start; recordings made up by hand have but a few of them.
function timeText(nanoseconds) {
  return timeAt[timeAt.length - 1] < 100000 ? `${nanoseconds} ns` : `${(nanoseconds / 1e9).toFixed(3)} s`;
}

// A text whose words are none too long to be broken into lines.
function shortWords(text) { return text.replace(/\S{61,}/g, (word) => cutTo(word, 60)); }

function cutTo(text, letters) { return text.length <= letters ? text : text.slice(0, Math.max(0, letters - 1)) + "…"; }
