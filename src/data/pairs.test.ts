import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { drawPairs, readPairs } from './pairs.js';

const test = suite('pairs');
const folder = mkdtempSync(join(tmpdir(), 'turl-'));
test.after(() => rmSync(folder, { recursive: true }));
const labels = Array.from({ length: 200 }, (_, i) => Math.floor(i / 5)); // 40 identities, 5 images each

test('drawn pairs: balanced, true to the labels, not repeated, no identity in two folds, repeatable', () => {
  const pairs = drawPairs(labels, 310, 10, 7);
  // Of 155 of each kind the first five folds have one more.
  for (const kind of [true, false])
    assert.equal(
      Array.from(
        { length: 10 },
        (_, f) => pairs.fold.filter((fold, i) => fold === f && pairs.genuine[i] === kind).length,
      ),
      [16, 16, 16, 16, 16, 15, 15, 15, 15, 15],
    );
  const folds = new Map<number, number>();
  const seen = new Set<string>();
  pairs.genuine.forEach((genuine, i) => {
    const [a, b] = [pairs.first[i] as number, pairs.second[i] as number];
    assert.is(labels[a] === labels[b], genuine);
    assert.is.not(a, b);
    seen.add([a, b].sort((x, y) => x - y).join());
    for (const image of [a, b]) {
      const label = labels[image] as number;
      assert.is(folds.get(label) ?? pairs.fold[i], pairs.fold[i]);
      folds.set(label, pairs.fold[i] as number);
    }
  });
  assert.is(seen.size, 310);
  assert.equal(drawPairs(labels, 310, 10, 7), pairs);
  assert.not.equal(drawPairs(labels, 310, 10, 8).first, pairs.first);
});

test('too few identities or images are named', () => {
  assert.throws(
    () => drawPairs([0, 0, 1, 1], 20, 10, 1),
    /^evaluate\.folds: expected at least 20 held-out identities .* 10 folds, found 2$/,
  );
  assert.throws(
    () => drawPairs(labels, 10000, 10, 1),
    /fold 0 has 4 identities and 20 images, enough for 40 and 150/,
  );
});

test('a pairs file: folds, missing images, mistakes with their line', () => {
  const file = join(folder, 'pairs.txt');
  const find = (name: string, number: number) =>
    name === 'gone' ? undefined : name.charCodeAt(0) * 10 + number;
  writeFileSync(file, '2\t1\na\t1\t2\na\t1\tb\t3\ngone 1 2\nb 1 c 1\n');
  const { pairs, failures } = readPairs(file, find);
  assert.is(failures, 1);
  assert.equal([...pairs.first], [971, 971, 981]);
  assert.equal([...pairs.second], [972, 983, 991]);
  assert.equal(pairs.genuine, [true, false, false]);
  assert.equal([...pairs.fold], [0, 0, 1]);
  writeFileSync(file, '1 1\na 1 2\na x b 3\n');
  assert.throws(
    () => readPairs(file, find),
    /pairs\.txt:3: expected "NAME i j" or "NAME i OTHER j", found "a x b 3"/,
  );
  writeFileSync(file, '1 2\na 1 2\n');
  assert.throws(() => readPairs(file, find), /expected 4 pairs as the first line says, found 1/);
  assert.throws(
    () => readPairs('/nowhere/pairs.txt', find),
    /pairs file \/nowhere\/pairs.txt cannot be read/,
  );
});

test.run();
