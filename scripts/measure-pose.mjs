// How near the yaw of turned faces is to what was asked for: faces of a set that look at the camera are turned to yaws of 40 to 60
// degrees, either side, and measured again with the face mesh; generated faces, whose yaw is exact, show how far the measure itself
// can be trusted. Also faces a second on one thread.
// usage: node scripts/measure-pose.mjs SET [COUNT] [SIZE]   Build first; the set is in any format, of aligned faces.
import { openDetector } from '../dist/align/detector.js';
import { decodeImage } from '../dist/data/image-file.js';
import { openArchive } from '../dist/data/formats/archive.js';
import { openSource, sourceLength } from '../dist/data/formats/image-source.js';
import { FaceRenderer } from '../dist/data/synthetic/render.js';
import { FaceTurner, nearFrontal } from '../dist/pose/turn.js';
import { device } from '../dist/tensor/device.js';

const [path, countText = '200', sizeText = '112'] = process.argv.slice(2);
if (path === undefined) throw new Error('usage: node scripts/measure-pose.mjs SET [COUNT] [SIZE]');
const [count, size] = [Number(countText), Number(sizeText)];
const bytes = size * size * 3;
const detector = openDetector(device('cpu'));
const picture = (pixels) => ({ width: size, height: size, pixels });
const yawOf = (i) => (i % 2 ? 1 : -1) * (40 + (20 * ((i * 7) % count)) / count);
const quantile = (sorted, q) => (sorted[Math.floor(q * (sorted.length - 1))] ?? NaN).toFixed(1);

/** Prints the error of the measured yaws, positive where a head seems turned further than asked. */
function report(what, pictures, asked) {
  const errors = [];
  detector.detect(pictures).forEach(([face], i) => {
    if (face) errors.push({ asked: Math.abs(asked[i]), error: (face.yaw - asked[i]) * Math.sign(asked[i]) });
  });
  console.log(`${what}: ${pictures.length} faces, ${errors.length} of them found again`);
  for (const [low, high] of [
    [40, 60],
    [40, 45],
    [45, 50],
    [50, 55],
    [55, 60],
  ]) {
    const list = errors.filter((e) => e.asked >= low && e.asked < high).map((e) => e.error);
    list.sort((a, b) => a - b);
    const absolute = list.reduce((sum, e) => sum + Math.abs(e), 0) / list.length;
    console.log(
      `  asked ${low}-${high}: error median ${quantile(list, 0.5)}, 5 % ${quantile(list, 0.05)}, 25 % ${quantile(list, 0.25)}, ` +
        `75 % ${quantile(list, 0.75)}, 95 % ${quantile(list, 0.95)}, mean absolute ${absolute.toFixed(1)} degrees`,
    );
  }
}

const { source } = await openArchive(path);
const reader = openSource(source);
const total = sourceLength(source);
const step = Math.max(1, Math.floor(total / (count * 1.6)));
const faces = [];
for (let item = 0; item < total && faces.length < count; item += step) {
  const pixels = new Uint8Array(bytes);
  decodeImage(reader.bytes(item), size, pixels);
  const [[face]] = detector.detect([picture(pixels)]);
  if (face && Math.abs(face.yaw) <= nearFrontal) faces.push({ pixels, mesh: face.mesh });
}
const turner = new FaceTurner(size);
const asked = faces.map((_, i) => yawOf(i));
const turned = faces.map(({ pixels, mesh }, i) => {
  const out = new Uint8Array(bytes);
  turner.turn(pixels, mesh, asked[i], out);
  return picture(out);
});
report('turned photographs', turned, asked);

const renderer = new FaceRenderer(1, size);
const generated = asked.map((yaw, i) => {
  const out = new Uint8Array(bytes);
  renderer.render(i, 0, out, yaw);
  return picture(out);
});
report('generated faces, rendered at the yaw', generated, asked);

const began = performance.now();
let done = 0;
for (; performance.now() - began < 3000; done++) {
  const { pixels, mesh } = faces[done % faces.length];
  turner.turn(pixels, mesh, asked[done % faces.length], turned[0].pixels);
}
console.log(
  `${((1000 * done) / (performance.now() - began)).toFixed(0)} faces a second on one thread at ${size} pixels`,
);
