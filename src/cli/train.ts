// turl train: trains an experiment, or continues a run.
import { join } from 'node:path';
import { Command } from 'commander';
import { UserError } from '../tensor/errors.js';
import type { TrainResult } from '../train/trainer.js';
import { addSet, overridesOf, whole, workerCount, type OverrideOptions } from './overrides.js';

export interface TrainCommandOptions extends OverrideOptions {
  resume?: string | true;
  dryRun?: true;
}

export function trainCommand(): Command {
  const command = new Command('train')
    .description('Train an experiment.')
    .argument('[config]', 'the experiment, a YAML file; may be left out with --resume RUN');
  return addTrainOptions(command, 'train on these images: a folder of <identity>/<image>, or a file').action(
    async (file: string | undefined, options: TrainCommandOptions) => {
      const result = await runTraining(...withExperiment(file, options));
      if (!result?.evaluation) return;
      const { evaluationTable } = await import('../evaluate/table.js');
      console.log(evaluationTable(result.evaluation));
    },
  );
}

/** The experiment that `train` is given: before --resume or behind it, or that of the run to continue. */
function withExperiment(
  file: string | undefined,
  options: TrainCommandOptions,
): [file: string, options: TrainCommandOptions] {
  const { resume } = options;
  if (file !== undefined) return [file, options];
  if (typeof resume !== 'string') throw new UserError('train: expected an experiment, a YAML file, got none');
  return /\.ya?ml$/.test(resume)
    ? [resume, { ...options, resume: true }]
    : [join(resume, 'config.yaml'), options];
}

/** The options of every command that trains. */
export function addTrainOptions(command: Command, data: string): Command {
  command.option('--data <path>', data).option('--device <name>', 'cpu, cuda or emulated');
  return addSet(command)
    .option('--work-dir <dir>', 'the run directory; by default runs/<name>-<time>')
    .option(
      '--resume [run]',
      'continue this run, or the newest one of this experiment, with its own configuration',
    )
    .option('--seed <n>', 'the seed of every random draw', whole('--seed', 0))
    .option('--workers <n>', 'threads that decode or generate images', workerCount)
    .option('--dry-run', 'print the resolved experiment, counts, parameters and memory, and stop');
}

/** The command that continues a run, whatever its experiment was read from. */
const continuing = (run: string) => `turl train --resume ${run}`;

/** Trains, says where the run is, and gives what came of it; nothing when it was only to be planned. */
export async function runTraining(
  file: string,
  options: TrainCommandOptions,
): Promise<TrainResult | undefined> {
  const { firstDifference, loadConfig } = await import('../config/index.js');
  const overrides = overridesOf(options);
  let config = loadConfig(file, overrides);
  const { newestRun, resumePoint, runConfig } = await import('../train/run-directory.js');
  const resume =
    options.resume === true
      ? newestRun('runs', config.name, (line) => process.stderr.write(`${line}\n`))
      : options.resume;
  if (resume !== undefined) {
    if (overrides.length > 0)
      throw new UserError(
        `a resumed run keeps its own configuration: expected no other option beside --resume`,
      );
    const asked = config;
    // Whether it can be continued at all is said first, --dry-run or not.
    resumePoint(resume);
    config = runConfig(resume);
    if (config.name !== asked.name)
      throw new UserError(
        `--resume ${resume}: expected a run of ${asked.name}, found one of ${config.name}: continue it with ${continuing(resume)}`,
      );
    const now = { ...asked, work_dir: config.work_dir };
    const difference = firstDifference(config, now, join(resume, 'config.yaml'));
    if (difference) process.stderr.write(`--resume keeps the run's own configuration: ${difference.text}\n`);
  }
  const { bar } = await import('./bar.js');
  const checking = bar('checking the images');
  const onCheck = (done: number, total: number) => {
    checking.show(done, total);
    if (done === total) checking.stop();
  };
  if (options.dryRun) {
    const { describePlan } = await import('../train/plan.js');
    console.log(await describePlan(config, resume, onCheck));
    return undefined;
  }
  const { train } = await import('../train/trainer.js');
  const stop = new AbortController();
  // Until there is a run nothing is lost.
  let begun = false;
  const onInterrupt = () => {
    if (!begun || stop.signal.aborted) process.exit(130);
    process.stderr.write(
      '\nfinishing the step, then writing a checkpoint; press Ctrl-C again to stop at once\n',
    );
    stop.abort();
  };
  // turl ablate passes an interrupt on as this: the terminal may have sent the cell one already, and two would stop it at once.
  const onPassed = () => {
    if (!begun) process.exit(130);
    stop.abort();
  };
  process.on('SIGINT', onInterrupt).on('SIGTERM', onInterrupt).on('SIGUSR2', onPassed);
  const result = await train(config, {
    signal: stop.signal,
    onCheck,
    onBegin: () => (begun = true),
    ...(resume === undefined ? {} : { resume }),
  });
  process.off('SIGINT', onInterrupt).off('SIGTERM', onInterrupt).off('SIGUSR2', onPassed);
  console.log(
    result.interrupted
      ? `stopped after step ${result.step}; continue with: ${continuing(result.run)}`
      : `the run is in ${result.run}`,
  );
  return result;
}
