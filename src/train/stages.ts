/** What learns in each stage of training. */
import type { Config } from '../config/index.js';
import { AttributeExperiment } from '../mine/attribute-experiment.js';
import { Experiment } from './experiment.js';
import type { Learner } from './learner.js';

/**
 * @param identities N, of the training images
 * @param drawn whether it starts from random weights; else from zeros, for a checkpoint to set
 */
export function buildLearner(config: Config, identities: number, drawn = true): Learner {
  return config.stage === 'attributes'
    ? new AttributeExperiment(config, identities, drawn)
    : new Experiment(config, identities, drawn);
}
