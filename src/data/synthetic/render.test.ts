import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { alignedPoints, fitSimilarity } from '../../align/similarity.js';
import { FaceRenderer } from './render.js';
import { drawScene, usualVariety } from './scene.js';

const test = suite('synthetic faces');
const size = 56;
const render = (renderer: FaceRenderer, identity: number, image: number, yaw?: number): Uint8Array => {
  const out = new Uint8Array(renderer.size ** 2 * 3);
  renderer.render(identity, image, out, yaw);
  return out;
};
const difference = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((sum, x, i) => sum + Math.abs(x - (b[i] ?? 0)), 0) / a.length;

test('the same seed gives the same bytes, in any order', () => {
  const one = new FaceRenderer(7, size);
  const first = render(one, 3, 2);
  render(one, 4, 0);
  assert.equal(render(one, 3, 2), first);
  const other = new FaceRenderer(7, size);
  render(other, 9, 1);
  assert.equal(render(other, 3, 2), first);
  assert.ok(difference(render(new FaceRenderer(8, size), 3, 2), first) > 5);
});

test('yaw replaces the drawn one and nothing else', () => {
  const renderer = new FaceRenderer(7, size);
  const { yaw } = drawScene(7, 5, 1, usualVariety);
  const straight = render(renderer, 5, 1);
  assert.equal(render(renderer, 5, 1, yaw), straight);
  const turned = render(renderer, 5, 1, 50);
  assert.ok(difference(turned, straight) > 5);
});

test('eyes are where aligned crops have them', () => {
  const still = { expression: 0, pose: 0, light: 0, camera: 0 };
  const renderer = new FaceRenderer(2, 112, still);
  for (let identity = 0; identity < 8; identity++) {
    const image = render(renderer, identity, 0);
    for (const [eyeX, eyeY] of alignedPoints.slice(0, 2)) {
      // The pupil is the darkest spot: the centre of what is near black within 7 pixels of the template's eye.
      let [sum, sx, sy, least] = [0, 0, 0, 255];
      const at = (x: number, y: number): number => image[(y * 112 + x) * 3] ?? 0;
      const window = (visit: (x: number, y: number) => void): void => {
        for (let y = Math.round(eyeY) - 4; y <= eyeY + 4; y++)
          for (let x = Math.round(eyeX) - 7; x <= eyeX + 7; x++) visit(x, y);
      };
      window((x, y) => (least = Math.min(least, at(x, y))));
      window((x, y) => {
        if (at(x, y) > least + 8) return;
        sum++;
        sx += x;
        sy += y;
      });
      // Gaze moves the pupil by up to one iris radius, 3.5 pixels; the fit of five points leaves some 2 more.
      assert.ok(Math.hypot(sx / sum - eyeX, sy / sum - eyeY) < 6, `${identity}: ${sx / sum}, ${sy / sum}`);
    }
  }
});

test('a similarity is recovered from points it moved', () => {
  const moved = alignedPoints.map(([x, y]): [number, number] => [
    0.8 * x - 0.3 * y + 5,
    0.3 * x + 0.8 * y - 2,
  ]);
  const fit = fitSimilarity(alignedPoints, moved);
  [0.8, 0.3, 5, -2].forEach((value, i) => assert.ok(Math.abs((fit[i] ?? 0) - value) < 1e-12));
});

// Rank-1 rate of a nearest-centroid classifier: images 0-5 of each identity make the centroid, 6-8 are the probes.
function nearestCentroid(features: Float64Array[][]): number {
  const centroids = features.map((images) => {
    const mean = new Float64Array(images[0]?.length ?? 0);
    for (const image of images.slice(0, 6)) image.forEach((x, i) => (mean[i] = (mean[i] ?? 0) + x / 6));
    return mean;
  });
  let right = 0;
  let total = 0;
  features.forEach((images, identity) => {
    for (const probe of images.slice(6)) {
      const distances = centroids.map((c) => c.reduce((sum, x, i) => sum + (x - (probe[i] ?? 0)) ** 2, 0));
      if (distances.indexOf(Math.min(...distances)) === identity) right++;
      total++;
    }
  });
  return right / total;
}

test('faces tell identities apart, colours and backgrounds do not', () => {
  const identities = 40;
  // Frontal, because centroids of pixels cannot follow a turned head; a network can.
  const renderer = new FaceRenderer(3, size, { ...usualVariety, pose: 0, camera: 0 });
  const images = Array.from({ length: identities }, (_, identity) =>
    Array.from({ length: 9 }, (_, image) => render(renderer, identity, image)),
  );
  const features = (f: (image: Uint8Array) => Float64Array): number =>
    nearestCentroid(images.map((list) => list.map(f)));
  const meanColour = features((image) => {
    const mean = new Float64Array(3);
    image.forEach((x, i) => (mean[i % 3] = (mean[i % 3] ?? 0) + x));
    return mean;
  });
  const histogram = features((image) => {
    const counts = new Float64Array(24);
    image.forEach((x, i) => (counts[(i % 3) * 8 + (x >> 5)] = (counts[(i % 3) * 8 + (x >> 5)] ?? 0) + 1));
    return counts.map(Math.sqrt);
  });
  const corners = features((image) => Float64Array.from([0, 1, 2, 165, 166, 167].map((i) => image[i] ?? 0)));
  // The face's structure: grey, the middle 40 x 40 pixels, the local mean taken away, unit length.
  const structure = features((image) => {
    const grey = (x: number, y: number): number => {
      const i = (y * size + x) * 3;
      return (image[i] ?? 0) + (image[i + 1] ?? 0) + (image[i + 2] ?? 0);
    };
    const out = new Float64Array(400);
    for (let i = 0; i < 400; i++) {
      const x = 8 + (i % 20) * 2;
      const y = 12 + Math.floor(i / 20) * 2;
      let local = 0;
      for (let dy = -4; dy <= 4; dy += 2)
        for (let dx = -4; dx <= 4; dx += 2) local += grey(x + dx, y + dy) / 25;
      out[i] = grey(x, y) - local;
    }
    const norm = Math.hypot(...out);
    return out.map((x) => x / norm);
  });
  const told = `colour ${meanColour}, histogram ${histogram}, corners ${corners}, structure ${structure}`;
  // Chance is 0.025. A network does far better than centroids of pixels; here only the order of things matters.
  assert.ok(corners < 0.1, told);
  assert.ok(meanColour < 0.5 * structure && histogram < 0.75 * structure, told);
  assert.ok(structure > 0.4, told);
});

test.run();
