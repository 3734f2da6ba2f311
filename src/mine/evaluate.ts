/**
 * What an attribute model has learned: for each attribute how often it is right on identities that were never trained on, and how much
 * of the identity its feature still tells (probe.ts).
 */
import Table from 'cli-table3';
import { augmentColumns, encodeAugmentation } from '../data/augment.js';
import { openDataset } from '../data/dataset.js';
import type { FaceSet } from '../data/face-set.js';
import { readImages } from '../data/read-images.js';
import type { SoftLabels } from '../data/soft-labels.js';
import type { Override } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import { checkpointIdentities, loadCheckpoint } from '../train/checkpoint.js';
import { findCheckpoint, runConfig } from '../train/run-directory.js';
import { AttributeExperiment, type Description } from './attribute-experiment.js';
import { probeIdentity, type ProbeResult } from './probe.js';

export interface AttributeFigures {
  name: string;
  /** Images of which it is known, and the share of them that have it. */
  images: number;
  share: number;
  /** Share told right with the threshold one half; the mean of that over those with and without it. */
  accuracy: number;
  balanced: number;
}

export interface AttributeEvaluation {
  attributes: AttributeFigures[];
  probes: (ProbeResult & { of: string })[];
}

/** The model of a run directory or checkpoint, ready to describe images. The caller disposes of it. */
export function loadAttributeModel(
  path: string,
  overrides: readonly (string | Override)[] = [],
): AttributeExperiment {
  const { run, checkpoint } = findCheckpoint(path);
  const config = runConfig(run, overrides);
  if (config.stage !== 'attributes')
    throw new UserError(`${run}: expected a run of stage attributes, found stage ${config.stage}`);
  const model = new AttributeExperiment(config, checkpointIdentities(checkpoint.file), false);
  loadCheckpoint(checkpoint.file, model, checkpoint.step);
  return model;
}

/** The descriptions of all images, a batch after another; the centre is cropped. */
export async function* describeImages(
  model: AttributeExperiment,
  faces: FaceSet,
): AsyncGenerator<Description & { start: number; count: number }> {
  const { data, model: network, evaluate } = model.config;
  const margin = Math.floor((data.image_size - network.input_size) / 2);
  const options = { batchSize: evaluate.batch_size, workers: data.workers };
  for await (const { start, count, pixels } of readImages(faces, options)) {
    const parameters = new Int32Array(count * augmentColumns);
    for (let i = 0; i < count; i++)
      encodeAugmentation(parameters, i, { top: margin, left: margin, flip: false, blur: 0, occluded: [] });
    yield { start, count, ...model.describe(pixels, parameters) };
  }
}

async function describeAll(model: AttributeExperiment, faces: FaceSet): Promise<Description> {
  const { embedding_size: width } = model.config.model;
  const count = model.config.mined.variations.length;
  const feature = new Float32Array(faces.images * width);
  const probability = new Float32Array(faces.images * count);
  for await (const { start, ...found } of describeImages(model, faces)) {
    feature.set(found.feature, start * width);
    probability.set(found.probability, start * count);
  }
  return { feature, probability };
}

/** @param probability [n, T] */
export function attributeFigures(
  probability: Float32Array,
  { names, values }: SoftLabels,
): AttributeFigures[] {
  return names.map((name, t) => {
    const known = Array.from({ length: values.length / names.length }, (_, i) => i * names.length + t).filter(
      (i) => (values[i] ?? -1) >= 0,
    );
    const right = (indices: readonly number[]) =>
      indices.filter((i) => (probability[i] ?? NaN) > 0.5 === (values[i] ?? NaN) > 0.5).length /
      indices.length;
    const [having, lacking] = [true, false].map((has) =>
      known.filter((i) => (values[i] ?? NaN) > 0.5 === has),
    ) as [number[], number[]];
    return {
      name,
      images: known.length,
      share: having.length / known.length,
      accuracy: right(known),
      balanced: (right(having) + right(lacking)) / 2,
    };
  });
}

/** Images that a probe needs of an identity, and the most identities that it tells apart. */
const [probeImages, probeIdentities] = [4, 100];

/** The identities that have the most images, if enough. */
function manyImages(faces: FaceSet): FaceSet {
  const enough = [...faces.imagesByIdentity().entries()]
    .filter(([, images]) => images.length >= probeImages)
    .sort(([, a], [, b]) => b.length - a.length);
  return faces.subset(enough.slice(0, probeIdentities).map(([identity]) => identity));
}

const logit = (p: number) => Math.log(Math.max(1e-7, p) / Math.max(1e-7, 1 - p));

/** Measures on the held-out identities of the run's set, the probe on trained ones too. */
export async function evaluateAttributes(model: AttributeExperiment): Promise<AttributeEvaluation> {
  const { heldOut, heldOutSoft, train } = await openDataset(model.config);
  if (!heldOut || !heldOutSoft)
    throw new UserError('data.held_out_identities: expected identities to test on, found 0');
  const { embedding_size: width } = model.config.model;
  const { probability } = await describeAll(model, heldOut);
  const [others, trained] = [manyImages(heldOut), manyImages(train)];
  const described = await describeAll(model, others);
  const alone = Float32Array.from(described.probability, logit);
  const probe = (of: string, values: Float32Array, size: number, faces: FaceSet) => ({
    of,
    ...probeIdentity(values, size, faces.data.labels, model.config.seed),
  });
  return {
    attributes: attributeFigures(probability, heldOutSoft),
    probes: [
      probe('the feature, held-out identities', described.feature, width, others),
      probe('the feature, trained identities', (await describeAll(model, trained)).feature, width, trained),
      probe('the attributes told alone, held-out identities', alone, heldOutSoft.names.length, others),
    ],
  };
}

const percent = (share: number) => (Number.isNaN(share) ? '?' : (100 * share).toFixed(1));

export function attributeTable({ attributes, probes }: AttributeEvaluation): string {
  const style = { head: [], border: [] };
  const first = new Table({ head: ['attribute', 'images', 'have it %', 'accuracy %', 'balanced %'], style });
  for (const { name, images, share, accuracy, balanced } of attributes)
    first.push([name, images, percent(share), percent(accuracy), percent(balanced)]);
  const second = new Table({
    head: ['identity by a probe on', 'identities', 'images', 'accuracy %', 'chance %'],
    style,
  });
  for (const { of, identities, images, accuracy, chance } of probes)
    second.push([of, identities, images, percent(accuracy), percent(chance)]);
  return `${first.toString()}\n${second.toString()}`;
}
