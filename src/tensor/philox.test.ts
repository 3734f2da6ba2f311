import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  Draws,
  permuted,
  philox,
  purposes,
  randomInt,
  randomNormal,
  randomUniform,
  randomWord,
} from './philox.js';

const test = suite('philox');
const hex = (words: Iterable<number>): string =>
  [...words].map((w) => w.toString(16).padStart(8, '0')).join(' ');

test('the known answers of Random123', () => {
  const out = new Uint32Array(4);
  philox(out, 0, 0, 0, 0, 0, 0);
  assert.is(hex(out), '6627e8d5 e169c58d bc57ac4c 9b00dbd8');
  philox(out, -1, -1, -1, -1, -1, -1);
  assert.is(hex(out), '408f276d 41c83b0e a20bc7c6 6d5451fd');
  philox(out, 0xa4093822, 0x299f31d0, 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344);
  assert.is(hex(out), 'd16cfe09 94fdcceb 5001e420 24126ea1');
});

test('draws in order are the draws by index', () => {
  const draws = new Draws(2 ** 40 + 7, purposes.test, 3, 9);
  for (let i = 0; i < 9; i++) assert.is(draws.word(), randomWord(2 ** 40 + 7, purposes.test, 3, 9, i));
  const normals = new Draws(1, purposes.test, 0, 0);
  for (let i = 0; i < 5; i++) assert.is(normals.normal(), randomNormal(1, purposes.test, 0, 0, i));
});

test('moments of uniform, integer and normal draws', () => {
  // Means of 40,000 draws: five standard errors are 0.0072 (uniform) and 0.025 (normal).
  const n = 40000;
  let mean = 0;
  let normal = 0;
  let square = 0;
  const counts = new Int32Array(7);
  for (let i = 0; i < n; i++) {
    mean += randomUniform(5, purposes.test, 0, 0, i) / n;
    const z = randomNormal(6, purposes.test, 0, 0, i);
    normal += z / n;
    square += (z * z) / n;
    const k = randomInt(7, purposes.test, 0, 0, i, 7);
    counts[k] = (counts[k] ?? 0) + 1;
  }
  assert.ok(Math.abs(mean - 0.5) < 0.0072);
  assert.ok(Math.abs(normal) < 0.025);
  assert.ok(Math.abs(square - 1) < 0.036);
  for (const count of counts) assert.ok(Math.abs(count - n / 7) < 5 * Math.sqrt(n / 7));
});

test('permuted visits every item once, and another epoch in another order', () => {
  for (const n of [1, 2, 3, 64, 1000]) {
    const order = Array.from({ length: n }, (_, i) => permuted(i, n, 11, purposes.shuffle, 0));
    assert.equal(
      [...order].sort((a, b) => a - b),
      Array.from({ length: n }, (_, i) => i),
    );
    const again = order.map((_, i) => permuted(i, n, 11, purposes.shuffle, 1));
    if (n >= 64) assert.ok(order.filter((x, i) => x === again[i]).length < n / 8);
  }
});

const native = fileURLToPath(new URL('../../native', import.meta.url));
// A bundle has no sources.
if (existsSync(native))
  test('native/philox.h draws the same numbers', () => {
    const folder = mkdtempSync(join(tmpdir(), 'turl-philox-'));
    try {
      writeFileSync(
        join(folder, 'main.cpp'),
        `#include "philox.h"
#include <cstdio>
int main() {
  uint64_t seed = (uint64_t(1) << 40) + 7;
  for (uint32_t i = 0; i < 6; i++)
    printf("%u %.9g %u %.12g\\n", turl::random_word(seed, 99, 3, 9, i), turl::random_uniform(seed, 99, 3, 9, i),
           turl::random_int(seed, 99, 3, 9, i, 1000), turl::random_normal(seed, 99, 3, 9, i));
}`,
      );
      execFileSync('c++', ['-std=c++20', '-I', native, join(folder, 'main.cpp'), '-o', join(folder, 'main')]);
      const lines = execFileSync(join(folder, 'main'), { encoding: 'utf8' }).trim().split('\n');
      const seed = 2 ** 40 + 7;
      lines.forEach((line, i) => {
        const [word, uniform, integer, normal] = line.split(' ').map(Number);
        assert.is(word, randomWord(seed, 99, 3, 9, i));
        assert.is(uniform, Number(Number(randomUniform(seed, 99, 3, 9, i)).toPrecision(9)));
        assert.is(integer, randomInt(seed, 99, 3, 9, i, 1000));
        // log and cos of two mathematics libraries may differ in the last bit.
        assert.ok(Math.abs((normal ?? 0) - randomNormal(seed, 99, 3, 9, i)) < 1e-11);
      });
      assert.is(lines.length, 6);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

test.run();
