// What an anomaly consists of: its operations, its messages, and how the operations are related.

const EVIDENCE_MAX = 4;

function anomalyAt(name) {
  const [type, number] = [name.slice(0, name.lastIndexOf("/")), Number(name.slice(name.lastIndexOf("/") + 1))];
  const kind = FACTS.anomalies.find((anomaly) => anomaly.name === type);
  return kind && kind.instances[number];
}

function witnessOf(name) {
  const anomaly = anomalyAt(name);
  if (!anomaly) return null;
  const found = anomaly.operations.map((index) => rowByIndex.get(index)).filter((row) => row !== undefined);
  const told = evidence(anomaly.messages);
  const rows = found.length ? found : told.slice(0, 2);
  const relations = anomaly.steps.length ? anomaly.steps.map(asRelation)
    : [...anomaly.sequence.map(asRelation), ...handedOver(anomaly.messages, new Set(rows), new Set([...rows, ...told]))];
  return { name, sentence: anomaly.sentence, rows, messages: anomaly.messages, relations, tags: tagged(rows, relations) };
}

function asRelation([source, target, kind, words]) {
  return { source: rowByIndex.get(source), target: rowByIndex.get(target), kind, words };
}

// Who sent and who first read each message, and what was seen at its offset instead.
function evidence(messages) {
  const rows = new Set();
  for (const [key, value] of messages.slice(0, EVIDENCE_MAX)) {
    const there = occurrences(key, value);
    for (const isSend of [1, 0]) {
      const first = there.find((message) => columns.isSend[message] === isSend);
      if (first !== undefined) rows.add(rowOfMessage(first));
    }
  }
  return [...rows];
}

// From whoever sent one of the messages to whoever read it, where one of the two is of the anomaly.
function handedOver(messages, rows, drawn) {
  const relations = [];
  for (const [key, value] of messages) {
    const there = occurrences(key, value).filter((message) => drawn.has(rowOfMessage(message)));
    const words = `sent ${valueText(value)} to ${keyText(key)}, which {target} read`;
    for (const sent of there.filter((message) => columns.isSend[message] === 1))
      for (const read of there.filter((message) => columns.isSend[message] === 0)) {
        const [source, target] = [rowOfMessage(sent), rowOfMessage(read)];
        if (source !== target && (rows.has(source) || rows.has(target))) relations.push({ source, target, kind: "wr", words });
      }
  }
  return relations;
}

// Letters for the operations that the words name.
function tagged(rows, relations) {
  const tags = new Map();
  for (const row of [...rows, ...relations.flatMap(({ source, target }) => [source, target])])
    if (!tags.has(row) && tags.size < 26) tags.set(row, String.fromCharCode(65 + tags.size));
  return tags;
}

// Relations in words; those that differ in the target alone share a line.
function relationTexts({ relations, tags }) {
  const lines = new Map();
  for (const { source, target, words } of relations) {
    if (!tags.has(source) || !tags.has(target)) continue;
    const line = `${tags.get(source)} ${words}`;
    lines.set(line, [...(lines.get(line) ?? []), tags.get(target)]);
  }
  return [...lines].map(([line, targets]) => line.replace("{target}", new Intl.ListFormat("en").format(targets)));
}
