import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { medianInterval, quantile } from './median.js';

const test = suite('interval of the median');

test('order statistics of the textbook', () => {
  // 2 P(X = 0) is 0.0625 for n = 5 and 0.03125 for n = 6; n = 16: 2 P(X < 4) = 0.0213, 2 P(X < 5) = 0.0768.
  assert.is(medianInterval([1, 2, 3, 4, 5]), undefined);
  assert.equal(medianInterval([6, 1, 5, 2, 4, 3]), { median: 3.5, low: 1, high: 6 });
  const sixteen = Array.from({ length: 16 }, (_, i) => i + 1);
  assert.equal(medianInterval(sixteen), { median: 8.5, low: 4, high: 13 });
  assert.is(medianInterval([]), undefined);
});

test('quantiles lie between order statistics', () => {
  assert.is(quantile([3, 1, 2, 4, 5], 0.5), 3);
  assert.is(quantile([0, 10], 0.1), 1);
  assert.ok(Number.isNaN(quantile([], 0.5)));
});

test.run();
