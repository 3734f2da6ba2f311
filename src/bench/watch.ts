// Where a training step spends its time: every native call, and the phase it fell into. Made before the device is opened.
import { sizesOf } from '../tensor/kernels.js';
import { observeNative } from '../tensor/native.js';
import { phases as updatePhases } from '../train/learner.js';

export const phases = ['waiting for data', ...updatePhases] as const;
export type Phase = (typeof phases)[number];

/** Milliseconds of `performance.now()`. */
export interface Span {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}
export interface Call extends Span {
  readonly phase: Phase;
  readonly args: readonly unknown[];
}

export class Watch {
  /** Milliseconds within native calls, and their number, since `reset`. */
  native = 0;
  count = 0;
  /** Kept while details are wanted. */
  readonly calls: Call[] = [];
  readonly spans: (Span & { name: Phase })[] = [];
  #details: (() => void) | undefined;
  #inside = false;
  #phase: Phase = 'input';
  #since = 0;

  constructor() {
    observeNative((...call) => {
      this.#heard(...call);
    });
  }

  #heard(name: string, start: number, end: number, args: readonly unknown[]): void {
    if (this.#inside) return;
    this.native += end - start;
    this.count++;
    if (!this.#details) return;
    // A GPU goes on after a call; waiting for it gives the call the time of its work.
    this.#inside = true;
    this.#details();
    this.#inside = false;
    this.calls.push({ name, phase: this.#phase, start, end: performance.now(), args });
  }

  reset(): void {
    this.native = 0;
    this.count = 0;
  }

  /** Runs `f` with single calls kept; `settle` waits for the device after each. */
  async detailed(settle: () => void, f: () => Promise<void>): Promise<void> {
    this.calls.length = 0;
    this.spans.length = 0;
    this.#details = settle;
    this.#since = performance.now();
    try {
      await f();
    } finally {
      this.#details = undefined;
    }
  }

  /** From now on it is this phase; the one before ends. */
  enter(phase: Phase): void {
    this.leave();
    this.#phase = phase;
  }
  leave(): void {
    const now = performance.now();
    if (this.#details) this.spans.push({ name: this.#phase, start: this.#since, end: now });
    this.#since = now;
  }
}

export interface Total {
  readonly name: string;
  /** Of its calls, as text; empty where calls of all sizes count together. */
  readonly sizes: string;
  calls: number;
  milliseconds: number;
}

/** Milliseconds and number of native calls by name, or by name and sizes, most first. */
export function totals(calls: readonly Call[], bySizes = false): Total[] {
  const found = new Map<string, Total>();
  for (const { name, args, start, end } of calls) {
    const sizes = bySizes ? Object.values(sizesOf(name, args)).join(' ') : '';
    const entry = found.get(`${name} ${sizes}`) ?? { name, sizes, calls: 0, milliseconds: 0 };
    entry.calls++;
    entry.milliseconds += end - start;
    found.set(`${name} ${sizes}`, entry);
  }
  return [...found.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}

/** The watch's spans and calls in Chrome's trace format, which Perfetto reads too: phases in one row, native calls below. */
export function traceJson({ spans, calls }: Pick<Watch, 'spans' | 'calls'>): string {
  const first = Math.min(...spans.map(({ start }) => start));
  const event = ({ name, start, end }: Span, thread: number, category: string) => ({
    ...{ name, cat: category, ph: 'X', pid: 1, tid: thread },
    ...{ ts: 1000 * (start - first), dur: 1000 * (end - start) },
  });
  const named = (thread: number, name: string) => ({
    ...{ name: 'thread_name', ph: 'M', pid: 1, tid: thread, args: { name } },
  });
  const events = [
    named(1, 'phases'),
    named(2, 'native calls'),
    ...spans.map((span) => event(span, 1, 'phase')),
    ...calls.map((call) => ({ ...event(call, 2, call.phase), args: sizesOf(call.name, call.args) })),
  ];
  return `${JSON.stringify({ displayTimeUnit: 'ms', traceEvents: events })}\n`;
}
