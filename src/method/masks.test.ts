import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { drawMasks } from './masks.js';

const test = suite('masks');

const rows = (masks: Uint8Array, groups: number) =>
  Array.from({ length: masks.length / groups }, (_, t) => masks.slice(t * groups, (t + 1) * groups).join(''));

test('each mask keeps half of the groups and no two are equal', () => {
  for (const [count, groups] of [
    [3, 16],
    [6, 16],
    [6, 4], // all there are
    [2, 2],
    [3, 3], // one half of three is two
  ] as const)
    for (let seed = 1; seed <= 20; seed++) {
      const masks = rows(drawMasks(count, groups, seed), groups);
      assert.is(new Set(masks).size, count);
      for (const mask of masks)
        assert.is(
          [...mask].reduce((sum, bit) => sum + Number(bit), 0),
          Math.round(groups / 2),
        );
    }
});

test('the seed decides; every group is kept about equally often', () => {
  assert.equal(drawMasks(3, 16, 7), drawMasks(3, 16, 7));
  assert.not.equal(drawMasks(3, 16, 7), drawMasks(3, 16, 8));
  // 1000 seeds of 3 masks: kept 1500 times on average with deviation sqrt(3000 / 4) = 27; five of them.
  const kept = new Array<number>(8).fill(0);
  for (let seed = 0; seed < 1000; seed++)
    drawMasks(3, 8, seed).forEach((bit, i) => (kept[i % 8] = (kept[i % 8] as number) + bit));
  for (const n of kept) assert.ok(Math.abs(n - 1500) < 137, `${n} of 3000`);
});

test('too many masks, or masks that keep nothing, are refused', () => {
  assert.throws(
    () => drawMasks(7, 4, 1),
    /masks: 7 variations need as many different masks, but 4 groups \(loss\.groups\) of which 2 are kept give 6/,
  );
  assert.throws(
    () => drawMasks(1, 1, 1),
    /loss\.masks\.share of 1 loss\.groups that keeps at least one and drops at least one, got 0\.5; loss\.lambda_cls=0 with loss\.lambda_adv=0/,
  );
  assert.throws(() => drawMasks(1, 4, 1, 0.1), /keeps at least one/);
});

test.run();
