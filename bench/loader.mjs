// The loader's rate beside the decoder's own, in turns, with two workers: images a second at 112 x 112, shuffled batches of 64.
//   decoder: two threads that only decode, from memory, the same JPEG images
//   loader: whole batches out of Loader.next(), images read and decoded, augmentation drawn; and with 30 % of the faces turned, where meshes are fitted
// On a machine under other load the rates tell of the load; the processor time of an image, of all threads together, does not.
// usage: node bench/loader.mjs SET [SECONDS]   Build first; SET is of 112-pixel faces, in any format.
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { openSource } from '../dist/data/formats/image-source.js';
import { decodeImage } from '../dist/data/image-file.js';

const size = 112;
const workers = 2;

if (!isMainThread) {
  const { source, items } = workerData;
  const reader = openSource(source);
  const images = items.map((item) => Buffer.from(reader.bytes(item)));
  const out = new Uint8Array(size * size * 3);
  parentPort.on('message', (milliseconds) => {
    const began = performance.now();
    let done = 0;
    for (; performance.now() - began < milliseconds; done++)
      decodeImage(images[done % images.length], size, out);
    parentPort.postMessage((1000 * done) / (performance.now() - began));
  });
} else {
  const { openPhotographs } = await import('../dist/data/photographs.js');
  const { Loader } = await import('../dist/data/loader.js');
  const { configSchema } = await import('../dist/config/schema.js');
  const [path, seconds = '2'] = process.argv.slice(2);
  if (path === undefined) throw new Error('usage: node bench/loader.mjs SET [SECONDS]');
  const milliseconds = 1000 * Number(seconds);
  const { faces } = await openPhotographs(path, { size });
  const step = Math.max(1, Math.floor(faces.images / 1000));
  const items = Array.from({ length: Math.min(1000, faces.images) }, (_, i) => faces.data.items[i * step]);
  const source = faces.data.source.images;
  const threads = Array.from(
    { length: workers },
    () => new Worker(new URL(import.meta.url), { workerData: { source, items } }),
  );
  const decoder = async () => {
    const rates = await Promise.all(
      threads.map(
        (thread) =>
          new Promise((resolve) => {
            thread.once('message', resolve);
            thread.postMessage(milliseconds);
          }),
      ),
    );
    return rates.reduce((a, b) => a + b);
  };
  const { augment } = configSchema.parse({ name: 'bench' });
  /** The rate, and microseconds of processor time for an image. */
  const measured = async (run) => {
    const [before, began] = [process.cpuUsage(), performance.now()];
    const rate = await run();
    const { user, system } = process.cpuUsage(before);
    return { rate, cost: (user + system) / ((rate * (performance.now() - began)) / 1000) };
  };
  const loaderRate = async (probability) => {
    const variations = { ...augment, pose: { ...augment.pose, probability } };
    const loader = new Loader({ faces, batchSize: 64, seed: 1, crop: 100, flip: true, variations, workers });
    for (let i = 0; i < 20; i++) await loader.next();
    const result = await measured(async () => {
      const began = performance.now();
      let done = 0;
      for (; performance.now() - began < milliseconds; done += 64) await loader.next();
      return (1000 * done) / (performance.now() - began);
    });
    await loader.close();
    return result;
  };
  const rounds = { decoder: [], loader: [], turning: [] };
  await decoder();
  for (let round = 0; round < 5; round++) {
    rounds.decoder.push(await measured(decoder));
    rounds.loader.push(await loaderRate(0));
    if (faces.yawAvailable) rounds.turning.push(await loaderRate(0.3));
  }
  const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
  const percent = (list) => `${(100 * median(list)).toFixed(0)} %`;
  for (const [name, list] of Object.entries(rounds))
    if (list.length > 0)
      console.log(
        `${name}: ${median(list.map(({ rate }) => rate)).toFixed(0)} images a second, ` +
          `${median(list.map(({ cost }) => cost)).toFixed(0)} us of processor time each; of the decoder's own: ` +
          `${percent(list.map(({ rate }, i) => rate / rounds.decoder[i].rate))} by the clock, ` +
          `${percent(list.map(({ cost }, i) => rounds.decoder[i].cost / cost))} by processor time`,
      );
  await Promise.all(threads.map((thread) => thread.terminate()));
}
