/** Verification of an experiment's embeddings on pairs of test images, clean and in each degraded version. */
import type { Config } from '../config/index.js';
import { augmentColumns, encodeAugmentation, mirrorBlocks } from '../data/augment.js';
import type { FaceSet } from '../data/face-set.js';
import type { Pairs } from '../data/pairs.js';
import { readImages, type ImageBatch } from '../data/read-images.js';
import { chooseSome } from '../data/variations.js';
import { UserError } from '../tensor/errors.js';
import { Draws, purposes } from '../tensor/philox.js';
import type { Experiment } from '../train/experiment.js';
import { subEmbeddingCorrelation } from './correlation.js';
import { bootstrapIntervals, type Intervals } from './bootstrap.js';
import { verification, type ScoredPairs } from './metrics.js';
import { imageQuality, pairQuality, rejectCurve } from './reject.js';
import { meanFeatures } from './templates.js';
import { scoreDefinition, scorePairs, unusableRow, type Features } from './scores.js';
import type { Evaluation, EvaluationRow } from './table.js';

export type Degradation = Config['evaluate']['degrade'][number];

/** The images to test on, the pairs of them, and how both came about. */
export interface TestSet {
  dataset: FaceSet;
  pairs: Pairs;
  /** Pairs left out because an image could not be used. */
  failures: number;
  /** Those images. */
  failed?: readonly string[];
  data: string;
  rule: string;
}

/** `blur=9`, `occlusion=0.3`, `yaw=50`, or several joined by `+`; `clean` for none. */
export function degradationName(degradation: Degradation): string {
  return (
    Object.entries(degradation)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => `${key}=${value}`)
      .join('+') || 'clean'
  );
}

/**
 * Embeddings [n, D] and confidences [n, K] of all images of the dataset, degraded; the centre is cropped. With `evaluate.flip` the
 * mean of an image's and its mirror image's, which is occluded at the same places of the face.
 */
export function embedDataset(
  experiment: Experiment,
  dataset: FaceSet,
  degradation: Degradation = {},
  onProgress?: (images: number, total: number) => void,
): Promise<Features> {
  const { evaluate: options, data } = experiment.config;
  const { yaw } = degradation;
  const batches = readImages(dataset, { batchSize: options.batch_size, workers: data.workers, yaw });
  return embedBatches(experiment, batches, dataset.images, degradation, onProgress);
}

/**
 * The same of images that come in batches one after another, at most `images` of them; the heads are turned already.
 * @throws UserError when the network gives an embedding or a confidence that is not finite
 */
export async function embedBatches(
  experiment: Experiment,
  batches: AsyncIterable<ImageBatch> | Iterable<ImageBatch>,
  images: number,
  { blur = 0, occlusion = 0 }: Degradation = {},
  onProgress?: (images: number, total: number) => void,
): Promise<Features> {
  const { config } = experiment;
  const { embedding_size: width, input_size: side } = config.model;
  const { groups } = config.loss;
  const embedding = new Float32Array(images * width);
  const confidence = experiment.loss.confidence && new Float32Array(images * groups);
  const margin = Math.floor((config.data.image_size - side) / 2);
  const grid = config.augment.occlusion.blocks ** 2;
  let embeddedImages = 0;
  for await (const { start, count, pixels } of batches) {
    const embed = (flip: boolean) => {
      const parameters = new Int32Array(count * augmentColumns);
      for (let i = 0; i < count; i++) {
        // As in training, the share of the blocks is exact and which they are is drawn.
        const draws = new Draws(config.seed, purposes.degrade, 0, start + i);
        const blocks = chooseSome(draws, Math.round(occlusion * grid), grid);
        const occluded = flip ? mirrorBlocks(blocks, config.augment.occlusion.blocks) : blocks;
        encodeAugmentation(parameters, i, { top: margin, left: margin, flip, blur, occluded });
      }
      return experiment.embed(pixels, parameters);
    };
    const sizes = { size: width, groups };
    const plain = { ...embed(false), ...sizes };
    const embedded = config.evaluate.flip ? meanFeatures(plain, { ...embed(true), ...sizes }) : plain;
    embedding.set(embedded.embedding, start * width);
    if (embedded.confidence) confidence?.set(embedded.confidence, start * groups);
    const row = unusableRow(embedded);
    if (row !== undefined)
      throw new UserError(
        `the network gives image ${start + row + 1} of ${images} an embedding or a confidence that is not finite`,
      );
    embeddedImages = start + count;
    onProgress?.(embeddedImages, images);
  }
  return {
    embedding: embedding.subarray(0, embeddedImages * width),
    confidence: confidence?.subarray(0, embeddedImages * groups),
    size: width,
    groups,
  };
}

/** The pairs of which both heads can be turned: all of generated faces. */
function turnablePairs(dataset: FaceSet, pairs: Pairs): Pairs {
  const kept = [...pairs.genuine.keys()].filter((i) =>
    [pairs.first[i], pairs.second[i]].every((image) => dataset.canTurn(image ?? -1)),
  );
  const of = (values: Int32Array) => Int32Array.from(kept, (i) => values[i] ?? 0);
  return {
    first: of(pairs.first),
    second: of(pairs.second),
    genuine: kept.map((i) => pairs.genuine[i] ?? false),
    fold: of(pairs.fold),
  };
}

/** Whether there are pairs of both kinds in two folds at least. */
function enoughOf({ genuine, fold }: Pairs): boolean {
  const folds = (kind: boolean) => new Set([...fold].filter((_, i) => genuine[i] === kind)).size;
  return folds(true) >= 2 && folds(false) >= 2;
}

/** Drawing people where each image's is known, pairs otherwise; null where none are asked for. */
function intervalsOf(scored: ScoredPairs, pairs: Pairs, dataset: FaceSet, config: Config): Intervals | null {
  const { bootstrap: resamples, far } = config.evaluate;
  if (resamples === 0) return null;
  const { labels } = dataset.data;
  const identities = labels.every((label) => label >= 0)
    ? { first: pairs.first.map((i) => labels[i] ?? 0), second: pairs.second.map((i) => labels[i] ?? 0) }
    : undefined;
  return bootstrapIntervals(scored, pairs.fold, far, identities, { resamples, seed: config.seed });
}

/** What one version of the test images gave, for whoever wants more than the figures. */
export interface TestedVersion {
  version: Degradation;
  features: Features;
  /** Of all pairs, or of those that can be turned. */
  scored: ScoredPairs;
  row: EvaluationRow;
}

/**
 * All figures of the experiment as it stands. `versions` defaults to clean and the configured degradations; `onVersion` is given each
 * as it is done.
 */
export async function evaluate(
  experiment: Experiment,
  test: TestSet,
  versions: readonly Degradation[] = [{}, ...experiment.config.evaluate.degrade],
  onVersion?: (tested: TestedVersion) => void,
): Promise<Evaluation> {
  const { model, data, loss, evaluate: options } = experiment.config;
  const { dataset, pairs, failures, failed = [] } = test;
  const groups = loss.groups;
  const rows: EvaluationRow[] = [];
  let correlation: number | null = null;
  const leftOut = versions.filter(({ yaw }) => yaw !== undefined && !enoughOf(turnablePairs(dataset, pairs)));
  for (const version of versions.filter((one) => !leftOut.includes(one))) {
    const features = await embedDataset(experiment, dataset, version);
    const used = version.yaw === undefined ? pairs : turnablePairs(dataset, pairs);
    const scored = scorePairs(features, used, options.score);
    const row = {
      version: degradationName(version),
      verification: verification(scored, used.fold, options.far),
      intervals: intervalsOf(scored, used, dataset, experiment.config),
      reject: features.confidence
        ? rejectCurve(scored, pairQuality(imageQuality(features), used), Math.max(...options.far))
        : null,
    };
    rows.push(row);
    onVersion?.({ version, features, scored, row });
    if (degradationName(version) === 'clean')
      correlation = subEmbeddingCorrelation(
        features.embedding,
        dataset.data.labels,
        groups,
        model.embedding_size / groups,
      ).mean;
  }
  const protocol = {
    data: test.data,
    pairs: test.rule,
    identities: dataset.identities,
    folds: new Set(pairs.fold).size,
    alignment:
      dataset.data.source.kind === 'synthetic'
        ? 'exact: five points of the generated head'
        : 'as the images are',
    crop: `${model.input_size} pixels from the centre of ${data.image_size}`,
    colour: 'RGB',
    flip: options.flip,
    score: scoreDefinition(options.score, groups),
    fusion: options.flip ? 'the mean of an image and its mirror image' : 'none: one image on each side',
    failures,
  };
  return { protocol, rows, leftOut: leftOut.map(degradationName), failed, correlation };
}
