/** What a report shows of one run: its log, and what its network says of the test images. */
import { join } from 'node:path';
import sharp from 'sharp';
import { openDataset } from '../data/dataset.js';
import { openReader, type FaceSet } from '../data/face-set.js';
import { linesOf } from '../data/formats/lines.js';
import { subEmbeddingCorrelation, type Correlation } from '../evaluate/correlation.js';
import { evaluate } from '../evaluate/evaluate.js';
import { imageQuality } from '../evaluate/reject.js';
import { withRun } from '../evaluate/run.js';
import type { Features } from '../evaluate/scores.js';
import type { Evaluation } from '../evaluate/table.js';
import { openTestSet } from '../evaluate/test-set.js';
import { configToYaml, type Config } from '../config/index.js';
import { runConfig } from '../train/run-directory.js';
import type { LogLine } from './figures/training.js';
import type { VersionScores } from './figures/verification.js';
import { severityCurves, type SeverityCurves } from './severity.js';

export interface RunReport {
  readonly name: string;
  readonly config: Config;
  readonly yaml: string;
  readonly log: readonly LogLine[];
  /** What the network says; undefined where there is nothing to test on. */
  readonly tested: Tested | undefined;
}

export interface Tested {
  readonly evaluation: Evaluation;
  readonly versions: readonly VersionScores[];
  readonly confidences: readonly { name: string; confidence: Float32Array; groups: number }[];
  readonly correlation: Correlation | undefined;
  readonly severity: SeverityCurves | undefined;
  /** PNG images of the test set of which the network is most and least sure. */
  readonly faces: { readonly most: readonly Face[]; readonly least: readonly Face[] } | undefined;
}

export interface Face {
  readonly name: string;
  /** Mean log confidence. */
  readonly quality: number;
  readonly png: Buffer;
}

/** The lines of metrics.jsonl; one that was cut off is left out. */
function readLog(run: string): LogLine[] {
  const log: LogLine[] = [];
  for (const text of linesOf(join(run, 'metrics.jsonl')))
    try {
      const { step, ...values } = JSON.parse(text) as { step: number } & Record<string, number>;
      log.push({ step, values });
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  return log;
}

const shown = 12;

const correlationOf = ({ embedding, groups, size }: Features, { data }: FaceSet): Correlation =>
  subEmbeddingCorrelation(embedding, data.labels, groups, size / groups);

/** The images that the network is most and least sure of. */
async function surestFaces(features: Features, faces: FaceSet): Promise<NonNullable<Tested['faces']>> {
  const quality = imageQuality(features);
  const order = [...quality.keys()].sort((a, b) => (quality[b] ?? 0) - (quality[a] ?? 0) || a - b);
  const reader = openReader(faces);
  const side = faces.size;
  const faceOf = async (image: number): Promise<Face> => {
    const pixels = new Uint8Array(side * side * 3);
    reader.read(image, pixels);
    const png = await sharp(pixels, { raw: { width: side, height: side, channels: 3 } })
      .png()
      .toBuffer();
    return { name: faces.imageName(image), quality: quality[image] ?? NaN, png };
  };
  return {
    most: await Promise.all(order.slice(0, shown).map(faceOf)),
    least: await Promise.all(order.slice(-shown).reverse().map(faceOf)),
  };
}

/** @param name what the report calls it */
export async function collectRun(path: string, name: string): Promise<RunReport> {
  const config = runConfig(path);
  const base = { name, config, yaml: configToYaml(config), log: readLog(path) };
  if (config.stage === 'attributes') return { ...base, tested: undefined };
  const tested = await withRun(path, [], async (experiment): Promise<Tested | undefined> => {
    const test = await openTestSet(config, () => openDataset(config));
    if (!test) return undefined;
    const versions: VersionScores[] = [];
    const confidences: Tested['confidences'][number][] = [];
    let clean: Features | undefined;
    const evaluation = await evaluate(experiment, test, undefined, ({ version, features, scored, row }) => {
      if (version.yaw !== undefined) return; // of other pairs, since not every face can be turned
      const { confidence, groups } = features;
      if (row.version === 'clean') clean = features;
      if (confidence) confidences.push({ name: row.version, confidence, groups });
      versions.push({ name: row.version, pairs: scored, reject: row.reject });
    });
    const correlation = clean && clean.groups > 1 ? correlationOf(clean, test.dataset) : undefined;
    const faces = clean?.confidence && (await surestFaces(clean, test.dataset));
    const severity = await severityCurves(experiment, test.dataset);
    return { evaluation, versions, confidences, correlation, severity, faces };
  });
  return { ...base, tested };
}
