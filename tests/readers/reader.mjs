// Reads messages as JavaScript does, and says what it found under each key.
import { createInterface } from "node:readline";

const KEYS = [
  "name", "uri", "taskId", "requestState", "requestId", "cursor", "progressToken", "resultType",
  "ref.name", "ref.uri", "task.taskId", "_meta.progressToken", "_meta.io.modelcontextprotocol/subscriptionId",
];

const at = (object, key) => (object !== null && typeof object === "object" && Object.hasOwn(object, key) ? object[key] : undefined);

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  const found = { id: at(message, "id"), method: at(message, "method") };
  for (const place of ["params", "result"]) {
    for (const key of KEYS) {
      const [first, ...rest] = key.split(/\.(.*)/s).filter(Boolean);
      const outer = at(at(message, place), first);
      found[`${place}.${key}`] = rest.length ? at(outer, rest[0]) : outer;
    }
  }
  console.log(JSON.stringify(found));
}
