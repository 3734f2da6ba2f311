/** Evaluation of a checkpoint of a run. */
import { openDataset } from '../data/dataset.js';
import { UserError } from '../tensor/errors.js';
import { checkpointIdentities, loadCheckpoint } from '../train/checkpoint.js';
import { Experiment } from '../train/experiment.js';
import { findCheckpoint, runConfig } from '../train/run-directory.js';
import { readSafetensorsMetadata } from '../train/safetensors.js';
import { evaluate } from './evaluate.js';
import type { Evaluation } from './table.js';
import { openTestSet } from './test-set.js';

/** Evaluates the checkpoint that `path` names, a run directory or a file, on the run's own test set. */
export async function evaluateRun(path: string): Promise<Evaluation> {
  const { run, checkpoint } = findCheckpoint(path);
  const config = runConfig(run);
  const identities = checkpointIdentities(checkpoint.file, readSafetensorsMetadata(checkpoint.file));
  const experiment = new Experiment(config, identities);
  try {
    loadCheckpoint(checkpoint.file, experiment, checkpoint.step);
    const test = await openTestSet(config, await openDataset(config));
    if (!test)
      throw new UserError(
        `${run}: expected evaluate.pairs or data.held_out_identities in its configuration, found neither to test on`,
      );
    return await evaluate(experiment, test);
  } finally {
    experiment.dispose();
  }
}
