// Decoding one image file (JPEG, PNG, WebP, PGM, PPM, BMP) to RGB bytes of a given size. The rule: an image that is not square loses
// what is beyond its centred square; one of another size is resized with a triangle filter as wide as the scale (bilinear when
// growing, averaging when shrinking); grey becomes RGB, 16 bits become 8, transparency is dropped. EXIF orientation is
// applied only where photographs are aligned: crops carry none.
import { basename, extname } from 'node:path';
import { Transformer } from '@napi-rs/image';

/** Extensions of the files that are read. */
export const imageExtensions = ['.jpg', '.jpeg', '.png', '.webp', '.pgm', '.ppm', '.bmp'];

/** Whether a file is an image, by its extension. Names that begin with a dot are the system's, as macOS's ._1.jpg. */
export const isImageName = (file: string): boolean =>
  imageExtensions.includes(extname(file).toLowerCase()) && !basename(file).startsWith('.');

/** No photograph has more pixels; and a short file that says it has many is damaged, and would take long to decode to nothing. */
const mostPixels = (bytes: number): number => Math.min(2 ** 26, 2 ** 22 + 4096 * bytes);

// Channels of the decoder's colour types, in its order; from the fifth on they have 16 bits.
const channelsOf = [1, 2, 3, 4, 1, 2, 3, 4];

interface Taps {
  readonly first: Int32Array;
  readonly weights: readonly Float32Array[];
}
const knownTaps = new Map<string, Taps>();

// For each of `to` pixels, the weights of the `from` pixels under the triangle around it.
function tapsFor(from: number, to: number): Taps {
  const key = `${from} ${to}`;
  const known = knownTaps.get(key);
  if (known) return known;
  const scale = from / to;
  const reach = Math.max(1, scale);
  const first = new Int32Array(to);
  const weights = Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale - 0.5;
    const begin = Math.max(0, Math.ceil(centre - reach));
    const end = Math.min(from - 1, Math.floor(centre + reach));
    first[i] = begin;
    const list = Array.from({ length: end - begin + 1 }, (_, k) => 1 - Math.abs(begin + k - centre) / reach);
    const sum = list.reduce((a, b) => a + b, 0);
    return Float32Array.from(list, (w) => w / sum);
  });
  const taps = { first, weights };
  if (knownTaps.size > 256) knownTaps.clear();
  knownTaps.set(key, taps);
  return taps;
}

/** Resizes RGB [side, side, 3] to `out` [size, size, 3]: along rows, then along columns. */
export function resizeSquare(pixels: Uint8Array, side: number, size: number, out: Uint8Array): void {
  const { first, weights } = tapsFor(side, size);
  const narrow = new Float32Array(side * size * 3);
  for (let x = 0; x < size; x++) {
    const taps = weights[x] ?? narrow;
    for (let y = 0; y < side; y++) {
      let at = (y * side + (first[x] ?? 0)) * 3;
      let [r, g, b] = [0, 0, 0];
      for (let k = 0; k < taps.length; k++, at += 3) {
        const weight = taps[k] ?? 0;
        r += (pixels[at] ?? 0) * weight;
        g += (pixels[at + 1] ?? 0) * weight;
        b += (pixels[at + 2] ?? 0) * weight;
      }
      const to = (y * size + x) * 3;
      narrow[to] = r;
      narrow[to + 1] = g;
      narrow[to + 2] = b;
    }
  }
  const width = size * 3;
  const row = new Float32Array(width);
  for (let y = 0; y < size; y++) {
    const taps = weights[y] ?? row;
    row.fill(0.5); // rounds to nearest
    for (let k = 0; k < taps.length; k++) {
      const weight = taps[k] ?? 0;
      const from = ((first[y] ?? 0) + k) * width;
      for (let i = 0; i < width; i++) row[i] = (row[i] ?? 0) + (narrow[from + i] ?? 0) * weight;
    }
    out.set(row, y * width);
  }
}

function open(bytes: Uint8Array): { image: Transformer; width: number; height: number; colour: number } {
  try {
    const image = new Transformer(bytes);
    const { width, height, colorType } = image.metadataSync();
    return { image, width, height, colour: colorType };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(
      reason.includes('format could not be determined')
        ? 'expected JPEG, PNG, WebP, PGM, PPM or BMP, found none of these'
        : reason,
      { cause: error },
    );
  }
}

/** The orientation in a JPEG's EXIF data, 1 (as it is stored) to 8; 1 where there is none that can be read. */
function orientationOf(image: Transformer): number {
  try {
    const { orientation = 1 } = image.metadataSync(true);
    return orientation >= 1 && orientation <= 8 ? orientation : 1;
  } catch {
    return 1;
  }
}

/**
 * An image as it is, RGB [height, width, 3]; throws an Error with the reason when it cannot be decoded.
 * @param upright applies the orientation in a JPEG's EXIF data
 */
export function decodePixels(
  bytes: Uint8Array,
  upright = false,
): { width: number; height: number; pixels: Uint8Array } {
  const { image, colour: type, ...stored } = open(bytes);
  const orientation = upright ? orientationOf(image) : 1;
  if (orientation > 1) image.rotate(orientation);
  // From the fifth on, rows become columns.
  const [width, height] = orientation > 4 ? [stored.height, stored.width] : [stored.width, stored.height];
  const channels = channelsOf[type];
  if (channels === undefined) throw new Error('images of floating-point pixels are not supported');
  const most = mostPixels(bytes.length);
  if (width * height > most)
    throw new Error(`expected at most ${most} pixels in ${bytes.length} bytes, found ${width} x ${height}`);
  const raw = image.rawPixelsSync();
  const wide = type >= 4;
  const stride = channels * (wide ? 2 : 1);
  if (width === 0 || height === 0 || raw.length !== width * height * stride)
    throw new Error(`expected ${width} x ${height} pixels of ${stride} bytes, got ${raw.length} bytes`);
  if (channels === 3 && !wide) return { width, height, pixels: raw };
  const pixels = new Uint8Array(width * height * 3);
  // The upper byte of a little-endian 16-bit value is its second one.
  const step = channels < 3 ? 0 : wide ? 2 : 1;
  for (let from = wide ? 1 : 0, to = 0; to < pixels.length; from += stride, to += 3)
    for (let c = 0; c < 3; c++) pixels[to + c] = raw[from + c * step] ?? 0;
  return { width, height, pixels };
}

/** Side in pixels of the centred square of an image, as decoded. */
export function readSize(bytes: Uint8Array): number {
  const { width, height } = open(bytes);
  return Math.min(width, height);
}

/** Writes the image in `bytes` to `out` [size, size, 3]; throws an Error with the reason when it cannot be decoded. */
export function decodeImage(bytes: Uint8Array, size: number, out: Uint8Array): void {
  const { width, height, pixels } = decodePixels(bytes);
  if (width === size && height === size) return out.set(pixels);
  const side = Math.min(width, height);
  const left = (width - side) >> 1;
  const top = (height - side) >> 1;
  const square = side === size ? out : new Uint8Array(side * side * 3);
  for (let y = 0; y < side; y++) {
    const from = ((top + y) * width + left) * 3;
    square.set(pixels.subarray(from, from + side * 3), y * side * 3);
  }
  if (side !== size) resizeSquare(square, side, size, out);
}

/** A fault that needs no decoding to be seen, and that the decoder may let pass: an empty file, a JPEG whose end is missing. Null for none. */
export function cutOff(bytes: Buffer): string | null {
  if (bytes.length === 0) return 'the file is empty';
  if (bytes.length > 3 && bytes[0] === 0xff && bytes[1] === 0xd8) {
    // The end marker must come after the last scan; a thumbnail inside has one of its own before that.
    const end = bytes.lastIndexOf('ffd9', undefined, 'hex');
    if (end < 0 || end < bytes.lastIndexOf('ffda', undefined, 'hex'))
      return 'the JPEG is truncated: its end is missing';
  }
  return null;
}

/** Why the file cannot be used, or null. */
export function imageFault(bytes: Buffer): string | null {
  const fault = cutOff(bytes);
  if (fault !== null) return fault;
  try {
    decodeImage(bytes, 1, new Uint8Array(3));
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
