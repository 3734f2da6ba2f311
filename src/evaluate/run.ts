/** Evaluation of a checkpoint of a run. */
import type { Override } from '../config/index.js';
import { openDataset } from '../data/dataset.js';
import { UserError } from '../tensor/errors.js';
import { checkpointIdentities, loadCheckpoint } from '../train/checkpoint.js';
import { Experiment } from '../train/experiment.js';
import { findCheckpoint, runConfig } from '../train/run-directory.js';
import { evaluate } from './evaluate.js';
import type { Evaluation } from './table.js';
import { openTestSet } from './test-set.js';

/** `blur=7+yaw=50` as { blur: 7, yaw: 50 }; what the keys may be is the configuration's to check. */
export function parseDegradation(text: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const part of text.split('+')) {
    const [, key, value] = /^(\w+)=([\d.]+)$/.exec(part) ?? [];
    if (key === undefined)
      throw new UserError(
        `--degrade ${text}: expected blur=7, occlusion=0.2, yaw=50, or several joined by +`,
      );
    if (Object.hasOwn(found, key))
      throw new UserError(`--degrade ${text}: expected ${key} once, found it twice`);
    found[key] = Number(value);
  }
  return found;
}

/** Opens the checkpoint that `path` names, a run directory or a file, for as long as `use` takes. */
export async function withRun<T>(
  path: string,
  overrides: readonly (string | Override)[],
  use: (experiment: Experiment, run: string, step: number) => Promise<T>,
): Promise<T> {
  const { run, checkpoint } = findCheckpoint(path);
  const config = runConfig(run, overrides);
  if (config.stage === 'attributes')
    throw new UserError(
      `${run} holds a model of attributes, which turl mine eval measures; expected embeddings`,
    );
  const experiment = new Experiment(config, checkpointIdentities(checkpoint.file), false);
  try {
    loadCheckpoint(checkpoint.file, experiment, checkpoint.step);
    return await use(experiment, run, checkpoint.step);
  } finally {
    experiment.dispose();
  }
}

/** Evaluates a checkpoint on the run's own test set, or as `overrides` of its configuration say. */
export function evaluateRun(
  path: string,
  overrides: readonly (string | Override)[] = [],
): Promise<Evaluation> {
  return withRun(path, overrides, async (experiment, run) => {
    const { config } = experiment;
    const test = await openTestSet(config, () => openDataset(config));
    if (!test)
      throw new UserError(
        `${run}: expected evaluate.pairs or data.held_out_identities in its configuration, found neither to test on`,
      );
    return evaluate(experiment, test);
  });
}
