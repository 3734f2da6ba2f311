// The metrics of a run, three times: JSON lines (the record), CSV and a TensorBoard event file (made from it). A line is
//   {"step": 20, "time": 1700000000.5, "loss": 3.25, ...}
// with the time in seconds since 1970; a value that is not finite is null. A line is appended when it is logged; the CSV and the
// events are written anew when a run is resumed or a new metric appears, so they never disagree with the record.
import { appendFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { linesOf } from '../data/formats/lines.js';
import { UserError } from '../tensor/errors.js';
import { explaining, writeAll, writeAtomic } from './atomic.js';
import { fileVersionRecord, scalarsRecord } from './tensorboard.js';

export type Metrics = Readonly<Record<string, number>>;

type Line = Readonly<Record<string, number | null>> & { readonly step: number; readonly time: number };

/** Of a run's lines, which may be a million, those of the last step are kept. */
export class MetricsLog {
  readonly #jsonl: string;
  readonly #csv: string;
  readonly #events: string;
  #last: Line[] = [];
  readonly #columns = new Set(['step', 'time']);

  /** Lines after `step`, and one cut short when a run was killed, are dropped. */
  constructor(directory: string, step: number) {
    this.#jsonl = join(directory, 'metrics.jsonl');
    this.#csv = join(directory, 'metrics.csv');
    this.#events = join(directory, 'events.out.tfevents.0.turl');
    writeParts(this.#jsonl, this.#kept(step));
    this.#rewrite();
  }

  *#kept(step: number): Generator<string> {
    if (!existsSync(this.#jsonl)) return;
    for (const line of read(this.#jsonl)) {
      if (line.step > step) continue;
      this.#note(line);
      yield `${JSON.stringify(line)}\n`;
    }
  }

  #note(line: Line): void {
    if (this.#last[0]?.step !== line.step) this.#last = [];
    this.#last.push(line);
    for (const key of Object.keys(line)) this.#columns.add(key);
  }

  /** Whether a line of `step`, the last that there is, has all these metrics. */
  has(step: number, metrics: readonly string[]): boolean {
    return this.#last.some((line) => line.step === step && metrics.every((key) => key in line));
  }

  /**
   * Appends one step's metrics, unless they are there: a resumed run evaluates its first or last step again.
   * @param now in milliseconds since 1970
   */
  log(step: number, metrics: Metrics, now = Date.now()): void {
    if (this.has(step, Object.keys(metrics))) return;
    const finite = Object.entries(metrics).map(([key, value]) => [
      key,
      Number.isFinite(value) ? value : null,
    ]);
    const line: Line = {
      ...(Object.fromEntries(finite) as Record<string, number | null>),
      step,
      time: now / 1000,
    };
    const known = this.#columns.size;
    this.#note(line);
    append(this.#jsonl, `${JSON.stringify(line)}\n`);
    if (this.#columns.size > known) this.#rewrite();
    else {
      append(this.#csv, this.#csvLine(line));
      append(this.#events, events(line));
    }
  }

  #rewrite(): void {
    writeParts(this.#csv, this.#csvLines());
    writeParts(this.#events, this.#eventRecords());
  }

  *#csvLines(): Generator<string> {
    yield `${[...this.#columns].join(',')}\n`;
    for (const line of read(this.#jsonl)) yield this.#csvLine(line);
  }

  *#eventRecords(): Generator<Uint8Array> {
    let begun = false;
    for (const line of read(this.#jsonl)) {
      if (!begun) yield fileVersionRecord(line.time);
      begun = true;
      yield events(line);
    }
    if (!begun) yield fileVersionRecord(Date.now() / 1000);
  }

  /** Numbers need no quotes, and the names of metrics are ours. */
  #csvLine(line: Line): string {
    return `${Array.from(this.#columns, (key) => line[key] ?? '').join(',')}\n`;
  }
}

/** Replaces a file by these parts, one after the other, some hundred at a time. */
function writeParts(file: string, parts: Iterable<string | Uint8Array>): void {
  writeAtomic(file, (descriptor) => {
    let waiting: Uint8Array[] = [];
    const flush = () => {
      writeAll(descriptor, Buffer.concat(waiting));
      waiting = [];
    };
    for (const part of parts) {
      waiting.push(typeof part === 'string' ? Buffer.from(part) : part);
      if (waiting.length === 500) flush();
    }
    flush();
  });
}

function events({ step, time, ...metrics }: Line): Uint8Array {
  return scalarsRecord(
    time,
    step,
    Object.fromEntries(Object.entries(metrics).map(([key, value]) => [key, value ?? NaN])),
  );
}

const isLine = (json: unknown): json is Line =>
  typeof json === 'object' &&
  json !== null &&
  Number.isInteger((json as Partial<Line>).step) &&
  typeof (json as Partial<Line>).time === 'number' &&
  Object.values(json).every((value) => value === null || typeof value === 'number');

function* read(file: string): Generator<Line> {
  let number = 0;
  for (const text of linesOf(file, { ended: true })) {
    number++;
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      json = undefined;
    }
    if (!isLine(json))
      throw new UserError(`${file}:${number}: expected a JSON object of numbers with step and time`);
    yield json;
  }
}

function append(file: string, content: string | Uint8Array): void {
  explaining(`write ${file}`, () => appendFileSync(file, content));
}
