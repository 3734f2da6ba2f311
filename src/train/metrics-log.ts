// The metrics of a run, three times: JSON lines (the record), CSV and a TensorBoard event file (made from it). A line is
//   {"step": 20, "time": 1700000000.5, "loss": 3.25, ...}
// with the time in seconds since 1970; a value that is not finite is null. A line is appended when it is logged; the CSV and the
// events are written anew when a run is resumed or a new metric appears, so they never disagree with the record.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { UserError } from '../tensor/errors.js';
import { explaining, writeAtomic } from './atomic.js';
import { fileVersionRecord, scalarsRecord } from './tensorboard.js';

export type Metrics = Readonly<Record<string, number>>;

const lineSchema = z.intersection(
  z.object({ step: z.int(), time: z.number() }),
  z.record(z.string(), z.number().nullable()),
);
type Line = z.infer<typeof lineSchema>;

export class MetricsLog {
  readonly #jsonl: string;
  readonly #csv: string;
  readonly #events: string;
  #lines: Line[] = [];
  #columns: string[] = ['step', 'time'];

  /** Lines after `step`, and one cut short when a run was killed, are dropped. */
  constructor(directory: string, step: number) {
    this.#jsonl = join(directory, 'metrics.jsonl');
    this.#csv = join(directory, 'metrics.csv');
    this.#events = join(directory, 'events.out.tfevents.0.turl');
    if (existsSync(this.#jsonl)) this.#lines = read(this.#jsonl).filter((line) => line.step <= step);
    writeAtomic(this.#jsonl, this.#lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    this.#rewrite();
  }

  /** Whether a line of `step`, the last that there is, has all these metrics. */
  has(step: number, metrics: readonly string[]): boolean {
    for (let i = this.#lines.length - 1; this.#lines[i]?.step === step; i--)
      if (metrics.every((key) => key in (this.#lines[i] ?? {}))) return true;
    return false;
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
    this.#lines.push(line);
    append(this.#jsonl, `${JSON.stringify(line)}\n`);
    if (Object.keys(line).some((key) => !this.#columns.includes(key))) this.#rewrite();
    else {
      append(this.#csv, this.#csvLine(line));
      append(this.#events, events(line));
    }
  }

  #rewrite(): void {
    this.#columns = [...new Set(['step', 'time', ...this.#lines.flatMap((line) => Object.keys(line))])];
    writeAtomic(
      this.#csv,
      [`${this.#columns.join(',')}\n`, ...this.#lines.map((line) => this.#csvLine(line))].join(''),
    );
    writeAtomic(
      this.#events,
      Buffer.concat([
        fileVersionRecord(this.#lines[0]?.time ?? Date.now() / 1000),
        ...this.#lines.map(events),
      ]),
    );
  }

  /** Numbers need no quotes, and the names of metrics are ours. */
  #csvLine(line: Line): string {
    return `${this.#columns.map((key) => line[key] ?? '').join(',')}\n`;
  }
}

function events({ step, time, ...metrics }: Line): Uint8Array {
  return scalarsRecord(
    time,
    step,
    Object.fromEntries(Object.entries(metrics).map(([key, value]) => [key, value ?? NaN])),
  );
}

function read(file: string): Line[] {
  const texts = explaining(`read ${file}`, () => readFileSync(file, 'utf8')).split('\n');
  // What follows the last line break is nothing, or a line that was cut short.
  texts.pop();
  return texts.map((text, i) => {
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      json = undefined;
    }
    const line = lineSchema.safeParse(json);
    if (!line.success)
      throw new UserError(`${file}:${i + 1}: expected a JSON object of numbers with step and time`);
    return line.data;
  });
}

function append(file: string, content: string | Uint8Array): void {
  explaining(`write ${file}`, () => appendFileSync(file, content));
}
