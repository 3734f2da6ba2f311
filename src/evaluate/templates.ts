/**
 * Templates: several images of one person as one embedding (§3.5). Images of one medium (a photograph, a video) are joined
 * first, so that a long video counts as much as a photograph; then the media.
 *
 *     mean        f = mean over media of the mean over the medium's images, of whole embeddings
 *     precision   f^(k) = Σ s^(k) f^(k) / Σ s^(k): for each sub-embedding the mean weighted with the confidences s = 1 / σ²
 *
 * For `precision` a medium has the mean confidence of its images, which are far from independent, and the template the sum of its
 * media's, as independent measurements would. Then each group is brought to length 1; one that came out zero stays zero.
 */
import { confidenceOf, type Features } from './scores.js';

export const fusionNames = ['mean', 'precision'] as const;
export type FusionName = (typeof fusionNames)[number];

/** How several images become one template, in words. */
export const fusionDefinitions: Readonly<Record<FusionName, string>> = {
  mean: 'mean of the images of each medium, then of the media, each sub-embedding brought to length 1',
  precision:
    'mean of the images of each medium, then of the media, weighted with the confidence of each sub-embedding and brought to length 1; ' +
    'a medium has the mean confidence of its images, a template the sum of its media’s',
};

/** The images of one template, by medium: rows of the features. */
export type TemplateMedia = readonly (readonly number[])[];

/** What is summed: a value [D] and a weight [K]. */
interface Part {
  value: Float64Array;
  weight: Float64Array;
}

/** Σ w f / Σ w per group; the weights become their sum or mean. A group whose weights are all zero stays zero. */
function join(parts: readonly Part[], groups: number, weights: 'sum' | 'mean'): Part {
  const size = parts[0]?.value.length ?? 0;
  const each = size / groups;
  const value = new Float64Array(size);
  const weight = new Float64Array(groups);
  for (const part of parts)
    for (let k = 0; k < groups; k++) {
      const w = part.weight[k] as number;
      weight[k] = (weight[k] as number) + w;
      for (let i = k * each; i < (k + 1) * each; i++)
        value[i] = (value[i] as number) + w * (part.value[i] as number);
    }
  for (let k = 0; k < groups; k++) {
    const total = weight[k] as number;
    for (let i = k * each; i < (k + 1) * each; i++) value[i] = total > 0 ? (value[i] as number) / total : 0;
    if (weights === 'mean') weight[k] = total / parts.length;
  }
  return { value, weight };
}

function normaliseGroups(value: Float64Array, groups: number): void {
  const each = value.length / groups;
  for (let begin = 0; begin < value.length; begin += each) {
    let square = 0;
    for (let i = begin; i < begin + each; i++) square += (value[i] as number) ** 2;
    const norm = Math.sqrt(square);
    if (norm > 0) for (let i = begin; i < begin + each; i++) value[i] = (value[i] as number) / norm;
  }
}

/** For each row, the `mean` of both sets' rows: of images and their mirror images, say. */
export function meanFeatures(a: Features, b: Features): Features {
  const { size, groups } = a;
  const embedding = new Float32Array(a.embedding.length);
  for (let row = 0; row < embedding.length; row += size) {
    const sum = Float64Array.from(
      { length: size },
      (_, i) => (a.embedding[row + i] ?? 0) + (b.embedding[row + i] ?? 0),
    );
    normaliseGroups(sum, groups);
    embedding.set(sum, row);
  }
  return {
    embedding,
    confidence: a.confidence?.map((s, i) => (s + (b.confidence?.[i] ?? s)) / 2),
    size,
    groups,
  };
}

/**
 * One row for each template. A template without images is a row of zeros, whose cosine with anything is 0; its confidence is 0 too.
 * @throws UserError when `precision` is asked for without confidences
 */
export function poolTemplates(
  features: Features,
  templates: readonly TemplateMedia[],
  fusion: FusionName,
): Features {
  const { embedding, size, groups } = features;
  const confidence = fusion === 'precision' ? confidenceOf(features) : features.confidence;
  const pooled = new Float32Array(templates.length * size);
  const pooledConfidence = confidence && new Float32Array(templates.length * groups);
  const rowOf = (row: number): Part => ({
    value: Float64Array.from(embedding.subarray(row * size, (row + 1) * size)),
    weight: confidence
      ? Float64Array.from(confidence.subarray(row * groups, (row + 1) * groups))
      : new Float64Array(groups),
  });
  const equally = ({ value }: Part): Part => ({ value, weight: new Float64Array(groups).fill(1) });
  templates.forEach((media, index) => {
    const used = media.filter((images) => images.length > 0);
    if (used.length === 0) return;
    const byMedium = used.map((images) => {
      const parts = images.map(rowOf);
      const { weight } = join(parts, groups, 'mean');
      const { value } = join(fusion === 'precision' ? parts : parts.map(equally), groups, 'mean');
      return { value, weight };
    });
    const { weight } = join(byMedium, groups, 'sum');
    const { value } = join(fusion === 'precision' ? byMedium : byMedium.map(equally), groups, 'mean');
    normaliseGroups(value, groups);
    pooled.set(value, index * size);
    pooledConfidence?.set(weight, index * groups);
  });
  return { embedding: pooled, confidence: pooledConfidence, size, groups };
}
