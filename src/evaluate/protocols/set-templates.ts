/**
 * Templates of a protocol's set, and their scores: pairs one by one in double precision, searches a few probes at a time in float32
 * (score-matrix.ts), so that no matrix of scores is ever stored whole. A template without a usable image has failed to enrol: its scores are
 * -Infinity, which is never accepted and never found.
 */
import type { Device, DeviceName } from '../../tensor/device.js';
import { scoreMatrix } from '../score-matrix.js';
import { scoreBetween, type Features, type ScoreName } from '../scores.js';
import { poolTemplates, type FusionName } from '../templates.js';
import type { ProtocolSet } from './protocol.js';

/** The embeddings of the images of a set. */
export interface SetFeatures {
  readonly features: Features;
  /** For each image its row, -1 where it could not be used. */
  readonly rows: Int32Array;
}

/** The templates' embeddings, and which could not be made. */
export interface Templates {
  readonly features: Features;
  readonly failed: Uint8Array;
}

/** One row for each template; those without a usable image have failed. */
export function makeTemplates(
  set: ProtocolSet,
  { features, rows }: SetFeatures,
  fusion: FusionName,
): Templates {
  const { size, groups, embedding, confidence } = features;
  const usable = (images: readonly number[]) =>
    images.map((image) => rows[image] ?? -1).filter((row) => row >= 0);
  if (set.media) {
    const media = set.media.map((template) => template.map(usable));
    return {
      features: poolTemplates(features, media, fusion),
      failed: Uint8Array.from(media, (template) => Number(template.every((images) => images.length === 0))),
    };
  }
  const failed = Uint8Array.from(rows, (row) => Number(row < 0));
  if (rows.every((row, image) => row === image)) return { features, failed };
  const spread = {
    embedding: new Float32Array(rows.length * size),
    confidence: confidence && new Float32Array(rows.length * groups),
  };
  rows.forEach((row, image) => {
    if (row < 0) return;
    spread.embedding.set(embedding.subarray(row * size, (row + 1) * size), image * size);
    if (confidence)
      spread.confidence?.set(confidence.subarray(row * groups, (row + 1) * groups), image * groups);
  });
  return { features: { ...spread, size, groups }, failed };
}

/** These rows: without copying where they follow each other. */
function rowsOf({ embedding, confidence, size, groups }: Features, rows: Int32Array): Features {
  const [begin = 0] = rows;
  const take = (values: Float32Array, width: number) => {
    if (rows.every((row, i) => row === begin + i))
      return values.subarray(begin * width, (begin + rows.length) * width);
    const taken = new Float32Array(rows.length * width);
    rows.forEach((row, i) => taken.set(values.subarray(row * width, (row + 1) * width), i * width));
    return taken;
  };
  return {
    embedding: take(embedding, size),
    confidence: confidence && take(confidence, groups),
    size,
    groups,
  };
}

export interface SearchOptions {
  readonly score: ScoreName;
  readonly device?: Device | DeviceName;
}

/** Scores that are held at a time: 128 MiB. */
const held = 1 << 25;

/**
 * Calls `onProbe` with the scores of each row of `probes` against all of `gallery`, -Infinity where one of both has failed. They hold
 * until the next call.
 */
export function searchAll(
  { features, failed }: Templates,
  probes: Int32Array,
  gallery: Int32Array,
  { score, device = 'cpu' }: SearchOptions,
  onProbe: (probe: number, scores: Float32Array) => void,
): void {
  const columns = rowsOf(features, gallery);
  const chunk = Math.max(1, Math.min(probes.length, 2048, Math.floor(held / Math.max(1, gallery.length))));
  const scores = new Float32Array(chunk * gallery.length);
  const failedEntries = Array.from(gallery.keys()).filter((i) => failed[gallery[i] ?? -1]);
  for (let begin = 0; begin < probes.length; begin += chunk) {
    const part = probes.subarray(begin, begin + chunk);
    scoreMatrix(
      rowsOf(features, part),
      columns,
      score,
      ({ row, column, rows, columns: width, scores: block }) => {
        for (let i = 0; i < rows; i++)
          scores.set(block.subarray(i * width, (i + 1) * width), (row + i) * gallery.length + column);
      },
      { device },
    );
    part.forEach((template, i) => {
      const row = scores.subarray(i * gallery.length, (i + 1) * gallery.length);
      if (failed[template]) row.fill(-Infinity);
      else for (const entry of failedEntries) row[entry] = -Infinity;
      onProbe(begin + i, row);
    });
  }
}

/** The score of each pair; -Infinity where one of both has failed, which is never accepted. */
export function pairScorer(
  { features, failed }: Templates,
  score: ScoreName,
): (a: number, b: number) => number {
  const between = scoreBetween(features, features, score);
  return (a, b) => (failed[a] || failed[b] ? -Infinity : between(a, b));
}
