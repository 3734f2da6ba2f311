import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { loadCheckpoint, loadWeights, tensorSources } from './checkpoint.js';
import { Experiment } from './experiment.js';
import { writeSafetensors, type TensorSource } from './safetensors.js';
import { identities, side, tinyNetwork } from './testing.js';

const test = suite('checkpoints');

test('a checkpoint sets every tensor, of which none was drawn; one that is not there, of another shape or too many is named', () => {
  const folder = mkdtempSync(join(tmpdir(), 'turl-checkpoint-'));
  const made = (seed: number, count = identities, drawn = true) =>
    new Experiment(
      configFrom({
        seed,
        model: tinyNetwork,
        data: { source: 'synthetic', identities: count, image_size: side },
        augment: { occlusion: { blocks: 3 } },
        loss: { groups: 4, confidence: { initial: 4 } },
      }),
      count,
      drawn,
    );
  const [one, other, fewer] = [made(1), made(2, identities, false), made(1, identities - 1)];
  const bits = ({ state }: { state: ReadonlyMap<string, { toBits(): unknown }> }) =>
    [...state].map(([name, t]) => [name, t.toBits()]);
  const file = join(folder, 'a.safetensors');
  const write = (change: (sources: Map<string, TensorSource>) => void = () => undefined) => {
    const sources = tensorSources(one.state());
    change(sources);
    writeSafetensors(file, sources);
  };
  try {
    write();
    for (const t of other.optimizer.parameters.values()) {
      const values = [...t.toArray()];
      assert.ok(
        values.every((value) => value === values[0]),
        'what a checkpoint sets is not drawn',
      );
    }
    loadCheckpoint(file, other, 3);
    assert.equal(bits({ state: other.state() }), bits({ state: one.state() }));
    assert.is(other.optimizer.steps, 3);
    assert.throws(
      () => loadWeights(file, fewer),
      /a\.safetensors: expected loss\..* to be .*, found float32 \[/,
    );
    write((sources) => sources.set('more', { dtype: 'uint8', shape: [1], data: Uint8Array.of(1) }));
    assert.throws(
      () => loadCheckpoint(file, other, 3),
      /a\.safetensors: more belongs to another experiment$/,
    );
    loadWeights(file, other);
    const [name = ''] = one.state().keys();
    write((sources) => sources.delete(name));
    assert.throws(
      () => loadCheckpoint(file, other, 3),
      new RegExp(`expected a tensor ${name}, found none: it is of another experiment$`),
    );
  } finally {
    for (const experiment of [one, other, fewer]) experiment.dispose();
    rmSync(folder, { recursive: true });
  }
});

test.run();
