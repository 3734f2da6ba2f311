/** What a training will be, without training: the resolved experiment, counts, parameters and memory. */
import prettyBytes from 'pretty-bytes';
import { configToYaml, type Config } from '../config/index.js';
import { augmentColumns } from '../data/augment.js';
import { variationNames } from '../data/variations.js';
import { device as deviceOf } from '../tensor/device.js';
import { loadWeights } from './checkpoint.js';
import type { TrainingBatch } from './learner.js';
import { RunDirectory } from './run-directory.js';
import { buildLearner } from './stages.js';
import { describeBroken, openInputs, stepsOf } from './trainer.js';

/** A batch of grey images, to measure with. */
function greyBatch({ data, mined, stage }: Config, images: number): TrainingBatch {
  return {
    pixels: new Uint8Array(images * data.image_size ** 2 * 3).fill(128),
    labels: new Int32Array(images),
    augmentation: new Int32Array(images * augmentColumns),
    variations: new Float32Array(images * variationNames.length),
    soft:
      mined.labels !== null || stage === 'attributes'
        ? new Float32Array(images * mined.variations.length)
        : undefined,
  };
}

/**
 * The most bytes that training will hold. Memory grows linearly with the batch, so updates with 2 and 4 images are run and the
 * line through their peaks is followed to the batch size. With `start`, its weights must fit.
 */
export function measureStepMemory(
  config: Config,
  identities: number,
  start?: string,
): { bytes: number; parameters: number } {
  const device = deviceOf(config.device);
  const before = device.statistics().live;
  const experiment = buildLearner(config, identities);
  if (start !== undefined) loadWeights(start, experiment);
  const peak = (images: number) => {
    device.configure({ resetPeak: true });
    experiment.update([greyBatch(config, images)], 0, 1);
    return device.statistics().peak - before;
  };
  const [two, four] = [peak(2), peak(4)];
  const parameters = experiment.parameterCount;
  experiment.dispose();
  device.configure({ trim: true });
  return { bytes: two + ((four - two) / 2) * (config.train.batch_size - 2), parameters };
}

/**
 * The plan as text.
 * @throws UserError for what training would refuse
 */
export async function describePlan(config: Config, resume?: string): Promise<string> {
  if (resume === undefined) RunDirectory.check(config);
  const { dataset, start, identities } = await openInputs(config, { resume });
  const { train, heldOut, broken } = dataset;
  const { bytes, parameters } = measureStepMemory(config, identities, start);
  const available = deviceOf(config.device).statistics().memoryAvailable;
  const binary = (n: number) => prettyBytes(n, { binary: true });
  const enough = bytes <= available ? '' : ', NOT ENOUGH: lower train.batch_size and raise train.accumulate';
  return [
    configToYaml(config).trimEnd(),
    '',
    `training: ${train.identities} identities, ${train.images} images`,
    heldOut ? `held out: ${heldOut.identities} identities, ${heldOut.images} images` : 'held out: none',
    ...[describeBroken(broken)].filter((line) => line !== undefined),
    `updates: ${stepsOf(config, train.images)} of ${config.train.batch_size * config.train.accumulate} images`,
    `parameters: ${parameters.toLocaleString('en-US')}`,
    `memory of a step on ${config.device}: about ${binary(bytes)}; ${binary(available)} are available${enough}`,
  ].join('\n');
}
