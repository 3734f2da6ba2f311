// How far a command that reads many images has come.
import { SingleBar } from 'cli-progress';
import { formatTime } from '../train/progress.js';

const quiet = 30_000; // milliseconds between lines where there is no terminal

/** A bar on a terminal; elsewhere a line now and then, so that a log shows that work goes on. Both on standard error. */
export function bar(what: string): { show: (done: number, total: number) => void; stop: () => void } {
  let started: SingleBar | undefined;
  let first: { done: number; time: number } | undefined;
  let told = performance.now();
  const line = (done: number, total: number) => {
    const time = performance.now();
    first ??= { done, time };
    if (time - told < quiet) return;
    told = time;
    const left = ((time - first.time) / (done - first.done)) * (total - done);
    process.stderr.write(
      `${what} ${done}/${total}${Number.isFinite(left) ? `  ${formatTime(left)} left` : ''}\n`,
    );
  };
  return {
    show(done, total) {
      if (!process.stderr.isTTY) {
        line(done, total);
        return;
      }
      if (!started) {
        started = new SingleBar({
          format: `${what} {bar} {value}/{total}  {eta_formatted} left`,
          clearOnComplete: true,
          linewrap: true, // or an interrupt leaves a terminal that does not wrap lines
        });
        started.start(total, done);
      }
      started.setTotal(total);
      started.update(done);
    },
    stop: () => started?.stop(),
  };
}
