// Everything beside the timeline: the list of anomalies, the record of an operation, the search, the faults.

const LISTED_AT_ONCE = 40, FOUND_MAX = 60, RECORD_MAX = 200, FAULTS_MAX = 100;

function link(hash, words) {
  const made = document.createElement("a");
  made.href = `#${hash}`;
  made.textContent = words;
  return made;
}

function operationLink(row) {
  return link(`op=${columns.index[row]}`, `process ${columns.process[row]} (#${columns.index[row]})`);
}

function item(...children) {
  const made = document.createElement("li");
  made.append(...children);
  return made;
}

function paragraph(text) {
  const made = document.createElement("p");
  made.textContent = text;
  return made;
}

function listAnomalies(container) {
  const title = document.createElement("h2");
  title.textContent = "Anomalies";
  container.append(title);
  if (!FACTS.anomalies.length) container.append(paragraph(FACTS.nothing));
  FACTS.anomalies.forEach((kind, i) => container.append(anomalyKind(kind, i === 0)));
}

function anomalyKind(kind, isOpen) {
  const details = document.createElement("details"), summary = document.createElement("summary"), list = document.createElement("ol");
  details.open = isOpen;
  summary.textContent = `${kind.name}: ${count(kind.count)}${kind.counts ? "" : " (allowed)"}`;
  details.append(summary, paragraph(kind.meaning), list);
  const more = stepButton("show more", true, () => listMore(kind, list, more));
  listMore(kind, list, more);
  details.append(more);
  if (kind.count > kind.instances.length) details.append(paragraph(`The page has the first ${count(kind.instances.length)}.`));
  return details;
}

function listMore(kind, list, more) {
  const from = list.children.length;
  for (let i = from; i < Math.min(from + LISTED_AT_ONCE, kind.instances.length); i++)
    list.append(item(link(`anomaly=${encodeURIComponent(kind.name)}/${i}`, cutTo(shortWords(kind.instances[i].sentence), 140))));
  more.hidden = list.children.length >= kind.instances.length;
}

function markCurrent(container, witness) {
  for (const old of container.querySelectorAll("[aria-current]")) old.removeAttribute("aria-current");
  if (!witness) return;
  const current = container.querySelector(`a[href="#anomaly=${CSS.escape(witness.name)}"]`) ??
    [...container.querySelectorAll("a")].find((a) => decodeURIComponent(a.hash) === `#anomaly=${witness.name}`);
  if (!current) return;
  current.setAttribute("aria-current", "true");
  current.closest("details").open = true;
  container.scrollTop = current.offsetTop - container.clientHeight / 3;
}

// The full record of an operation.
function showRecord(row, container) {
  const list = document.createElement("dl");
  for (const [name, value] of recordFields(row)) {
    const term = document.createElement("dt"), description = document.createElement("dd");
    term.textContent = name;
    description.textContent = value;
    list.append(term, description);
  }
  const scroll = document.createElement("div");
  scroll.className = "scroll";
  scroll.append(messageTable(row));
  const [first, last] = messagesOf(row);
  container.replaceChildren(list, ...(last > first ? [scroll] : []));
}

function recordFields(row) {
  const open = isOpen(row), fields = [
    ["operation", `${functionOf(row)} of process ${columns.process[row]}`],
    ["outcome", { ok: "acknowledged", fail: "failed", info: "unknown" }[outcomeOf(row)] + (open ? " (never completed)" : "")],
    ["index", `${columns.index[row]} (line ${columns.line[row]} of the file)`],
    ["invoked", timeText(Number(columns.invokedAt[row]))],
    ["completed", open ? "never" : timeText(Number(columns.completedAt[row]))],
  ];
  if (columns.error[row] !== NONE) fields.push(["error", FACTS.errors[columns.error[row]]]);
  if (columns.closing[row]) fields.push(["closing read", columns.closing[row] === RAW ? "read_uncommitted" : "read_committed"]);
  if (columns.aborts[row]) fields.push(["meant", "to abort"]);
  const assigned = assignedTo(row), offsets = groupOffsets(row);
  if (assigned.length) fields.push(["partitions", assigned.join(", ")]);
  if (offsets.length) fields.push(["committed offsets", offsets.join("; ")]);
  return fields;
}

function messageTable(row) {
  const table = document.createElement("table"), [first, last] = messagesOf(row);
  table.innerHTML = "<thead><tr><th scope=col>what<th scope=col>partition<th scope=col>value<th scope=col>offset</tr></thead>";
  const body = table.createTBody();
  for (let message = first; message < Math.min(last, first + RECORD_MAX); message++) {
    const line = body.insertRow(), key = columns.key[message];
    line.insertCell().textContent = columns.isSend[message] ? "sent" : "read";
    line.insertCell().textContent = keyText(key);
    line.insertCell().textContent = valueText(columns.value[message]); // in full, wherever it is cut elsewhere
    const offset = line.insertCell();
    if (hasOffset(message)) offset.append(link(`key=${key}&offset=${columns.offset[message]}`, `${columns.offset[message]}`));
    else offset.textContent = "unknown";
  }
  if (last - first > RECORD_MAX) body.insertRow().insertCell().textContent = `and ${count(last - first - RECORD_MAX)} more`;
  return table;
}

// Whatever has this text as its value, and the operation of this index.
function search(text, container) {
  const found = [], row = /^#?\d+$/.test(text) ? rowByIndex.get(Number(text.replace("#", ""))) : undefined;
  if (row !== undefined) found.push(item("operation ", operationLink(row), `: ${cutTo(content(row), 80)}`));
  let more = 0;
  for (const message of messagesWith(text)) {
    if (found.length >= FOUND_MAX) { more++; continue; }
    const row = rowOfMessage(message), key = columns.key[message];
    const where = hasOffset(message) ? [" at ", link(`key=${key}&offset=${columns.offset[message]}`, `offset ${columns.offset[message]}`)] : [];
    found.push(item(`value ${cutTo(text, 40)} of ${keyText(key)}${where.length ? "" : ","}`, ...where,
      columns.isSend[message] ? " sent by " : " read by ", operationLink(row)));
  }
  if (more) found.push(item(`and ${count(more)} more`));
  container.replaceChildren(...(found.length ? found : [item(`No value and no operation is ${cutTo(text, 60)}.`)]));
  container.hidden = text === "";
}

function* messagesWith(text) {
  const number = FACTS.values ? FACTS.values.indexOf(text) : /^-?\d+$/.test(text) ? text : NONE;
  if (number === NONE && FACTS.values) return;
  for (let message = 0; message < columns.value.length; message++)
    if (columns.value[message] == number && valueText(columns.value[message]) === text) yield message;
}

function listFaults(state, container) {
  const { axis, view: [left, right] } = state;
  const inView = FACTS.faults.filter(([time]) => { const unit = unitOf(axis, baseOfTime(time, axis.kind)); return left <= unit && unit <= right; });
  const items = inView.slice(0, FAULTS_MAX).map(([time, words]) => item(`${timeText(time)}: ${words}`));
  if (inView.length > FAULTS_MAX) items.push(item(`and ${count(inView.length - FAULTS_MAX)} more`));
  container.replaceChildren(...(items.length ? items : [item("none")]));
}
