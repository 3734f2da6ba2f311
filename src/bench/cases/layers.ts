// The layers whose shapes are timed: what is alike in their cases. Images are [batch, side, side, channels] (NHWC).

/** Activations: the first of IResNet-100's stages, then those of MobileFaceNet's first blocks. */
export const activations: readonly { side: number; channels: number }[] = [
  { side: 56, channels: 64 },
  { side: 112, channels: 64 },
  { side: 28, channels: 128 },
  { side: 14, channels: 256 },
  { side: 7, channels: 512 },
  { side: 28, channels: 64 },
  { side: 14, channels: 512 },
];
