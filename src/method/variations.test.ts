import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { activeVariations, variationTargets } from './variations.js';

const test = suite('variations');
const probabilities = (blur: number, occlusion: number, pose: number) => ({
  blur: { probability: blur },
  occlusion: { probability: occlusion },
  pose: { probability: pose },
});

test('a variation that is never applied has no label', () => {
  assert.equal(activeVariations(probabilities(0.3, 0.3, 0.3)), ['blur', 'occlusion', 'pose']);
  assert.equal(activeVariations(probabilities(0.3, 0, 0.1)), ['blur', 'pose']);
  assert.equal(activeVariations(probabilities(0, 0, 0)), []);
});

test('targets are the columns of the active variations', () => {
  const applied = [1, 0, 0, 0, 1, 1];
  assert.equal([...variationTargets(applied, ['blur', 'occlusion', 'pose'])], applied);
  assert.equal([...variationTargets(applied, ['blur', 'pose'])], [1, 0, 0, 1]);
  assert.equal([...variationTargets(applied, [])], []);
  assert.equal([...variationTargets([-1, 0, NaN], ['blur', 'pose'])], [-1, NaN]);
});

test('mined variations follow, with their soft labels', () => {
  const applied = [1, 0, 0, 0, 1, 1];
  assert.equal([...variationTargets(applied, ['blur', 'pose'], [0.25, 0.5, NaN, 0.75])], [1, 0, 0.25, 0.5, 0, 1, NaN, 0.75]); // prettier-ignore
  assert.equal([...variationTargets(applied, [], [0.25, 0.5])], [0.25, 0.5]);
});

test.run();
