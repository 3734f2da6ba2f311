// What a run shows while it trains: on a terminal one line that is redrawn (bar, images per second, losses, time left), otherwise a
// plain line each time something is logged. Everything goes to standard error, so that results can be piped.
import cliProgress from 'cli-progress';
import prettyMilliseconds from 'pretty-ms';

/** process.stderr is one. */
export type ProgressStream = NodeJS.WritableStream & { isTTY?: boolean };

export interface ProgressOptions {
  /** Steps at the end of the training, and those done before this start. */
  total: number;
  done?: number;
  stream?: ProgressStream;
  /** Milliseconds; for tests. */
  clock?: () => number;
}

/** Values to show, in their order; a rate is in images per second. */
export interface Shown {
  rate: number;
  /** Share of the time in which the step waited for images; shown from one hundredth on. */
  waiting?: number;
  losses: Readonly<Record<string, number>>;
}

export class Progress {
  readonly #total: number;
  readonly #first: number;
  readonly #stream: ProgressStream;
  readonly #clock: () => number;
  readonly #start: number;
  readonly #bar: cliProgress.SingleBar | undefined;

  constructor({
    total,
    done = 0,
    stream = process.stderr,
    clock = () => performance.now(),
  }: ProgressOptions) {
    this.#total = total;
    this.#first = done;
    this.#stream = stream;
    this.#clock = clock;
    this.#start = clock();
    if (stream.isTTY !== true) return;
    this.#bar = new cliProgress.SingleBar({
      format: '{bar} {value}/{total} {shown}',
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 20,
      hideCursor: true,
      // Ctrl-C belongs to the trainer, which finishes its step first.
      gracefulExit: false,
      linewrap: false,
      stream,
    });
    this.#bar.start(total, done, { shown: '' });
    process.once('exit', this.#restore);
  }

  /** After each step: moves the bar. Without a terminal this prints nothing. */
  step(step: number, shown: Shown): void {
    this.#bar?.update(step, { shown: this.#describe(step, shown) });
  }

  /** When metrics are logged: a line, where there is no bar. */
  log(step: number, shown: Shown): void {
    if (this.#bar) this.step(step, shown);
    else this.#stream.write(`step ${step}/${this.#total}  ${this.#describe(step, shown)}\n`);
  }

  /** A line of text above the bar. */
  note(text: string): void {
    if (this.#bar) {
      // The bar's line is given up to the text, and drawn again below it.
      this.#stream.write(`\r\u001b[K${text}\n`);
      this.#bar.render();
    } else this.#stream.write(`${text}\n`);
  }

  stop(): void {
    this.#bar?.stop();
    process.off('exit', this.#restore);
  }

  /** Gives the terminal back its cursor and its wrapping of lines where the process ends before the bar does. */
  readonly #restore = () => this.#stream.write('\u001b[?25h\u001b[?7h\n');

  #describe(step: number, { rate, waiting = 0, losses }: Shown): string {
    const parts = [`${rate < 10 ? rate.toFixed(1) : rate.toFixed(0)} images/s`];
    if (waiting >= 0.01) parts.push(`waits for images ${(100 * waiting).toFixed(0)} %`);
    for (const [name, value] of Object.entries(losses)) parts.push(`${name} ${formatLoss(value)}`);
    const done = step - this.#first;
    const left = ((this.#clock() - this.#start) / done) * (this.#total - step);
    if (done > 0 && step < this.#total) parts.push(`${formatTime(left)} left`);
    return parts.join('  ');
  }
}

/** Four significant digits, however large or small. */
function formatLoss(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5)
    ? value.toExponential(2)
    : String(Number(value.toPrecision(4)));
}

/** `milliseconds` as two units at most: 1h 5m, 45s. */
export function formatTime(milliseconds: number): string {
  return prettyMilliseconds(milliseconds, { unitCount: 2, secondsDecimalDigits: 0 });
}
