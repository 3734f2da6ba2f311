// turl ablate: runs a sweep and makes its tables.
import { Command } from 'commander';
import { addSet, overridesOf, whole, workerCount, type OverrideOptions } from './overrides.js';

interface Options extends OverrideOptions {
  out?: string;
  runs?: string;
  jobs: number;
  cell?: string[];
  launcher: string;
  dryRun?: true;
}

export function ablateCommand(): Command {
  const command = new Command('ablate')
    .description(
      'Run a sweep: arms, a grid and seeds; then tables with error bars. What is done is not run again.',
    )
    .argument('<sweep>', 'a YAML file')
    .option('--data <path>', 'train on these images')
    .option('--device <name>', 'cpu, cuda or emulated')
    .option('--workers <n>', 'threads that decode or generate images', workerCount);
  return addSet(command)
    .option('--out <dir>', 'results and tables; by default experiments/results/<name>')
    .option('--runs <dir>', 'run directories; by default runs/<name>')
    .option('--jobs <n>', 'cells at a time', whole('--jobs', 1), 1)
    .option('--cell <id...>', 'only these cells')
    .option('--launcher <name>', 'local, or slurm for an array job', 'local')
    .option('--dry-run', 'print the cells, the time and the disk wanted, and stop')
    .action(async (file: string, options: Options) => {
      const { ablate } = await import('../ablate/index.js');
      const stop = new AbortController();
      const onInterrupt = () => {
        if (stop.signal.aborted) process.exit(130);
        process.stderr.write(
          '\nthe cells under way finish their step and write a checkpoint; press Ctrl-C again to stop at once\n',
        );
        stop.abort();
      };
      process.on('SIGINT', onInterrupt).on('SIGTERM', onInterrupt);
      const text = await ablate(file, {
        ...options,
        overrides: overridesOf(options),
        signal: stop.signal,
        onLine: (line) => process.stderr.write(`${line}\n`),
      });
      process.off('SIGINT', onInterrupt).off('SIGTERM', onInterrupt);
      console.log(text);
    });
}
