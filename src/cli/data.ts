// turl data: what is in a set of images, and bringing it from one format to another.
import { Command } from 'commander';
import { SingleBar } from 'cli-progress';

/** A bar on a terminal, nothing elsewhere. */
function bar(what: string): { show: (done: number, total: number) => void; stop: () => void } {
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

export function dataCommand(): Command {
  const data = new Command('data').description(
    'Look at sets of face images, and bring them from one format to another.',
  );
  data
    .command('inspect')
    .description('Say what a set is: counts, sizes, statistics, duplicates, broken images.')
    .argument('<path>', 'a folder of <identity>/<image>, .rec, .bin, .parquet, or a list')
    .option('--against <path>', 'another set: name the images that are in both')
    .option('--workers <n>', 'threads that decode', Number)
    .option('--json', 'print it as JSON')
    .action(async (path: string, options: { against?: string; workers?: number; json?: true }) => {
      const { inspect } = await import('../data/inspect.js');
      const { inspectionText } = await import('../data/inspect-text.js');
      const progress = bar('reading');
      const { json, ...rest } = options;
      const found = await inspect(path, { ...rest, onProgress: progress.show }).finally(progress.stop);
      console.log(json ? JSON.stringify(found, null, 2) : inspectionText(found));
    });
  data
    .command('pack')
    .description(
      'Write a set in another format, with the very bytes of its images. A run that was cut off goes on.',
    )
    .argument('<from>', 'a set in any format')
    .argument('<to>', 'what to write: a folder, .rec, .bin or .parquet')
    .action(async (from: string, to: string) => {
      const { openArchive } = await import('../data/formats/archive.js');
      const { pack } = await import('../data/pack.js');
      const progress = bar('packing');
      const done = await pack(await openArchive(from), to, { onProgress: progress.show }).finally(
        progress.stop,
      );
      console.log(
        `${to}: ${done.images} images` +
          (done.identities > 0 ? ` of ${done.identities} identities` : '') +
          (done.resumed > 0 ? `, ${done.resumed} of them from the run before` : ''),
      );
    });
  data
    .command('split')
    .description('Divide a set by identity into two, drawn by seed.')
    .argument('<from>', 'a set in any format')
    .argument('<train>', 'what to write: a folder, .rec or .parquet')
    .argument('<test>', 'the same, for the identities held out')
    .requiredOption('--held-out <n>', 'identities to hold out', Number)
    .option('--seed <n>', 'which identities', Number, 1)
    .action(async (from: string, train: string, test: string, options: { heldOut: number; seed: number }) => {
      const { split } = await import('../data/pack.js');
      const progress = bar('packing');
      const done = await split(from, train, test, options.heldOut, options.seed, progress.show).finally(
        progress.stop,
      );
      for (const [path, { images, identities }] of [
        [train, done.train],
        [test, done.test],
      ] as const)
        console.log(`${path}: ${images} images of ${identities} identities`);
    });
  return data;
}
