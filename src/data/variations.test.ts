import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { trainingYaw } from './face-set.js';
import { drawVariation, type DrawnVariation } from './variations.js';

const test = suite('drawn variations');
const { augment } = configFrom({ data: { source: 'synthetic', identities: 2 } });
const count = 20_000;
const draw = (options = augment, epoch = 0) =>
  Array.from({ length: count }, (_, image) => drawVariation(3, epoch, image, 10, true, options));

/** Whether as many were drawn as a probability says: five standard deviations, which one test in a million leaves. */
function expectShare(found: number, of: number, probability: number, what: string): void {
  const far = 5 * Math.sqrt(of * probability * (1 - probability));
  assert.ok(Math.abs(found - of * probability) < far, `${what}: ${found} of ${of}, expected ${probability}`);
}

const applied = ({ blur, occluded, turned }: DrawnVariation) => [blur !== 0, occluded.length > 0, turned];
const how = (n: number, of: (one: DrawnVariation) => boolean, drawn: readonly DrawnVariation[], p: number) =>
  expectShare(drawn.filter(of).length, drawn.length, p, String(n));

test('the defaults are those of §4: each at 0.3, by itself, so that they combine', () => {
  const drawn = draw();
  for (let combination = 0; combination < 8; combination++) {
    const wanted = [1, 2, 4].map((bit) => (combination & bit) !== 0);
    const probability = wanted.reduce((p, on) => p * (on ? 0.3 : 0.7), 1);
    how(combination, (one) => String(applied(one)) === String(wanted), drawn, probability);
  }
  const blurred = drawn.filter(({ blur }) => blur !== 0);
  for (const size of [3, 5, 7, 9, 11]) how(size, ({ blur }) => blur === size, blurred, 1 / 5);
  how(0, ({ flip }) => flip, drawn, 1 / 2);
  for (let place = 0; place <= 10; place++) {
    how(place, ({ top }) => top === place, drawn, 1 / 11);
    how(place, ({ left }) => left === place, drawn, 1 / 11);
  }
});

test('black blocks: a tenth to a half of 7 x 7, each as often as the others', () => {
  const hidden = draw().flatMap(({ occluded }) => (occluded.length > 0 ? [occluded] : []));
  const blocks = new Array<number>(49).fill(0);
  for (const occluded of hidden) {
    assert.ok(occluded.length >= 5 && occluded.length <= 25);
    assert.is(new Set(occluded).size, occluded.length);
    for (const block of occluded) blocks[block] = (blocks[block] ?? NaN) + 1;
  }
  // The share is uniform from 0.1 to 0.5: 0.3 in the mean of all images.
  blocks.forEach((n, block) => expectShare(n, hidden.length, 0.3, `block ${block}`));
});

test('the yaw is between 40° and 60°, to either side', () => {
  const yaws = Array.from({ length: count }, (_, item) => trainingYaw(3, item, augment.pose.yaw));
  for (const yaw of yaws) assert.ok(Math.abs(yaw) >= 40 && Math.abs(yaw) < 60, String(yaw));
  expectShare(yaws.filter((yaw) => yaw > 0).length, count, 1 / 2, 'to one side');
  expectShare(yaws.filter((yaw) => Math.abs(yaw) < 45).length, count, 1 / 4, 'a quarter of the range');
});

test('a draw is its own: another probability, another epoch', () => {
  const plain = draw();
  const rarer = draw({ ...augment, blur: { ...augment.blur, probability: 0.1 } });
  rarer.forEach(({ blur, ...rest }, i) => {
    const { blur: before, ...others } = plain[i] as DrawnVariation;
    assert.equal(rest, others);
    assert.ok(blur === before || blur === 0);
  });
  // That two epochs agree on a variation by chance: 0.3² + 0.7².
  const next = draw(augment, 1);
  const agree = plain.filter(({ turned }, i) => turned === next[i]?.turned).length;
  expectShare(agree, count, 0.58, 'turned alike');
});

test.run();
