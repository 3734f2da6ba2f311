/** What learns in each stage of training. */
import type { Config } from '../config/index.js';
import { AttributeExperiment } from '../mine/attribute-experiment.js';
import { Experiment } from './experiment.js';
import type { Learner } from './learner.js';

/** @param identities N, of the training images */
export function buildLearner(config: Config, identities: number): Learner {
  return config.stage === 'attributes'
    ? new AttributeExperiment(config, identities)
    : new Experiment(config, identities);
}
