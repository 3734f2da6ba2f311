import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose, randomValues } from '../testing.js';
import { meanFeatures, poolTemplates, type TemplateMedia } from './templates.js';

const test = suite('templates');
const [size, groups, images] = [6, 2, 9];
const each = size / groups;
const embedding = Float32Array.from(randomValues(images * size, 1));
const confidence = Float32Array.from(randomValues(images * groups, 2), (u) => 1.5 + u);
const features = { embedding, confidence, size, groups };
const templates: TemplateMedia[] = [[[0, 1, 2], [3]], [[4]], [[], [5, 6], [7], [8]], []];

const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const f = (image: number, i: number) => embedding[image * size + i] ?? NaN;
const s = (image: number, k: number) => confidence[image * groups + k] ?? NaN;

/** One element before normalising, by the formulas of the module's head. */
function plain(media: TemplateMedia, i: number, precision: boolean): { value: number; weight: number } {
  const k = Math.floor(i / each);
  const parts = media
    .filter((list) => list.length > 0)
    .map((list) => {
      const weight = mean(list.map((image) => s(image, k)));
      const weighted = list.reduce((sum, image) => sum + s(image, k) * f(image, i), 0);
      const total = list.reduce((sum, image) => sum + s(image, k), 0);
      return { weight, value: precision ? weighted / total : mean(list.map((image) => f(image, i))) };
    });
  const weight = parts.reduce((sum, part) => sum + part.weight, 0);
  const weighted = parts.reduce((sum, part) => sum + part.weight * part.value, 0);
  return { weight, value: precision ? weighted / weight : mean(parts.map(({ value }) => value)) };
}

// The results are float32: 2^-24 of values up to 1.
test('mean and precision-weighted templates equal the formulas', () => {
  for (const fusion of ['mean', 'precision'] as const) {
    const pooled = poolTemplates(features, templates, fusion);
    assert.is(pooled.embedding.length, templates.length * size);
    templates.slice(0, 3).forEach((media, t) => {
      for (let k = 0; k < groups; k++) {
        const group = Array.from({ length: each }, (_, i) =>
          plain(media, k * each + i, fusion === 'precision'),
        );
        const norm = Math.hypot(...group.map(({ value }) => value));
        assertClose(
          pooled.embedding.subarray(t * size + k * each, t * size + (k + 1) * each),
          group.map(({ value }) => value / norm),
          2 ** -24,
          fusion,
        );
        assertClose(
          [pooled.confidence?.[t * groups + k] ?? NaN],
          [group[0]?.weight ?? NaN],
          2 ** -22,
          'confidence',
        );
      }
    });
    assert.equal([...pooled.embedding.subarray(3 * size)], new Array<number>(size).fill(0));
  }
});

test('the mean of two sets is that of templates of both', () => {
  const both = {
    embedding: Float32Array.from([...embedding, ...embedding.map((x, i) => x + Math.sin(i))]),
    confidence: Float32Array.from([...confidence, ...confidence.map((s) => 2 * s)]),
    size,
    groups,
  };
  const part = (begin: number) => ({
    embedding: both.embedding.slice(begin * size, (begin + images) * size),
    confidence: both.confidence.slice(begin * groups, (begin + images) * groups),
    size,
    groups,
  });
  const pairs = Array.from({ length: images }, (_, i) => [[i, images + i]]);
  const expected = poolTemplates(both, pairs, 'mean');
  const found = meanFeatures(part(0), part(images));
  assertClose(found.embedding, expected.embedding, 2 ** -23);
  assertClose(found.confidence ?? [], expected.confidence ?? [NaN], 2 ** -22);
});

test('without confidences there are means only', () => {
  const bare = { ...features, confidence: undefined };
  assert.is(poolTemplates(bare, templates, 'mean').confidence, undefined);
  assert.throws(() => poolTemplates(bare, templates, 'precision'), 'needs confidences');
});

test.run();
