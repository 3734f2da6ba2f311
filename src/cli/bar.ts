// How far a command that reads many images has come.
import { SingleBar } from 'cli-progress';

/** A bar on a terminal, nothing elsewhere. */
export function bar(what: string): { show: (done: number, total: number) => void; stop: () => void } {
  let started: SingleBar | undefined;
  return {
    show(done, total) {
      if (!process.stderr.isTTY) return;
      if (!started) {
        started = new SingleBar({
          format: `${what} {bar} {value}/{total}  {eta_formatted} left`,
          clearOnComplete: true,
        });
        started.start(total, done);
      }
      started.setTotal(total);
      started.update(done);
    },
    stop: () => started?.stop(),
  };
}
