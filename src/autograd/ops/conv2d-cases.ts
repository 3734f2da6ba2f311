/** The convolutions that the tests of conv2d go through, and their formula. */
import type { ConvolutionOptions } from './conv2d.js';

export interface Case extends ConvolutionOptions {
  x: [number, number, number, number];
  out: number;
  kernel: [number, number];
  /** The CPU multiplies transformed tiles (Winograd) in place of pixels. */
  transformed?: true;
}

/** Small enough for the emulated device. */
export const cases: Record<string, Case> = {
  'one pixel, one channel': { x: [1, 1, 1, 1], out: 1, kernel: [1, 1] },
  'odd sizes': { x: [2, 7, 5, 5], out: 7, kernel: [3, 3], padding: 1 },
  'no padding, a wide window': { x: [1, 5, 6, 3], out: 9, kernel: [2, 3] },
  'stride 2': { x: [2, 7, 6, 4], out: 6, kernel: [3, 3], stride: 2, padding: 1 },
  'stride 3, padding 2': { x: [1, 8, 8, 2], out: 3, kernel: [3, 3], stride: 3, padding: 2 },
  'few channels, one column wide, stride 2': { x: [2, 9, 7, 3], out: 5, kernel: [3, 1], stride: 2 },
  '1x1': { x: [3, 3, 3, 17], out: 18, kernel: [1, 1] },
  '1x1 stride 2': { x: [2, 5, 5, 9], out: 8, kernel: [1, 1], stride: 2 },
  '1x1 stride 2, few channels': { x: [2, 5, 4, 3], out: 4, kernel: [1, 1], stride: 2 },
  '1x1 stride 2, one channel': { x: [2, 5, 4, 1], out: 4, kernel: [1, 1], stride: 2 },
  'first layer': { x: [2, 9, 8, 3], out: 16, kernel: [3, 3], padding: 1 },
  'few channels, a wide window': { x: [2, 9, 8, 7], out: 16, kernel: [5, 5], padding: 2 },
  'full lanes': { x: [1, 4, 5, 32], out: 32, kernel: [3, 3], padding: 1 },
  'two groups': { x: [2, 5, 4, 6], out: 10, kernel: [3, 3], padding: 1, groups: 2 },
  'grouped, one channel in': { x: [1, 4, 4, 3], out: 6, kernel: [3, 3], padding: 1, groups: 3 },
  'depthwise 3x3': { x: [2, 6, 5, 19], out: 19, kernel: [3, 3], padding: 1, groups: 19 },
  'depthwise 3x3 stride 2': { x: [2, 7, 6, 16], out: 16, kernel: [3, 3], stride: 2, padding: 1, groups: 16 },
  'depthwise 3x3, one column': { x: [2, 5, 1, 40], out: 40, kernel: [3, 3], padding: 1, groups: 40 },
  'depthwise 3x3, no padding': { x: [2, 4, 3, 17], out: 17, kernel: [3, 3], groups: 17 },
  'depthwise 3x3, padding 2': { x: [1, 3, 2, 33], out: 33, kernel: [3, 3], padding: 2, groups: 33 },
  'depthwise 3x3, padding 3': { x: [1, 3, 4, 16], out: 16, kernel: [3, 3], padding: 3, groups: 16 },
  'depthwise 5x3, many channels': { x: [2, 6, 5, 72], out: 72, kernel: [5, 3], padding: 2, groups: 72 },
  // Several chunks of CUDA's kernels for channels in packs, and threads without channels.
  'depthwise 3x3, packs': { x: [2, 12, 13, 136], out: 136, kernel: [3, 3], padding: 1, groups: 136 },
  'depthwise 3x3, packs, no padding': { x: [1, 6, 9, 24], out: 24, kernel: [3, 3], groups: 24 },
  'depthwise 3x3, packs, stride 2': {
    x: [3, 23, 10, 136],
    out: 136,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
    groups: 136,
  },
  'depthwise 3x3, packs, stride 2, padding 2': {
    x: [1, 6, 7, 24],
    out: 24,
    kernel: [3, 3],
    stride: 2,
    padding: 2,
    groups: 24,
  },
  'depthwise 3x3 stride 2, one column': {
    x: [2, 4, 1, 40],
    out: 40,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
    groups: 40,
  },
  'depthwise 3x3 stride 2, no padding': { x: [1, 6, 5, 17], out: 17, kernel: [3, 3], stride: 2, groups: 17 },
  'depthwise 3x3 stride 2, padding 2': {
    x: [1, 6, 7, 19],
    out: 19,
    kernel: [3, 3],
    stride: 2,
    padding: 2,
    groups: 19,
  },
  'depthwise 3x3 stride 3': { x: [1, 7, 8, 18], out: 18, kernel: [3, 3], stride: 3, padding: 1, groups: 18 },
  'depthwise 5x5 stride 2': { x: [1, 8, 7, 17], out: 17, kernel: [5, 5], stride: 2, padding: 2, groups: 17 },
  'depthwise 7x7 global': { x: [3, 7, 7, 10], out: 10, kernel: [7, 7], groups: 10 },
  // Output channels in packs of 8: bfloat16 takes the matrix units of CUDA; input channels in packs as well, or gathered.
  'packs, odd sizes': { x: [2, 9, 8, 8], out: 24, kernel: [3, 3], padding: 1 },
  'packs, stride 2': { x: [3, 9, 7, 16], out: 8, kernel: [3, 3], stride: 2, padding: 1 },
  'packs, stride wider than the window': { x: [1, 8, 9, 8], out: 8, kernel: [2, 1], stride: 3 },
  'packs, several tiles': { x: [1, 12, 13, 72], out: 136, kernel: [1, 1] },
  'packs in groups': { x: [2, 6, 5, 32], out: 48, kernel: [3, 3], padding: 1, groups: 2 },
  'packs in groups, stride 2': {
    x: [1, 7, 6, 24],
    out: 24,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
    groups: 3,
  },
  // More than one tile of 256 pixels by 128 channels, and of the inner dimension, in which the ring of four stages goes round.
  'packs, several wide tiles': { x: [2, 11, 13, 136], out: 72, kernel: [1, 1] },
  'packs, several wide tiles, stride 2': {
    x: [1, 13, 12, 40],
    out: 136,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
  },
  'packs, channels in several chunks': { x: [1, 5, 6, 128], out: 136, kernel: [3, 3], padding: 1 },
  'packs, channels in several chunks, stride 2': {
    x: [1, 7, 6, 128],
    out: 192,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
  },
  // On Hopper forward and dx of these go by windows (conv_windows.h), in tiles of 256 or 128 positions.
  'windows, a tile across images': { x: [2, 13, 11, 64], out: 128, kernel: [3, 3], padding: 1 },
  'windows, channels beside the tiles': { x: [1, 9, 10, 192], out: 72, kernel: [3, 3], padding: 1 },
  'windows, no padding': { x: [1, 18, 17, 64], out: 64, kernel: [3, 3] },
  'windows, dx with channels beside the tiles': { x: [1, 9, 10, 136], out: 64, kernel: [3, 3], padding: 1 },
  // As many channels, but not by windows.
  'windows, none for groups': { x: [1, 9, 10, 64], out: 64, kernel: [3, 3], padding: 1, groups: 2 },
  'windows, none for stride 3': { x: [1, 10, 8, 64], out: 64, kernel: [3, 3], stride: 3, padding: 1 },
  'windows, none beside the packs': { x: [1, 6, 6, 60], out: 64, kernel: [3, 3], padding: 1 },
  // With TURL_CUDA_NOT_TIMED (matrix-units.test.ts) forward and dx of these go by windows too.
  'windows, 1x1': { x: [2, 11, 13, 64], out: 128, kernel: [1, 1] },
  'windows of phases': { x: [2, 14, 13, 64], out: 128, kernel: [3, 3], stride: 2, padding: 1 },
  'windows of phases, one tap': { x: [1, 19, 22, 64], out: 64, kernel: [1, 1], stride: 2 },
  'packs, one pixel': { x: [1, 1, 1, 8], out: 8, kernel: [1, 1] },
  'packs, more padding than window': { x: [1, 3, 4, 8], out: 16, kernel: [2, 3], padding: 4 },
  'packs in only': { x: [1, 5, 4, 16], out: 12, kernel: [3, 3], padding: 1 },
  'packs out only, stride 2': { x: [2, 7, 6, 5], out: 8, kernel: [3, 3], stride: 2, padding: 1 },
  'packs out only, in groups': { x: [1, 6, 5, 6], out: 16, kernel: [3, 2], padding: 1, groups: 2 },
  'packs, no images': { x: [0, 4, 4, 8], out: 16, kernel: [3, 3], padding: 1 },
  'no images': { x: [0, 4, 4, 3], out: 5, kernel: [3, 3], padding: 1 },
};

/** Few channels and so many pixels that on CUDA what sums over them makes several steps (conv_image.h, of 16 pixels). */
export const images: Record<string, Case> = {
  image: { x: [2, 28, 30, 3], out: 72, kernel: [3, 3], padding: 1 },
  'image, stride 2': { x: [1, 57, 59, 3], out: 16, kernel: [3, 3], stride: 2, padding: 1 },
  'image, one channel, 5x5': { x: [3, 19, 21, 1], out: 8, kernel: [5, 5], padding: 4 },
  // The weight's gradient in parts of two steps of 64 pixels, the last of one.
  'packs, many pixels': { x: [1, 91, 93, 40], out: 8, kernel: [1, 1] },
  'depthwise 7x7, many pixels': { x: [1, 27, 28, 3], out: 3, kernel: [7, 7], padding: 3, groups: 3 },
};

/** Larger than the tiles and blocks of the fast kernels. */
export const large: Record<string, Case> = {
  '28x28x40 -> 50': { x: [3, 28, 28, 40], out: 50, kernel: [3, 3], padding: 1, transformed: true },
  '28x28x40 -> 50, 3x2': { x: [3, 28, 28, 40], out: 50, kernel: [3, 2], padding: 1 },
  '29x27x33 -> 35 stride 2': { x: [3, 29, 27, 33], out: 35, kernel: [3, 3], stride: 2, padding: 1 },
  '30x30x64 -> 136': { x: [2, 30, 30, 64], out: 136, kernel: [3, 3], padding: 1, transformed: true },
  '7x7x130 -> 70': { x: [9, 7, 7, 130], out: 70, kernel: [3, 3], padding: 1, transformed: true },
  '7x7x130 -> 70, one image': { x: [1, 7, 7, 130], out: 70, kernel: [3, 3], padding: 1 },
  '14x14x64 -> 40, 1x1': { x: [3, 14, 14, 64], out: 40, kernel: [1, 1] },
  '30x30x3 -> 24': { x: [4, 30, 30, 3], out: 24, kernel: [3, 3], padding: 1 },
  '20x20x48 depthwise': { x: [4, 20, 20, 48], out: 48, kernel: [3, 3], padding: 1, groups: 48 },
  // Large results, written past the caches.
  '64x65x512 depthwise': { x: [1, 64, 65, 512], out: 512, kernel: [3, 3], padding: 1, groups: 512 },
  '64x65x512 depthwise, stride 2': {
    x: [1, 64, 65, 512],
    out: 512,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
    groups: 512,
  },
  // 3x3 with stride 1 and enough pixels goes through Winograd's transforms on the CPU: tiles of 4x4, the last ones not filled.
  'tiles, 56x56x20 -> 12': { x: [2, 56, 56, 20], out: 12, kernel: [3, 3], padding: 1, transformed: true },
  'tiles, odd height, one image': {
    x: [1, 23, 30, 24],
    out: 36,
    kernel: [3, 3],
    padding: 1,
    transformed: true,
  },
  'tiles, channels beside the lanes': {
    x: [5, 11, 12, 37],
    out: 43,
    kernel: [3, 3],
    padding: 1,
    transformed: true,
  },
  'tiles, whole tiles without padding': { x: [2, 18, 22, 32], out: 33, kernel: [3, 3], transformed: true },
  'tiles, 1 and 2 pixels of the last': {
    x: [6, 9, 14, 40],
    out: 36,
    kernel: [3, 3],
    padding: 1,
    transformed: true,
  },
  'tiles, 5x5': { x: [24, 5, 5, 48], out: 40, kernel: [3, 3], padding: 1, transformed: true },
  // So many that the weight's gradient goes part by part, a last part of less than 48 tiles among them.
  'tiles, many': { x: [3, 113, 116, 20], out: 12, kernel: [3, 3], padding: 1, transformed: true },
  'tiles, wide padding': { x: [3, 20, 17, 33], out: 32, kernel: [3, 3], padding: 3, transformed: true },
  'tiles, one row of tiles': { x: [2, 3, 61, 48], out: 40, kernel: [3, 3], padding: 1, transformed: true },
  '12x12x48 -> 72 in 3 groups': { x: [2, 12, 12, 48], out: 72, kernel: [3, 3], padding: 1, groups: 3 },
};

/** The shape of y, and every product of the sums behind y, dx and dweight. */
export function naive({ x: [batch, height, width, channels], out, kernel: [kh, kw], ...options }: Case) {
  const { stride = 1, padding = 0, groups = 1 } = options;
  const [ho, wo] = [
    Math.floor((height + 2 * padding - kh) / stride) + 1,
    Math.floor((width + 2 * padding - kw) / stride) + 1,
  ];
  const [cg, og] = [channels / groups, out / groups];
  /** Calls visit(index in y, index in x, index in weight) for every product of the sum. */
  const each = (visit: (y: number, x: number, w: number) => void) => {
    for (let b = 0; b < batch; b++)
      for (let i = 0; i < ho; i++)
        for (let j = 0; j < wo; j++)
          for (let u = 0; u < kh; u++)
            for (let v = 0; v < kw; v++) {
              const [iy, ix] = [i * stride + u - padding, j * stride + v - padding];
              if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
              const xAt = ((b * height + iy) * width + ix) * channels;
              const yAt = ((b * ho + i) * wo + j) * out;
              for (let o = 0; o < out; o++)
                for (let c = 0; c < cg; c++)
                  visit(yAt + o, xAt + Math.floor(o / og) * cg + c, ((o * kh + u) * kw + v) * cg + c);
            }
  };
  return { shape: [batch, ho, wo, out], each };
}
