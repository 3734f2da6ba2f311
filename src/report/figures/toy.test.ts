import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { renderSvg } from '../figure.js';
import { toyFigure } from './toy-picture.js';
import { between, toy } from './toy.js';

const test = suite('toy figure');

test('angles between directions', () => {
  assert.is(between(350, 10), 20);
  assert.is(between(10, 350), 20);
  assert.is(between(0, 180), 180);
});

test('the same seed gives the same points and curves, another seed others', () => {
  const options = { samples: 4, steps: 5 };
  assert.equal(toy({ seed: 1, ...options }), toy({ seed: 1, ...options }));
  assert.not.equal(toy({ seed: 2, ...options }).samples, toy({ seed: 1, ...options }).samples);
});

// At the end of the plain run, turning any one prototype by 5 degrees either way makes a loss written out plainly larger.
test('plain prototypes end where softmax of cosines is lowest', () => {
  const scale = 4;
  const { samples, runs } = toy({ seed: 1, scale, steps: 600 });
  const cosine = (a: number, b: number) => Math.cos(((a - b) * Math.PI) / 180);
  const loss = (prototypes: readonly number[]) =>
    samples.reduce((sum, { angle, identity }) => {
      const logits = prototypes.map((prototype) => scale * cosine(angle, prototype));
      const total = logits.reduce((all, logit) => all + Math.exp(logit), 0);
      return sum + Math.log(total) - (logits[identity] ?? NaN);
    }, 0);
  const { prototypes } = runs[0];
  const end = loss(prototypes);
  for (const turned of prototypes.keys())
    for (const by of [-5, 5])
      assert.ok(loss(prototypes.map((angle, i) => (i === turned ? angle + by : angle))) > end);
});

// Seen for seeds 1 to 4: 5.0 to 6.7 degrees with the confidence, 8.3 to 11.6 at the best of the constant scales.
test('clean samples get the higher confidence and draw the prototypes nearer than any constant scale does', () => {
  for (const seed of [1, 2, 3, 4]) {
    const { samples, runs, plainByScale } = toy({ seed });
    const confidences = (clean: boolean) =>
      samples.filter((one) => one.clean === clean).map(({ confidence }) => confidence);
    assert.ok(Math.min(...confidences(true)) > Math.max(...confidences(false)));
    const [start, end] = [runs[1].distance[0] ?? NaN, runs[1].distance.at(-1) ?? NaN];
    const best = Math.min(...plainByScale.map(({ distance }) => distance));
    assert.ok(end < best && end < start, `seed ${seed}: ${start} to ${end}, plain ${best}`);
  }
});

test('numbers that make no figure are refused', () => {
  assert.throws(() => toy({ seed: 1, steps: 0 }), 'steps to be a whole number from 1, got 0');
  assert.throws(() => toy({ seed: 1, samples: 1.5 }), 'samples to be a whole number from 1, got 1.5');
  assert.throws(() => toy({ seed: 1, scale: 0 }), 'a scale above 0, got 0');
});

test('the picture is the same each time, says what it is, and has finite numbers', () => {
  const [once, again] = [renderSvg(toyFigure(), 'page'), renderSvg(toyFigure(), 'page')];
  assert.is(once, again);
  assert.match(once, '<title>C-Softmax in two dimensions</title><desc>A toy, not a measurement');
  assert.not.match(once, /NaN|undefined/);
  assert.not.match(toyFigure().table.rows.flat().join(' '), /NaN/);
});

test.run();
