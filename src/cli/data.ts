// turl data: what is in a set of images, and bringing it from one format to another.
import { Command, Option } from 'commander';
import type { DeviceName } from '../tensor/device.js';
import { bar } from './bar.js';
import { warnLeftOut } from './left-out.js';
import { addSet, overridesOf, whole, workerCount, type OverrideOptions } from './overrides.js';

interface PreviewFlags extends OverrideOptions {
  step: number;
  count: number;
  to: string;
}

interface AlignOptions {
  size: string;
  landmarks?: string;
  quality: number;
  png?: true;
  device: DeviceName;
  workers?: number;
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
    .option('--workers <n>', 'threads that decode', workerCount)
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
      if (done.note) console.log(done.note);
    });
  data
    .command('split')
    .description('Divide a set by identity into two, drawn by seed.')
    .argument('<from>', 'a set in any format')
    .argument('<train>', 'what to write: a folder, .rec or .parquet')
    .argument('<test>', 'the same, for the identities held out')
    .requiredOption('--held-out <n>', 'identities to hold out', whole('--held-out', 1))
    .option('--seed <n>', 'which identities', whole('--seed', 0), 1)
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
      for (const note of new Set([done.train.note, done.test.note])) if (note) console.log(note);
    });
  data
    .command('align')
    .description(
      'Find the face in each photograph and write the aligned crops; those without a face are listed.',
    )
    .argument('<from>', 'photographs: a folder of <identity>/<image>, .rec, .parquet, or a list')
    .argument('<to>', 'what to write: a folder, .rec or .parquet')
    .addOption(new Option('--size <pixels>', 'side of the crops').choices(['112', '110']).default('112'))
    .option(
      '--landmarks <file>',
      'take the five points of each photograph from this file instead of finding them',
    )
    .option('--quality <n>', 'JPEG quality of the crops', whole('--quality', 1, 100), 95)
    .option('--png', 'write the crops without loss')
    .option('--device <name>', 'where the detector runs: cpu or cuda', 'cpu')
    .option('--workers <n>', 'threads that decode', workerCount)
    .action(async (from: string, to: string, options: AlignOptions) => {
      const { openArchive } = await import('../data/formats/archive.js');
      const { alignPhotographs } = await import('../align/align.js');
      const { readLandmarks } = await import('../align/landmarks.js');
      const { device } = await import('../tensor/device.js');
      const { workers, landmarks, quality, png } = options;
      const size = Number(options.size);
      const progress = bar('aligning');
      // A second interrupt ends the process at once.
      const stop = new AbortController();
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
      const done = await alignPhotographs(await openArchive(from), to, device(options.device), {
        size,
        quality: png ? 'png' : quality,
        ...(workers === undefined ? {} : { workers }),
        ...(landmarks === undefined ? {} : { landmarks: await readLandmarks(landmarks) }),
        onProgress: progress.show,
        signal: stop.signal,
      }).finally(progress.stop);
      console.log(
        `${to}: ${done.images} crops of ${size} pixels, ${done.imagesPerSecond.toFixed(1)} photographs a second`,
      );
      if (done.note) console.log(done.note);
      if (done.list)
        console.log(`${done.missing.length} photographs gave no crop; they are listed in ${done.list}`);
    });
  data
    .command('fit')
    .description('Fit a face mesh to each image, so that training can turn the heads (augment.pose).')
    .argument('<path>', 'a set in any format; the meshes are written into the folder or beside the file')
    .option('--device <name>', 'where the detector runs: cpu or cuda', 'cpu')
    .option('--workers <n>', 'threads that decode', workerCount)
    .action(async (path: string, options: { device: DeviceName; workers?: number }) => {
      const { openArchive } = await import('../data/formats/archive.js');
      const { fitMeshes } = await import('../pose/fit.js');
      const { device } = await import('../tensor/device.js');
      const progress = bar('fitting');
      const { device: name, ...rest } = options;
      const fitted = await fitMeshes(await openArchive(path), device(name), {
        ...rest,
        onProgress: progress.show,
      }).finally(progress.stop);
      console.log(
        `${fitted.file}: ${fitted.images} images, ${fitted.imagesPerSecond.toFixed(1)} a second\n` +
          `${fitted.frontal} faces can be turned, ${fitted.turned} are turned by more than 20 degrees already, ` +
          `${fitted.without.length} images show no face`,
      );
      warnLeftOut(fitted.broken);
    });
  const preview = data
    .command('preview')
    .description('Write contact sheets of what training will see: a step as it is, and each variation alone.')
    .argument('<config>', 'the experiment, a YAML file')
    .option('--data <path>', 'the photographs, in any format')
    .option('--step <n>', 'the step of the training, from 0', whole('--step', 0), 0)
    .option('--count <n>', 'images on a sheet', whole('--count', 1), 32)
    .option('--to <dir>', 'where the sheets go', 'preview')
    .option('--seed <n>', 'the seed of every random draw', whole('--seed', 0))
    .option('--device <name>', 'cpu, cuda or emulated');
  addSet(preview).action(async (file: string, options: PreviewFlags) => {
    const { loadConfig } = await import('../config/index.js');
    const { preview: write } = await import('../train/preview.js');
    const { missingFolders, removeEmpty } = await import('../train/atomic.js');
    const { step, count, to } = options;
    const config = loadConfig(file, overridesOf(options));
    const folders = missingFolders(to);
    const sheets = await write(config, to, { step, images: count }).finally(() => removeEmpty(folders));
    console.log(sheets.join('\n'));
  });
  return data;
}
