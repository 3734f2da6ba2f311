/** Confidence against image degradation: the quality of test images as they are blurred or covered further and further. */
import type { FaceSet } from '../data/face-set.js';
import { openReader } from '../data/face-set.js';
import type { ImageBatch } from '../data/read-images.js';
import { embedBatches, type Degradation } from '../evaluate/evaluate.js';
import { imageQuality } from '../evaluate/reject.js';
import type { Experiment } from '../train/experiment.js';

/** Quartiles over the images of the mean log confidence, at one severity. */
export interface SeverityPoint {
  readonly severity: number;
  readonly low: number;
  readonly median: number;
  readonly high: number;
}

export interface SeverityCurves {
  readonly images: number;
  /** By kernel size in pixels; 1 is no blur. */
  readonly blur: readonly SeverityPoint[];
  /** By share of the blocks covered. */
  readonly occlusion: readonly SeverityPoint[];
}

const most = 256; // images: the quartiles of so many are known well enough to draw
const shares = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6];

/** The values below which a quarter, a half and three quarters lie, each one of the values. */
function quartiles(values: Float64Array): [number, number, number] {
  const sorted = values.slice().sort();
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? NaN;
  return [at(0.25), at(0.5), at(0.75)];
}

/** Undefined where the experiment has no confidences. */
export async function severityCurves(
  experiment: Experiment,
  faces: FaceSet,
): Promise<SeverityCurves | undefined> {
  if (!experiment.loss.confidence) return undefined;
  const { config } = experiment;
  const images = Math.min(most, faces.images);
  const bytes = faces.size * faces.size * 3;
  const pixels = new Uint8Array(images * bytes);
  const reader = openReader(faces);
  for (let i = 0; i < images; i++)
    reader.read(Math.floor((i * faces.images) / images), pixels.subarray(i * bytes, (i + 1) * bytes));
  const size = config.evaluate.batch_size;
  const batches: ImageBatch[] = [];
  for (let start = 0; start < images; start += size) {
    const count = Math.min(size, images - start);
    batches.push({ start, count, pixels: pixels.subarray(start * bytes, (start + count) * bytes) });
  }
  const point = async (severity: number, degradation: Degradation): Promise<SeverityPoint> => {
    const quality = imageQuality(await embedBatches(experiment, batches, images, degradation));
    const [low, median, high] = quartiles(quality);
    return { severity, low, median, high };
  };
  const blur = [await point(1, {})];
  for (const kernel of config.augment.blur.sizes) blur.push(await point(kernel, { blur: kernel }));
  const occlusion: SeverityPoint[] = [];
  for (const share of shares) occlusion.push(await point(share, { occlusion: share }));
  return { images, blur, occlusion };
}
