/** What a training will be, without training: the resolved experiment, counts, parameters and memory. */
import prettyBytes from 'pretty-bytes';
import { configToYaml, type Config } from '../config/index.js';
import type { CheckProgress } from '../data/dataset.js';
import { augmentColumns } from '../data/augment.js';
import { variationNames } from '../data/variations.js';
import { device as deviceOf } from '../tensor/device.js';
import { loadWeights } from './checkpoint.js';
import type { TrainingBatch } from './learner.js';
import { RunDirectory } from './run-directory.js';
import { buildLearner } from './stages.js';
import { describeBroken, openInputs, stepsOf } from './trainer.js';

/** A batch of noise, two images of each identity, to measure with: of images that are all the same, gradients need not be finite. */
function noiseBatch({ data, mined, stage }: Config, identities: number, images: number): TrainingBatch {
  return {
    pixels: Uint8Array.from(
      { length: images * data.image_size ** 2 * 3 },
      (_, i) => Math.imul(i + 1, 0x9e3779b1) >>> 24,
    ),
    labels: Int32Array.from({ length: images }, (_, i) => (i >> 1) % identities),
    augmentation: new Int32Array(images * augmentColumns),
    variations: new Float32Array(images * variationNames.length),
    soft:
      mined.labels !== null || stage === 'attributes'
        ? new Float32Array(images * mined.variations.length)
        : undefined,
  };
}

/** Bytes that batches to measure with may hold beyond the smallest one, so that all of them are quick. */
const measuredBytes = 1 << 28;

/**
 * The most bytes that the tensors of training will hold. Updates with 2, 4, 8, ... images are run, up to the batch size or while that is
 * quick, and the line through the last two peaks is followed to the batch size: memory grows linearly with large batches, but not yet
 * with small ones. With `start`, its weights must fit.
 */
export function measureStepMemory(
  config: Config,
  identities: number,
  start?: string,
): { bytes: number; parameters: number } {
  const device = deviceOf(config.device);
  const before = device.statistics().live;
  const { optimizer, discriminator, train } = config;
  // Nothing is learned, so that no update can fail for what another did.
  const still = {
    ...config,
    optimizer: { ...optimizer, lr: 0 },
    discriminator: { ...discriminator, optimizer: { ...discriminator.optimizer, lr: 0 } },
  };
  const experiment = buildLearner(still, identities);
  if (start !== undefined) loadWeights(start, experiment);
  const peak = (images: number) => {
    device.configure({ resetPeak: true });
    experiment.update([noiseBatch(config, identities, images)], 0, 1);
    return { images, bytes: device.statistics().peak - before };
  };
  const smallest = peak(2);
  let [last, next] = [smallest, peak(4)];
  while (next.images < train.batch_size && next.bytes - smallest.bytes < measuredBytes)
    [last, next] = [next, peak(Math.min(2 * next.images, train.batch_size))];
  const parameters = experiment.parameterCount;
  experiment.dispose();
  device.configure({ trim: true });
  const each = (next.bytes - last.bytes) / (next.images - last.images);
  return { bytes: next.bytes + each * (train.batch_size - next.images), parameters };
}

/**
 * The plan as text.
 * @throws UserError for what training would refuse
 */
export async function describePlan(
  config: Config,
  resume?: string,
  onCheck?: CheckProgress,
): Promise<string> {
  if (resume === undefined) RunDirectory.check(config);
  const { dataset, start, identities } = await openInputs(config, { resume, onCheck });
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
    `memory of a step's tensors on ${config.device}: about ${binary(bytes)}; ${binary(available)} are available${enough}`,
  ].join('\n');
}
