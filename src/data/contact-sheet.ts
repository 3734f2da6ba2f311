// A contact sheet: the images of a batch as the network sees them, in a PNG, with a label under each.
import sharp from 'sharp';
import { check } from '../tensor/errors.js';
import { writeAtomic } from '../train/atomic.js';

export interface ContactSheetOptions {
  /** Normalised pixels [B, size, size, 3]: (value - mean) / scale. */
  images: ArrayLike<number>;
  size: number;
  mean: number;
  scale: number;
  /** One short text for each image, such as its identity and variations. */
  labels?: readonly string[];
  columns?: number;
  /** How much larger than life, a whole number; by default so that a face is at least 80 pixels wide. */
  zoom?: number;
}

const escape = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c] ?? c);

/** Writes the sheet to `file`, whole or not at all, and returns its size in pixels. */
export async function writeContactSheet(
  file: string,
  options: ContactSheetOptions,
): Promise<{ width: number; height: number }> {
  const { images, size, mean, scale, labels = [], columns = 8 } = options;
  const zoom = options.zoom ?? Math.max(1, Math.ceil(80 / size));
  const count = images.length / (size * size * 3);
  check(Number.isInteger(count) && count > 0, 'contact sheet', `images [B, ${size}, ${size}, 3]`, () =>
    String(images.length),
  );
  const across = Math.min(columns, count);
  const band = labels.length > 0 ? 14 : 0;
  const cell = { width: size * zoom + 2, height: size * zoom + 2 + band };
  const width = across * cell.width;
  const height = Math.ceil(count / across) * cell.height;
  const pixels = Buffer.alloc(width * height * 3, 255);
  for (let n = 0; n < count; n++) {
    const left = (n % across) * cell.width + 1;
    const top = Math.floor(n / across) * cell.height + 1;
    for (let y = 0; y < size * zoom; y++)
      for (let x = 0; x < size * zoom; x++) {
        const from = ((n * size + Math.floor(y / zoom)) * size + Math.floor(x / zoom)) * 3;
        const to = ((top + y) * width + left + x) * 3;
        for (let c = 0; c < 3; c++)
          pixels[to + c] = Math.max(0, Math.min(255, Math.round((images[from + c] ?? 0) * scale + mean)));
      }
  }
  const text = labels.slice(0, count).map((label, n) => {
    const x = ((n % across) + 0.5) * cell.width;
    const y = Math.floor(n / across) * cell.height + cell.height - 4;
    return `<text x="${x}" y="${y}" text-anchor="middle">${escape(label)}</text>`;
  });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="10">${text.join('')}</svg>`;
  const png = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .composite(band > 0 ? [{ input: Buffer.from(svg), left: 0, top: 0 }] : [])
    .png()
    .toBuffer();
  writeAtomic(file, png);
  return { width, height };
}
